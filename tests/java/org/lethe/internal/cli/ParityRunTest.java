package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The quirks of published code through the command line, with the keys of docs/parity.md. */
class ParityRunTest {
  @Test
  void closerLooksRunTakesItsKeys(@TempDir Path root) throws IOException {
    TinyRuns runs = new TinyRuns(root);
    run(runs.finetune("tuned", "train.steps=1"));
    String[] quirks = {
      "method.forget_options.positions=all",
      "method.forget_coefficient=0.1",
      "data.pairing=closer_look",
      "data.context_length=100",
      "parity.padding=closer_look",
      "parity.padded_length=100",
      "parity.micro_batch_rows=2",
      "train.max_gradient_norm=0"
    };
    run(runs.unlearn("quirks", "ME_EPSILON+GD", quirks));
    run(runs.unlearn("plain", "ME_EPSILON+GD", "data.pairing=closer_look"));
    double padded = firstLoss(runs.resolve("quirks/metrics.jsonl"));
    double plain = firstLoss(runs.resolve("plain/metrics.jsonl"));
    assertTrue(Double.isFinite(padded) && padded > 0);
    assertNotEquals(plain, padded, 1e-6);

    TestConsole console = new TestConsole(false);
    String[] unsaid = runs.unlearn("unsaid", "ME+GD", "parity.padding=closer_look");
    assertEquals(2, Main.run(console.console(), unsaid));
    assertTrue(console.err().contains("parity"), console.err());
    assertTrue(console.err().contains("padded_length 0"), console.err());
  }

  private static void run(String... args) {
    TestConsole console = new TestConsole(false);
    assertEquals(0, Main.run(console.console(), args), console.err());
  }

  private static double firstLoss(Path metrics) throws IOException {
    return new ObjectMapper().readTree(Files.readAllLines(metrics).get(0)).get("loss").asDouble();
  }
}
