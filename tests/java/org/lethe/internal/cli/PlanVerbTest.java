package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.List;
import org.junit.jupiter.api.Test;

class PlanVerbTest {
  private static final String[] FITTING = {
    "plan", "--shape", "llama-3.2-1b", "dtype=bf16", "memory.budget=4GB"
  };

  @Test
  void whatFitsIsShownPartByPart() {
    TestConsole console = new TestConsole(false);
    assertEquals(0, Main.run(console.console(), FITTING), console.err());
    for (String part :
        List.of(
            "llama-3.2-1b on cpu",
            "weights",
            "adapters, gradients and optimizer",
            "activations",
            "head",
            "libraries",
            "predicted peak",
            "Fits in 4.00 GB of memory.budget")) {
      assertTrue(console.out().contains(part), part + " in: " + console.out());
    }
  }

  @Test
  void whatDoesNotFitExitsWithThreeAndNamesASetting() {
    TestConsole console = new TestConsole(false);
    int code = Main.run(console.console(), "plan", "--shape", "llama-2-7b", "memory.budget=8GB");
    assertEquals(3, code, console.err());
    assertTrue(console.out().contains("Does not fit in 8.00 GB"), console.out());
    assertTrue(console.out().contains("It would fit with quantize_base=nf4_double"), console.out());
  }

  @Test
  void partsAddUpInJson() throws JsonProcessingException {
    TestConsole console = new TestConsole(false);
    String[] arguments = List.of(FITTING).toArray(new String[FITTING.length + 1]);
    arguments[FITTING.length] = "--json";
    assertEquals(0, Main.run(console.console(), arguments), console.err());
    JsonNode plan = new ObjectMapper().readTree(console.out());
    // Scoring and generating take turns, and steps take nothing then.
    JsonNode parts = plan.get("parts_bytes");
    long held = 0;
    for (String part : List.of("libraries", "weights", "adapters, gradients and optimizer")) {
      held += parts.get(part).asLong();
    }
    long training = held + parts.get("activations").asLong() + parts.get("head").asLong();
    long evaluation =
        held
            + Math.max(
                parts.get("scoring rows").asLong(), parts.get("generating answers").asLong());
    assertEquals(7, parts.size(), parts.toString());
    assertEquals(training, plan.get("phases_bytes").get("training").asLong());
    assertEquals(evaluation, plan.get("phases_bytes").get("evaluation").asLong());
    assertEquals(Math.max(training, evaluation), plan.get("peak_bytes").asLong());
    assertEquals(4_000_000_000L, plan.get("available_bytes").asLong());
    assertTrue(plan.get("fits").asBoolean());
  }

  @Test
  void badInputIsRefused() {
    TestConsole console = new TestConsole(false);
    assertEquals(2, Main.run(console.console(), "plan"));
    assertTrue(console.err().contains("--shape NAME"), console.err());
    assertEquals(2, Main.run(console.console(), "plan", "--shape", "gpt-7"));
    assertEquals(
        2, Main.run(console.console(), "plan", "--shape", "llama-2-7b", "memory.budget=lots"));
    assertTrue(console.err().contains("8GB"), console.err());
    assertEquals(
        2, Main.run(console.console(), "plan", "--shape", "llama-2-7b", "--for", "evaluate"));
  }
}
