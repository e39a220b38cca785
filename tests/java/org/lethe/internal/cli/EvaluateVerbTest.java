package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.data.corpus.Corpus;

/** Metrics of tokens and of membership, from a model through the command line. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class EvaluateVerbTest {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final List<String> ATTACKS = List.of("loss", "zlib", "min_k", "min_k_plus_plus");

  private TinyRuns runs;
  private Path never;

  @BeforeAll
  void prepare(@TempDir Path root) {
    runs = new TinyRuns(root).fineTuned();
    Corpus.writeRows(runs.data("holdout"), Corpus.generate(2, 3).forget(0.3).subList(0, 6));
    run(runs.finetune("untaught", "train.steps=1"));
    run(judged("never", "model=" + runs.resolve("untaught/model")));
    never = runs.resolve("never/evaluation.json");
  }

  /** Nothing that is to be kept was asked for. */
  @Test
  void utilityOfTheForgetSetAloneIsNotANumber() {
    String out = run(judged("alone", "data.retain=[]", "data.general=[]"));
    assertTrue(out.contains("model utility not known") && !out.contains("NaN"), out);
  }

  private String[] judged(String output, String... more) {
    List<String> all = new ArrayList<>(List.of(runs.evaluate(output, more)));
    all.add("data.holdout=[" + runs.data("holdout") + "]");
    return all.toArray(String[]::new);
  }

  private static String run(String... args) {
    TestConsole console = new TestConsole(false);
    assertEquals(0, Main.run(console.console(), args), console.err());
    return console.out();
  }

  @Test
  void oneEvaluationGivesThemAll() throws IOException {
    String out = run(judged("lethe", "evaluate.never_saw=" + never, "--json"));
    JsonNode facts = JSON.readTree(out);
    JsonNode forget = facts.path("sets").path("forget");
    for (String metric : List.of("rouge_1_recall", "extraction_strength", "exact_memorization")) {
      double score = forget.path(metric).asDouble(-1);
      assertTrue(score >= 0 && score <= 1, metric + " " + score);
    }
    for (String attack : ATTACKS) {
      // The model was taught the forget rows and never saw the others, of another seed.
      double area = facts.path("membership").path(attack).asDouble();
      assertTrue(area > 0.7 && area <= 1, attack + " " + area);
    }
    assertTrue(facts.path("membership.reference").asDouble() > 0.8, out);
    assertTrue(facts.path("privacy_leakage").asDouble() < -50, out);
    assertTrue(facts.path("mia_relative_difference").asDouble() > 50, out);
    assertTrue(facts.has("forget_quality"), out);
    JsonNode row =
        JSON.readTree(Files.readAllLines(runs.resolve("lethe/evaluation-rows.jsonl")).get(0));
    assertTrue(row.path("mia_zlib").asDouble() > 0, row.toString());
    assertTrue(row.path("exact_memorization").isNumber(), row.toString());
  }

  @Test
  void publishedDefinitionsHaveTheirQuirks() throws IOException {
    run(judged("clean"));
    run(judged("quirks", "evaluate.definitions=open_unlearning"));
    List<String> clean = Files.readAllLines(runs.resolve("clean/evaluation-rows.jsonl"));
    List<String> quirks = Files.readAllLines(runs.resolve("quirks/evaluation-rows.jsonl"));
    int floored = 0;
    for (int i = 0; i < clean.size(); i++) {
      JsonNode ours = JSON.readTree(clean.get(i));
      JsonNode theirs = JSON.readTree(quirks.get(i));
      double strength = theirs.path("extraction_strength").asDouble();
      assertTrue(strength > 0, "the least strength is 1/L: " + theirs);
      floored += ours.path("extraction_strength").asDouble() == 0 ? 1 : 0;
      double ratio = ours.path("truth_ratio").asDouble();
      double published = theirs.path("truth_ratio").asDouble();
      assertTrue(published <= ratio, published + " " + ratio);
    }
    assertTrue(floored > 0, "no row ends with a miss, so nothing was compared");
    run(judged("looked", "evaluate.definitions=closer_look"));
    JsonNode sets = JSON.readTree(runs.resolve("looked/evaluation.json").toFile()).path("sets");
    JsonNode lethes = JSON.readTree(runs.resolve("clean/evaluation.json").toFile()).path("sets");
    assertEquals(
        1 - lethes.path("forget").path("truth_ratio_forget").asDouble(),
        sets.path("forget").path("truth_ratio_forget").asDouble(),
        1e-12);
  }

  @Test
  void aShareOfTokensOutsideItsRangeIsRefused() {
    TestConsole console = new TestConsole(false);
    assertEquals(2, Main.run(console.console(), judged("bad", "evaluate.min_k=1")));
    assertTrue(console.err().contains("min_k must be above 0 and below 1"), console.err());
  }
}
