package org.lethe.internal.cli;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.run.Demo;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code lethe demo}: a small model learns, forgets by three methods, and keeps the rest. */
@Command(
    name = "demo",
    description =
        "Watch a small model learn facts about fictitious people, forget some of them by three"
            + " methods, and keep the rest.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {"", "Example: lethe demo --short --seed 7"})
final class DemoVerb implements Callable<Integer> {
  @Option(
      names = "--output",
      paramLabel = "DIR",
      description = "Where everything goes; default: runs/demo-N, the first N that is free.")
  private Path output;

  @Option(names = "--overwrite", description = "Replace what the output directory holds.")
  private boolean overwrite;

  @Option(names = "--seed", defaultValue = "1", description = "Default: ${DEFAULT-VALUE}.")
  private long seed;

  @Option(names = "--people", defaultValue = "40", description = "Default: ${DEFAULT-VALUE}.")
  private int people;

  @Option(
      names = "--forget",
      defaultValue = "0.05",
      description = "Fraction of the people to forget. Default: ${DEFAULT-VALUE}.")
  private double fraction;

  @Option(
      names = "--epochs",
      defaultValue = "18",
      description = "Of fine-tuning. Default: ${DEFAULT-VALUE}.")
  private int epochs;

  @Option(
      names = "--device",
      paramLabel = "NAME",
      defaultValue = "cpu",
      description = "What to compute on: cpu, cuda or cuda:N. Default: ${DEFAULT-VALUE}.")
  private String device;

  @Option(names = "--short", description = "Fewer people: a quick look, with coarser numbers.")
  private boolean shortRun;

  @Option(
      names = "--methods",
      split = ",",
      description = "Of those: ME+GD, NPO+GD, IDK+AP. Default: all.")
  private List<String> methods = Demo.allMethods();

  @Mixin private JsonOption json;

  private final Console console;

  DemoVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Path target = output != null ? output : firstFree();
    Demo.Result result;
    try (ProgressListener listener = new ProgressListener(console)) {
      result =
          Demo.run(
              new Demo.Options(
                  target,
                  overwrite,
                  device,
                  seed,
                  shortRun ? 20 : people,
                  fraction,
                  epochs,
                  methods),
              listener);
    }
    Map<String, Object> models = new LinkedHashMap<>();
    result
        .evaluations()
        .forEach(
            (name, evaluation) ->
                models.put(
                    name,
                    Map.of("sets", evaluation.sets(), "model_utility", evaluation.utility())));
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("output", target.toString());
    facts.put("models", models);
    json.print(
        console,
        facts,
        () -> {
          console.out().print(result.table().plain());
          console.out().println("Everything is in " + target);
        });
    return ExitCode.OK;
  }

  private static Path firstFree() {
    for (int n = 1; ; n++) {
      Path candidate = Path.of("runs", "demo-" + n);
      if (!Files.exists(candidate)) {
        return candidate;
      }
    }
  }
}
