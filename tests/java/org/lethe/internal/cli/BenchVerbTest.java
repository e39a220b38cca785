package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

class BenchVerbTest {
  private static final String[] SHORT = {
    "bench", "--size=4M", "--pairs=1", "--length=8", "--seconds=0", "--threads=1"
  };

  private final TestConsole console = new TestConsole(false);

  private int run(String... more) {
    String[] args = Arrays.copyOf(SHORT, SHORT.length + more.length);
    System.arraycopy(more, 0, args, SHORT.length, more.length);
    return Main.run(console.console(), args);
  }

  @Test
  void theTableSaysWhatWasTimedAndWhere() {
    assertEquals(0, run(), console.err());
    for (String name : new String[] {"gemm", "attention forward", "head", "step"}) {
      assertTrue(console.out().contains("\n" + name + " "), console.out());
    }
    assertTrue(console.out().contains("All results agreed"), console.out());
    assertTrue(console.out().contains("\"threads\":1"), console.out());
    assertTrue(console.err().startsWith("lethe: matrix product\n"), console.err());
  }

  @Test
  void jsonIsOneObject() throws JsonProcessingException {
    assertEquals(0, run("--json", "--dtype=bf16", "--method=GA"), console.err());
    JsonNode result = new ObjectMapper().readTree(console.out());
    assertEquals("bf16", result.path("dtype").asText());
    assertEquals(1, result.path("backend").path("threads").asInt());
    assertEquals(5, result.path("timings").size());
    JsonNode step = result.path("timings").get(4);
    assertEquals("step", step.path("name").asText());
    assertEquals(8, step.path("tokens").asInt());
    assertEquals(
        step.path("gflop").asDouble() / step.path("ms_median").asDouble() * 1e3,
        step.path("gflop_per_s").asDouble(),
        1e-9);
  }

  @Test
  void whatCannotBeTimedIsAUserError() {
    assertEquals(2, run("--dtype=fp8"));
    assertTrue(console.err().contains("--dtype is fp8, must be fp32 or bf16"), console.err());
    assertEquals(2, Main.run(new TestConsole(false).console(), "bench", "--size", "7B"));
  }
}
