package org.lethe.nd4j;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * ND4J, libtorch and Lethe in one JVM, loaded in every order: each in a JVM of its own, since a
 * library is never unloaded. Lethe's bits are those of a JVM without the others.
 */
class CoexistenceTest {
  private static final long PATIENCE_SECONDS = 120;

  @TempDir static Path directory;

  private static List<String> alone;

  @BeforeAll
  static void letheByItself() throws IOException, InterruptedException {
    alone = run(List.of(Coexistence.Library.LETHE));
    assertEquals(2, alone.size());
    assertEquals(alone.get(0), alone.get(1));
    assertTrue(alone.get(0).contains("onednn"), alone.get(0));
  }

  static Stream<List<Coexistence.Library>> orders() {
    List<List<Coexistence.Library>> orders = new ArrayList<>();
    for (Coexistence.Library first : Coexistence.Library.values()) {
      for (Coexistence.Library second : Coexistence.Library.values()) {
        for (Coexistence.Library third : Coexistence.Library.values()) {
          if (first != second && first != third && second != third) {
            orders.add(List.of(first, second, third));
          }
        }
      }
    }
    return orders.stream();
  }

  @ParameterizedTest
  @MethodSource("orders")
  void allComputeRightAndLetheTheSameBits(List<Coexistence.Library> order)
      throws IOException, InterruptedException {
    assertEquals(alone, run(order));
  }

  /** The lines that the JVM wrote down. */
  private static List<String> run(List<Coexistence.Library> order)
      throws IOException, InterruptedException {
    Path bits = directory.resolve(order + ".bits");
    Path log = directory.resolve(order + ".log");
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-Xmx1g", "-cp", System.getProperty("java.class.path")));
    command.add("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command.add(Coexistence.class.getName());
    command.add(bits.toString());
    order.forEach(library -> command.add(library.name()));
    Process process =
        new ProcessBuilder(command)
            .redirectErrorStream(true)
            .redirectOutput(log.toFile())
            .directory(new File("."))
            .start();
    try {
      assertTrue(process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS), () -> order + " hangs");
    } finally {
      process.destroyForcibly();
    }
    assertEquals(0, process.exitValue(), () -> order + ": " + read(log));
    return Files.readAllLines(bits);
  }

  private static String read(Path log) {
    try {
      return Files.readString(log);
    } catch (IOException e) {
      return "no log: " + e;
    }
  }
}
