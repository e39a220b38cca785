package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.method.LossSpec;
import org.lethe.method.Methods;
import org.lethe.method.Side;

/** Every loss that needs no other model trains some steps on the demo corpus, from the verb. */
class EveryMethodRunTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  /** They compare further models, or sample: they have runs of their own. */
  private static final List<String> OTHERWISE = List.of("KGA", "WHP", "Quark");

  @TempDir static Path root;
  private static TinyRuns runs;

  /** Rows with an alternate answer and a sensitive last word besides. */
  @BeforeAll
  static void tune() throws IOException {
    runs = new TinyRuns(root).fineTuned();
    List<String> rows = new ArrayList<>();
    for (String line : Files.readAllLines(runs.data("forget"))) {
      ObjectNode row = (ObjectNode) JSON.readTree(line);
      String answer = row.get("answer").asText();
      row.put("alternate", "Nothing of the kind is known.");
      row.putArray("sensitive_spans").add(answer.substring(answer.lastIndexOf(' ') + 1));
      rows.add(row.toString());
    }
    Files.write(root.resolve("rich.jsonl"), rows);
  }

  static Stream<LossSpec> losses() {
    return Methods.all().stream().filter(spec -> !OTHERWISE.contains(spec.name()));
  }

  @ParameterizedTest
  @MethodSource("losses")
  void trains(LossSpec spec) throws IOException {
    boolean forgets = spec.side() == Side.FORGET;
    String method = forgets ? spec.name() + (spec.whole() ? "+none" : "+GD") : "GA+" + spec.name();
    TestConsole console = new TestConsole(false);
    String[] arguments =
        runs.unlearn(
            spec.name(),
            method,
            "data.forget=[" + root.resolve("rich.jsonl") + "]",
            "train.steps=3",
            "train.learning_rate=1e-3");
    assertEquals(0, Main.run(console.console(), arguments), console.err());
    List<String> steps = Files.readAllLines(runs.resolve(spec.name()).resolve("metrics.jsonl"));
    assertEquals(3, steps.size());
    for (String step : steps) {
      JsonNode report = JSON.readTree(step);
      assertTrue(Double.isFinite(report.get("loss").asDouble()), step);
      assertTrue(report.get("gradient_norm").asDouble() > 0, step);
    }
    Path adapter = runs.resolve(spec.name()).resolve("adapter/adapter_model.safetensors");
    assertTrue(Files.size(adapter) > 0);
  }

  @Test
  void helpAndSchemaListThem() {
    TestConsole help = new TestConsole(false);
    Main.run(help.console(), "unlearn", "--help");
    TestConsole schema = new TestConsole(false);
    Main.run(schema.console(), "schema");
    for (LossSpec spec : Methods.all()) {
      assertTrue(help.out().contains(spec.name()), help.out());
      assertTrue(schema.out().contains('"' + spec.name() + '"'), spec.name());
    }
  }

  @Test
  void aWrongOptionIsRefusedWithFileKeyAndRemedy() throws IOException {
    Path file = root.resolve("wrong.yaml");
    Files.writeString(file, "method:\n  forget: GA_LS\n  forget_options:\n    keep: 1.5\n");
    TestConsole console = new TestConsole(false);
    String[] arguments = runs.unlearn("wrong", "GA_LS+GD", "--config", file.toString());
    assertEquals(ExitCode.USER, Main.run(console.console(), arguments));
    for (String part :
        List.of("wrong.yaml:4", "method.forget_options.keep is 1.5", "at most 1", "0.8")) {
      assertTrue(console.err().contains(part), console.err());
    }
  }
}
