package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** libtorch and Lethe bring an OpenMP and a oneDNN each; one JVM holds both, whichever is first. */
class LoadOrderTest {
  @TempDir private Path directory;

  private List<String> run(String... order) throws IOException {
    String name = String.join("-", order);
    Path result = directory.resolve(name);
    String[] arguments = new String[order.length + 1];
    arguments[0] = result.toString();
    System.arraycopy(order, 0, arguments, 1, order.length);
    Jvm jvm = Jvm.start(directory.resolve(name + ".log"), LoadOrder.class, arguments);
    assertEquals(0, jvm.await(), jvm.output());
    return Files.readAllLines(result);
  }

  @Test
  void eitherOrderGivesTheSameBitsAsEachAlone() throws IOException {
    String lethe = run("lethe").get(0);
    String libtorch = run("libtorch").get(0);
    assertEquals(List.of(libtorch, lethe, libtorch, lethe), run("libtorch", "lethe"));
    assertEquals(List.of(lethe, libtorch, lethe, libtorch), run("lethe", "libtorch"));
  }
}
