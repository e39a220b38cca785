package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;

class GridTest {
  private static String refused(String... options) {
    return assertThrows(UserException.class, () -> Grid.of(List.of(options))).getMessage();
  }

  @Test
  void valuesKeepTheirTextAndTheirType() {
    Grid grid =
        Grid.of(
            List.of(
                "method=ME+GD, NPO+none",
                "method.forget_coefficient=1e-3,0.50,null",
                "lora.targets=[q_proj, v_proj],[q_proj]",
                "model='a, b','true'"));
    assertEquals(2L * 3 * 2 * 2, grid.size());
    assertEquals(List.of("ME+GD", "NPO+none"), texts(grid, 0));
    assertEquals(List.of("1e-3", "0.50", "unset"), texts(grid, 1));
    assertEquals(List.of("q_proj+v_proj", "q_proj"), texts(grid, 2));
    assertEquals(List.of("a, b", "true"), texts(grid, 3));
    assertEquals("[q_proj, v_proj]", grid.axes().get(2).values().get(0).yaml());
    assertEquals("\"true\"", grid.axes().get(3).values().get(1).yaml());
    assertEquals(grid, Grid.of(grid.options()));
  }

  private static List<String> texts(Grid grid, int axis) {
    return grid.axes().get(axis).values().stream().map(Grid.Value::text).toList();
  }

  @Test
  void aFileSaysTheSame(@TempDir Path dir) throws IOException {
    Path file = dir.resolve("grid.yaml");
    Files.writeString(file, "method: [ME+GD, NPO+GD]\ntrain.learning_rate:\n  - 1e-3\n  - 2e-3\n");
    Grid typed = Grid.of(List.of("method=ME+GD,NPO+GD", "train.learning_rate=1e-3,2e-3"));
    assertEquals(typed, Grid.file(file));
    assertEquals(8, Grid.file(file).and(Grid.of(List.of("seed=1,2"))).size());
    Files.writeString(file, "seed: 1\n");
    String message = assertThrows(UserException.class, () -> Grid.file(file)).getMessage();
    assertTrue(message.contains("grid.yaml:1: seed needs a list of values"), message);
    Files.writeString(file, "");
    assertThrows(UserException.class, () -> Grid.file(file));
  }

  @Test
  void whatIsNoGridIsRefused() {
    assertTrue(refused("seed").contains("write KEY=V1,V2"));
    assertTrue(refused("=1").contains("write KEY=V1,V2"));
    assertTrue(refused("seed=").contains("seed has no values"));
    assertTrue(refused("seed=1,1").contains("seed has a value twice: 1, 1"));
    assertTrue(refused("seed=1", "seed=2").contains("names seed twice"));
    assertTrue(refused("se ed=1").contains("'se ed' is no key"));
    assertTrue(refused("seed={a: 1}").contains("is a section"));
    assertTrue(refused("seed=1],[2").contains("not valid YAML"));
  }

  @Test
  void theSizeOfAHugeGridDoesNotOverflow() {
    List<Grid.Value> many =
        java.util.stream.IntStream.range(0, 1000)
            .mapToObj(i -> new Grid.Value("" + i, "" + i))
            .toList();
    List<Grid.Axis> axes =
        java.util.stream.IntStream.range(0, 12)
            .mapToObj(i -> new Grid.Axis("k" + i, many))
            .toList();
    assertEquals(Long.MAX_VALUE, new Grid(axes).size());
    assertEquals(1, new Grid(Collections.emptyList()).size());
  }

  @Test
  void aConfigurationTakesOverrides() {
    RunConfig base = Config.of(RunConfig.class, List.of("output='a: b'", "method.forget=NPO"));
    RunConfig other = Config.with(base, RunConfig.class, List.of("train.epochs=7"));
    assertEquals(7, other.train().epochs());
    assertEquals("NPO", other.method().forget());
    assertEquals(base.output(), other.output());
  }
}
