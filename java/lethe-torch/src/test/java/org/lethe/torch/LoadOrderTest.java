package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** libtorch and Lethe bring an OpenMP and a oneDNN each; one JVM holds both, whichever is first. */
class LoadOrderTest {
  @TempDir private Path directory;

  private final List<Jvm> started = new ArrayList<>();

  /** Starts a JVM that uses libraries in this order. */
  private Path start(String... order) {
    String name = String.join("-", order);
    Path result = directory.resolve(name);
    String[] arguments = new String[order.length + 1];
    arguments[0] = result.toString();
    System.arraycopy(order, 0, arguments, 1, order.length);
    started.add(Jvm.start(directory.resolve(name + ".log"), LoadOrder.class, arguments));
    return result;
  }

  @Test
  void eitherOrderGivesTheSameBits() throws IOException {
    Path alone = start("lethe");
    Path after = start("libtorch", "lethe");
    Path before = start("lethe", "libtorch");
    for (Jvm jvm : started) {
      assertEquals(0, jvm.await(), jvm.output());
    }
    List<String> expected = Files.readAllLines(before);
    assertEquals(4, expected.size());
    assertEquals(expected.subList(0, 2), expected.subList(2, 4));
    assertEquals(
        List.of(expected.get(1), expected.get(0), expected.get(1), expected.get(0)),
        Files.readAllLines(after));
    assertEquals(List.of(expected.get(0), expected.get(0)), Files.readAllLines(alone));
  }
}
