package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code quantize_base} through the command line. */
class QuantizedBaseRunTest {
  private static final String NF4 = "quantize_base=nf4_double";

  @TempDir static Path dir;
  private static TinyRuns runs;

  @BeforeAll
  static void tune() {
    runs = new TinyRuns(dir).fineTuned();
  }

  private static TestConsole run(int expected, String... arguments) {
    TestConsole console = new TestConsole(false);
    assertEquals(expected, Main.run(console.console(), arguments), console.err());
    return console;
  }

  private static Map<String, String> adapter(String output) {
    return TinyRuns.contents(runs.resolve(output).resolve("adapter"));
  }

  /** The weights that the codes mean, in a directory of their own. */
  private static Path dequantised() {
    Path small = runs.resolve("small");
    Path plain = runs.resolve("plain");
    if (!Files.exists(plain)) {
      run(0, "export", "model=" + runs.model(), "output=" + small, "--quantize", "nf4_double");
      run(0, "export", "model=" + small, "output=" + plain);
    }
    return plain;
  }

  @Test
  void aRunGivesTheBitsOfOneOnTheDequantisedModel() {
    run(0, runs.unlearn("in-codes", "NPO+KL", NF4));
    run(0, runs.unlearn("dequantised", "NPO+KL", "model=" + dequantised()));
    String weights = "adapter_model.safetensors";
    assertEquals(adapter("dequantised").get(weights), adapter("in-codes").get(weights));
  }

  @Test
  void itIsJudgedAsTheDequantisedModelIs() {
    Map<String, String> judged = new TreeMap<>();
    for (String model : new String[] {"in-codes", "dequantised"}) {
      String path = model.equals("in-codes") ? runs.model().toString() : dequantised().toString();
      String output = "judged-" + model;
      String storage = model.equals("in-codes") ? NF4 : "quantize_base=none";
      run(0, runs.evaluate(output, "model=" + path, storage));
      judged.put(model, TinyRuns.contents(runs.resolve(output)).get("evaluation.json"));
    }
    assertEquals(judged.get("dequantised"), judged.get("in-codes"));
  }

  @Test
  void aRunThatStoppedGoesOnToTheSameBits() throws IOException {
    String[] steps = {NF4, "checkpoint.every=1 step", "checkpoint.keep=9"};
    run(0, runs.unlearn("stops", "ME+GD", steps));
    Map<String, String> whole = adapter("stops");
    Path out = runs.resolve("stops");
    for (String made : new String[] {"adapter", "evaluation", "report.md", "report.html"}) {
      TinyRuns.delete(out.resolve(made));
    }
    for (int later = 3; later <= 4; later++) {
      TinyRuns.delete(out.resolve(String.format("checkpoints/step-%09d", later)));
    }
    assertTrue(run(0, "resume", out.toString()).err().contains("goes on after step 2"));
    assertEquals(whole, adapter("stops"));
  }

  @Test
  void aReferenceOfAnotherBaseIsNotTaken() {
    String cache = "method.reference_cache=" + runs.resolve("cache");
    run(0, runs.unlearn("first", "NPO+GD", cache));
    run(0, runs.unlearn("second", "NPO+GD", cache, NF4));
    run(0, runs.unlearn("alone", "NPO+GD", NF4));
    assertEquals(adapter("alone"), adapter("second"));
    String weights = "adapter_model.safetensors";
    assertNotEquals(adapter("first").get(weights), adapter("second").get(weights));
    // Both name the weights that they were made of, which is what an adapter is held to.
    String mark = "lethe_base.json";
    assertEquals(adapter("first").get(mark), adapter("second").get(mark));
  }

  @Test
  void generateAnswersFromCodes() {
    String[] question = {"Who?", "--max-new-tokens", "12", "--threads", "1"};
    String[] codes = {
      "generate", "--model", runs.model().toString(), "--quantize-base", "nf4_double"
    };
    String[] plain = {"generate", "--model", dequantised().toString()};
    assertEquals(run(0, join(plain, question)).out(), run(0, join(codes, question)).out());
    String[] unknown = {"generate", "--model", runs.model().toString(), "--quantize-base", "nf3"};
    String refusal = run(2, join(unknown, question)).err();
    assertTrue(refusal.contains("nf3") && refusal.contains("nf4_double"), refusal);
  }

  private static String[] join(String[] first, String[] second) {
    String[] all = Arrays.copyOf(first, first.length + second.length);
    System.arraycopy(second, 0, all, first.length, second.length);
    return all;
  }

  @Test
  void whatTrainsAllWeightsIsRefusedBeforeAnythingIsWritten() {
    String all = "train.full_parameters=true";
    for (String[] arguments :
        List.of(runs.unlearn("refused", "ME+GD", NF4, all), runs.finetune("refused", NF4))) {
      String refusal = run(2, arguments).err();
      assertTrue(refusal.contains("quantize_base is nf4_double"), refusal);
      assertTrue(refusal.contains("quantize_base=none"), refusal);
    }
    assertFalse(Files.exists(runs.resolve("refused")));
  }

  @Test
  void aLaterPhaseThatTrainsAllWeightsIsFoundBeforeTheFirst() throws IOException {
    Path file = runs.resolve("later.yaml");
    Files.write(
        file,
        List.of(
            "model: " + runs.model(),
            "output: " + runs.resolve("later"),
            "quantize_base: nf4",
            "data: {forget: [" + runs.data("forget") + "], retain: [" + runs.data("retain") + "]}",
            "method: {forget: ME, retain: GD}",
            "phases:",
            "  - {task: unlearn}",
            "  - {task: unlearn, train: {full_parameters: true}}"));
    String refusal = run(2, "run", "--config", file.toString()).err();
    assertTrue(refusal.contains("train.full_parameters is true"), refusal);
    String found = run(2, "validate", file.toString()).out();
    assertTrue(found.contains("phases[1].quantize_base"), found);
    assertFalse(found.contains("phases[0]"), found);
    assertFalse(Files.exists(runs.resolve("later")));
  }

  @Test
  void anAdapterIsNotMergedIntoABaseThatIsQuantisedAnew() throws IOException {
    Path file = runs.resolve("phases.yaml");
    Files.write(
        file,
        List.of(
            "model: " + runs.model(),
            "output: " + runs.resolve("phases"),
            "threads: 1",
            "quantize_base: nf4",
            "data: {forget: [" + runs.data("forget") + "], retain: [" + runs.data("retain") + "]}",
            "evaluate: {max_new_tokens: 4, rows: 2}",
            "train: {steps: 2, batch_size: 3}",
            "lora: {rank: 2}",
            "method: {forget: NPO, retain: KL}",
            "phases:",
            "  - {task: unlearn}",
            "  - {task: unlearn, reference: moving}"));
    run(0, "run", "--config", file.toString());
    Path second = runs.resolve("phases/02-unlearn");
    assertFalse(Files.exists(second.resolveSibling("02-unlearn-base")));
    // What the first phase trained lies below the second's adapter, and in their sum.
    assertTrue(Files.isDirectory(second.resolve("combined")));
    assertTrue(Files.readString(second.resolve("config.yaml")).contains("quantize_base: nf4"));
  }
}
