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
          new Observation(nll, nll, List.of(2.0), "the answer", "the answer", List.of(3, 4)));
    }
    return new SetObservations(name, examples, answers, observations);
  }

  @Test
  void everyDigitSurvivesTheFile() throws IOException {
    Evaluation evaluation =
        new Evaluation(
            Map.of("forget", Map.of("probability", 0.1 + 0.2, "odd", Double.NaN)),
            Double.NaN,
            List.of(1.0 / 3, Double.POSITIVE_INFINITY));
    Path file = directory.resolve("evaluation.json");
    Files.writeString(file, evaluation.json());
    assertEquals(evaluation, Evaluation.read(file));
  }

  @Test
  void theUtilityIsTheHarmonicMeanOfWhatIsKept() {
    Evaluation evaluation =
        Evaluation.of(List.of(set("forget", 9), set("retain", 0.5), set("general", 1)), t -> false);
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
    Evaluation a = Evaluation.of(List.of(set("forget", 1, 1.1, 1.2, 1.3)), t -> false);
    Evaluation b = Evaluation.of(List.of(set("forget", 5, 5.1, 5.2, 5.3)), t -> false);
    assertEquals(1, a.forgetQuality(a));
    assertTrue(a.forgetQuality(b) < 0.05);
    Evaluation without = Evaluation.of(List.of(set("retain", 1)), t -> false);
    assertTrue(Double.isNaN(a.forgetQuality(without)));
    assertEquals(Set.of("retain"), without.sets().keySet());
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
