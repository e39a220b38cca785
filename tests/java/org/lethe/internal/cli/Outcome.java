package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;

/** How a call of the command line ended, and what it printed. */
record Outcome(int code, String out, String err) {
  static Outcome run(String... args) {
    TestConsole console = new TestConsole(false);
    int code = Main.run(console.console(), args);
    return new Outcome(code, console.out(), console.err());
  }

  static Outcome succeed(String... args) {
    Outcome outcome = run(args);
    assertEquals(0, outcome.code(), outcome.err() + outcome.out());
    return outcome;
  }

  /** What is printed beside the result of what must succeed. */
  static String note(String... args) {
    return succeed(args).err();
  }

  /**
   * Runs what must fail.
   *
   * @param parts what the message must hold
   */
  static void assertFails(int code, String[] args, String... parts) {
    Outcome outcome = run(args);
    assertEquals(code, outcome.code(), outcome.err());
    for (String part : parts) {
      assertTrue(outcome.err().contains(part), "no \"" + part + "\" in: " + outcome.err());
    }
    assertFalse(outcome.err().contains("a fault in Lethe"), outcome.err());
    assertFalse(outcome.err().contains("\tat "), outcome.err());
  }

  /** The one line that {@code --json} prints. */
  JsonNode json() {
    try {
      assertEquals(1, out.lines().count(), out);
      return new ObjectMapper().readTree(out);
    } catch (IOException e) {
      throw new AssertionError(out, e);
    }
  }
}
