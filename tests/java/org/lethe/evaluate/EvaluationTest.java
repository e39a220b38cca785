package org.lethe.evaluate;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.data.Example;
import org.lethe.data.TokenSequence;
import org.lethe.metric.AnswerTokens;
import org.lethe.metric.Definitions;
import org.lethe.metric.Observation;

class EvaluationTest {
  @TempDir private Path directory;

  private static SetObservations set(String name, double... nlls) {
    List<Example> examples = new ArrayList<>();
    List<TokenSequence> answers = new ArrayList<>();
    List<Observation> observations = new ArrayList<>();
    for (double nll : nlls) {
      examples.add(new Example("q", "a", List.of(), List.of("b"), "f:1"));
      answers.add(new TokenSequence(new int[] {1, 2}, 1));
      observations.add(
          new Observation(
              nll,
              List.of(nll),
              List.of(2.0),
              tokens(nll),
              "the answer",
              "the answer",
              List.of(3, 4)));
    }
    return new SetObservations(name, examples, answers, observations);
  }

  private static AnswerTokens tokens(double nll) {
    return new AnswerTokens(
        new double[] {-nll, -1},
        new boolean[] {nll < 1, true},
        new double[] {-1, -1},
        new double[] {1, 1},
        true);
  }

  private static Evaluation evaluation(SetObservations... sets) {
    return Evaluation.of(List.of(sets), Scoring.of(t -> false));
  }

  @Test
  void everyDigitSurvivesTheFile() throws IOException {
    Evaluation evaluation =
        new Evaluation(
            Map.of("forget", Map.of("probability", 0.1 + 0.2, "odd", Double.NaN)),
            Double.NaN,
            Map.of("min_k", 0.1 + 0.7),
            List.of(1.0 / 3, Double.POSITIVE_INFINITY),
            Map.of("forget", List.of(0.1 + 0.2)));
    Path file = directory.resolve("evaluation.json");
    Files.writeString(file, evaluation.json());
    assertEquals(evaluation, Evaluation.read(file));
  }

  @Test
  void theUtilityIsTheHarmonicMeanOfWhatIsKept() {
    Evaluation evaluation = evaluation(set("forget", 9), set("retain", 0.5), set("general", 1));
    double sum = 0;
    for (String set : List.of("retain", "general")) {
      for (String metric : List.of("probability", "rouge_l_recall", "truth_ratio")) {
        sum += 1 / evaluation.score(set, metric);
      }
    }
    assertEquals(6 / sum, evaluation.utility(), 1e-15);
    assertEquals(StrictMath.exp(-0.5), evaluation.score("retain", "probability"), 1e-15);
    assertEquals(1, evaluation.forgetTruthRatios().size());
    assertTrue(Double.isNaN(evaluation.score("retain", "truth_ratio_forget")));
    assertTrue(Double.isNaN(evaluation.score("holdout", "probability")));
  }

  @Test
  void aModelIsAsGoodAsItselfAndUnlikeAnother() {
    Evaluation a = evaluation(set("forget", 1, 1.1, 1.2, 1.3));
    Evaluation b = evaluation(set("forget", 5, 5.1, 5.2, 5.3));
    assertEquals(1, a.forgetQuality(a));
    assertTrue(a.forgetQuality(b) < 0.05);
    Evaluation without = evaluation(set("retain", 1));
    assertTrue(Double.isNaN(a.forgetQuality(without)));
    assertEquals(Set.of("retain"), without.sets().keySet());
  }

  @Test
  void attacksCompareForgetWithHoldout() {
    Evaluation told = evaluation(set("forget", 0.1, 0.2, 3), set("holdout", 2, 2.5, 3));
    // Of 9 pairs the forget row is the likelier one in 6, and as likely in one.
    double area = (2 * 3 + 0.5) / 9;
    assertEquals(area, told.membership().get("loss"), 1e-15);
    assertEquals(area, told.byName().get("membership.min_k"), 1e-15);
    assertEquals(Set.of("loss", "zlib", "min_k", "min_k_plus_plus"), told.membership().keySet());
    assertTrue(evaluation(set("forget", 1)).membership().isEmpty());

    Evaluation never = evaluation(set("forget", 2, 2.5, 3), set("holdout", 2, 2.5, 3));
    assertEquals(0.5, never.membership().get("min_k"));
    Map<String, Double> scores = told.against(never, Definitions.LETHE);
    assertEquals((0.5 - area) / 0.5 * 100, scores.get("privacy_leakage"), 1e-12);
    assertEquals((area - 0.5) / 0.5 * 100, scores.get("mia_relative_difference"), 1e-12);
    // nll minus the other's: -1.9, -2.3, 0 against 0, 0, 0.
    assertEquals((6 + 1.5) / 9, scores.get("membership.reference"), 1e-15);
    assertEquals(told.forgetQuality(never), scores.get("forget_quality"));

    Evaluation shorter = evaluation(set("forget", 2, 2.5), set("holdout", 2));
    UserException e =
        assertThrows(UserException.class, () -> told.against(shorter, Definitions.LETHE));
    assertTrue(e.getMessage().contains("3 rows here and 2"), e.getMessage());
  }

  @Test
  void whatIsNoEvaluationIsRefused() throws IOException {
    Path file = directory.resolve("bad.json");
    for (String text : List.of("", "{", "[]", "{\"sets\": {}}", "7")) {
      Files.writeString(file, text);
      UserException e = assertThrows(UserException.class, () -> Evaluation.read(file), text);
      assertTrue(e.getMessage().startsWith(file + ": "), e.getMessage());
    }
  }
}
