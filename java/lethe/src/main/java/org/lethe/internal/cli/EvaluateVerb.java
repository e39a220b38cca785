package org.lethe.internal.cli;

import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.run.Evaluate;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe evaluate}: judges a model, with or without an adapter. */
@Command(
    name = "evaluate",
    description = "Judge a model, with or without an adapter, on the configured sets.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe evaluate model=DIR adapter=runs/forgot/adapter \\",
      "         output=runs/judged data.forget=[forget.jsonl] \\",
      "         data.retain=[retain.jsonl]"
    })
final class EvaluateVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;
  @Mixin private JsonOption json;

  private final Console console;

  EvaluateVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    // Read before the work, so that a mistyped path is not found at the end of it.
    Optional<Evaluation> neverSaw = config.evaluate().neverSaw().map(Evaluation::read);
    Evaluation evaluation = evaluate(config);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("sets", evaluation.sets());
    facts.put("model_utility", evaluation.utility());
    facts.put("membership", evaluation.membership());
    neverSaw.ifPresent(other -> facts.putAll(against(config, evaluation, other)));
    facts.put("output", config.output().toString());
    json.print(console, facts, () -> print(config, evaluation, neverSaw));
    return ExitCode.OK;
  }

  private static String utility(Evaluation evaluation) {
    boolean keeps = evaluation.sets().keySet().stream().anyMatch(Evaluation.KEPT::contains);
    return keeps
        ? String.format(Locale.ROOT, "%.4f", evaluation.utility())
        : "not known: it is the mean of sets that are to be kept, and none is given (data.retain,"
            + " data.general)";
  }

  private void print(RunConfig config, Evaluation evaluation, Optional<Evaluation> neverSaw) {
    console.out().print(Evaluate.table("Scores", evaluation).plain());
    console.out().println("model utility " + utility(evaluation));
    Map<String, Double> more = new LinkedHashMap<>();
    evaluation.membership().forEach((attack, area) -> more.put("membership." + attack, area));
    neverSaw.ifPresent(other -> more.putAll(against(config, evaluation, other)));
    more.forEach(
        (name, value) ->
            console.out().printf(Locale.ROOT, "%s %.4g%n", name.replace('_', ' '), value));
    console.out().println("Written to " + config.output());
  }

  private static Map<String, Double> against(
      RunConfig config, Evaluation evaluation, Evaluation neverSaw) {
    return evaluation.against(neverSaw, Evaluate.definitions(config.evaluate()));
  }

  private Evaluation evaluate(RunConfig config) {
    try (ProgressListener listener = new ProgressListener(console)) {
      return Evaluate.runAndWrite(config, listener).evaluation();
    }
  }
}
