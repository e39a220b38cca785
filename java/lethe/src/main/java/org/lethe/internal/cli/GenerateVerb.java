package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.kernels.Ops;
import org.lethe.model.Generator;
import org.lethe.run.LoadedModel;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code lethe generate}: answers questions. */
@Command(
    name = "generate",
    description = "Answer questions, greedily or by sampling.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe generate --model DIR --adapter runs/forgot/adapter \"Who is ...?\""
    })
final class GenerateVerb implements Callable<Integer> {
  @Option(names = "--model", required = true, paramLabel = "DIR", description = "Model directory.")
  private Path model;

  @Option(
      names = "--adapter",
      paramLabel = "DIR[:COEFFICIENT]",
      description = "Adapter directory, and its coefficient (1); may be given several times.")
  private List<String> adapters = List.of();

  @Option(
      names = "--max-new-tokens",
      defaultValue = "64",
      description = "Longest answer: ${DEFAULT-VALUE}.")
  private int maxNewTokens;

  @Option(
      names = "--temperature",
      defaultValue = "0",
      description = "0: greedy. Default: ${DEFAULT-VALUE}.")
  private float temperature;

  @Option(
      names = "--top-k",
      defaultValue = "0",
      description = "Draw from the k likeliest; 0: from all.")
  private int topK;

  @Option(
      names = "--top-p",
      defaultValue = "1",
      description = "Draw from the likeliest that reach p.")
  private float topP;

  @Option(names = "--seed", defaultValue = "0", description = "Of the draws: ${DEFAULT-VALUE}.")
  private long seed;

  @Option(names = "--threads", defaultValue = "0", description = "0: one per processor.")
  private int threads;

  @Parameters(arity = "1..*", paramLabel = "QUESTION")
  private List<String> questions;

  @Mixin private JsonOption json;

  private final Console console;

  GenerateVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    require(maxNewTokens >= 1, "--max-new-tokens", maxNewTokens, "at least 1");
    require(
        temperature >= 0 && Float.isFinite(temperature), "--temperature", temperature, "0 or more");
    require(topK >= 0, "--top-k", topK, "0 or more");
    require(topP > 0 && topP <= 1, "--top-p", topP, "above 0 and at most 1");
    require(threads >= 0, "--threads", threads, "0 or more");
    RunConfig config =
        Config.of(
            RunConfig.class,
            List.of(
                "output=unused",
                "threads=" + threads,
                "model='" + quoted(model) + "'",
                "adapters=[" + adapters() + "]"));
    try (LoadedModel loaded = LoadedModel.open(config)) {
      List<int[]> prompts = questions.stream().map(loaded.encoder()::encodePrompt).toList();
      int longest = prompts.stream().mapToInt(p -> p.length).max().orElse(1);
      int slots = Math.min(16, prompts.size());
      try (Generator generator =
          new Generator(
              loaded.model(),
              slots,
              (int) Math.min((long) longest + maxNewTokens, Integer.MAX_VALUE),
              loaded.model().view())) {
        Set<Integer> stop = loaded.encoder().stopIds();
        List<int[]> answers =
            temperature > 0
                ? generator.sample(
                    prompts, maxNewTokens, stop, new Ops.Sampling(temperature, topK, topP, seed))
                : generator.greedy(prompts, maxNewTokens, stop);
        print(answers.stream().map(ids -> loaded.tokenizer().decode(ids).strip()).toList());
      }
    }
    return ExitCode.OK;
  }

  private void print(List<String> answers) {
    List<Map<String, String>> pairs = new ArrayList<>();
    for (int i = 0; i < answers.size(); i++) {
      pairs.add(Map.of("question", questions.get(i), "answer", answers.get(i)));
    }
    json.print(console, Map.of("answers", pairs), () -> answers.forEach(console.out()::println));
  }

  private static void require(boolean holds, String option, Number value, String rule) {
    if (!holds) {
      throw new UserException(option + " is " + value + ", must be " + rule);
    }
  }

  private String adapters() {
    return WeightedAdapter.parse("--adapter", adapters).stream()
        .map(a -> "{path: '" + quoted(a.path()) + "', coefficient: " + a.coefficient() + "}")
        .collect(Collectors.joining(", "));
  }

  private static String quoted(Path path) {
    return path.toString().replace("'", "''");
  }
}
