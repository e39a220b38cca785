package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;

/**
 * The demo at full size for several seeds and fractions, some minutes each: {@code -Pdemo}. Which
 * ones can be chosen with {@code lethe.demo.seeds} and {@code lethe.demo.fractions}.
 */
@Tag("demo")
@EnabledIfSystemProperty(
    named = "lethe.demo",
    matches = "true",
    disabledReason = "long; ./lethe test -Pdemo runs it")
class DemoAcceptanceTest {
  private static final int PEOPLE = 40;
  private static final int EPOCHS = 18;

  record Case(long seed, double fraction) {}

  static List<Case> cases() {
    List<Case> cases = new ArrayList<>();
    for (String seed : list("lethe.demo.seeds", "1,2,3")) {
      for (String fraction : list("lethe.demo.fractions", "0.05,0.10")) {
        cases.add(new Case(Long.parseLong(seed), Double.parseDouble(fraction)));
      }
    }
    return cases;
  }

  private static List<String> list(String property, String otherwise) {
    String given = System.getProperty(property, "");
    return List.of((given.isEmpty() ? otherwise : given).split(","));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void theTableHolds(Case demo, @TempDir Path directory) {
    Demo.Options options =
        new Demo.Options(
            directory.resolve("demo"),
            false,
            TestDevice.NAME,
            demo.seed(),
            PEOPLE,
            demo.fraction(),
            EPOCHS,
            Demo.allMethods());
    Demo.Result result = Demo.run(options, RunListener.NONE);
    System.out.println("seed " + demo.seed() + ", " + demo.fraction() + " forgotten");
    System.out.print(result.table().plain());
    List<DemoCriteria.Check> checks = DemoCriteria.of(result.evaluations());
    checks.forEach(System.out::println);
    List<DemoCriteria.Check> missed = checks.stream().filter(c -> !c.holds()).toList();
    assertEquals(List.of(), missed, demo.toString());
  }
}
