package org.lethe.internal.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.Map;
import org.lethe.InternalFaultException;
import picocli.CommandLine.Option;

/** {@code --json}, of every verb that prints results; include it as a picocli mixin. */
final class JsonOption {
  private static final ObjectMapper MAPPER = new ObjectMapper();

  @Option(
      names = "--json",
      description = "Print the result as one JSON object on one line, for scripts.")
  private boolean json;

  /**
   * Prints a result.
   *
   * @param facts names are stable; numbers that are not finite become the texts "NaN", "Infinity"
   *     and "-Infinity", for which JSON has no numbers
   * @param text prints the same for people
   */
  void print(Console console, Map<String, ?> facts, Runnable text) {
    if (!json) {
      text.run();
      return;
    }
    try {
      console.out().println(MAPPER.writeValueAsString(facts));
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("no JSON can be made of a result", e);
    }
  }
}
