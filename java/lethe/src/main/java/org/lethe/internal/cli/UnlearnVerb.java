package org.lethe.internal.cli;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.run.Evaluate;
import org.lethe.run.Unlearn;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe unlearn}: makes a model forget rows and keep others. */
@Command(
    name = "unlearn",
    description = "Make a model forget rows and keep others.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe unlearn model=DIR output=runs/forgot \\",
      "         data.forget=[forget.jsonl] data.retain=[retain.jsonl] \\",
      "         method.forget=NPO method.retain=GD train.steps=60"
    })
final class UnlearnVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;
  @Mixin private JsonOption json;

  private final Console console;

  UnlearnVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    Unlearn.Result result = run(config);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("before", scores(result.before()));
    facts.put("after", scores(result.after()));
    facts.put("steps", result.steps().size());
    facts.put("output", config.output().toString());
    json.print(
        console,
        facts,
        () -> {
          console.out().println("Before:");
          console.out().print(Evaluate.table("Before", result.before()).plain());
          console.out().println("After:");
          console.out().print(Evaluate.table("After", result.after()).plain());
          console.out().println("Written to " + config.output());
        });
    return ExitCode.OK;
  }

  private Unlearn.Result run(RunConfig config) {
    try (ProgressListener listener = new ProgressListener(console)) {
      return Unlearn.run(config, null, listener, console.stop());
    }
  }

  private static Map<String, Object> scores(Evaluation evaluation) {
    Map<String, Object> scores = new LinkedHashMap<>();
    scores.put("sets", evaluation.sets());
    scores.put("model_utility", evaluation.utility());
    return scores;
  }
}
