package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.config.RunConfig;
import org.lethe.model.Generator;
import org.lethe.model.LoraConfig;
import org.lethe.model.Mixture;
import org.lethe.model.Model;
import org.lethe.model.View;
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
  @Mixin private AnsweringOptions answering;

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
      names = "--whp",
      paramLabel = "DIR",
      description =
          "Adapter of a model that learnt more of what is to be forgotten: decode greedily from"
              + " u - alpha relu(v - u), v its logits (Who's Harry Potter).")
  private Path reinforced;

  @Option(
      names = "--alpha",
      defaultValue = "1",
      description = "How much that model counts: ${DEFAULT-VALUE}.")
  private double alpha;

  @Parameters(arity = "1..*", paramLabel = "QUESTION")
  private List<String> questions;

  @Mixin private JsonOption json;

  private final Console console;

  GenerateVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    AnsweringOptions.require(maxNewTokens >= 1, "--max-new-tokens", maxNewTokens, "at least 1");
    AnsweringOptions.require(
        temperature >= 0 && Float.isFinite(temperature), "--temperature", temperature, "0 or more");
    RunConfig config = answering.config();
    List<LoraConfig> others =
        reinforced == null ? List.of() : List.of(AdapterDirectory.config(reinforced));
    try (LoadedModel loaded = LoadedModel.open(config, others)) {
      List<int[]> prompts = questions.stream().map(loaded.encoder()::encodePrompt).toList();
      requireRoom(prompts, loaded.model().config().contextLength());
      int longest = prompts.stream().mapToInt(p -> p.length).max().orElse(1);
      int slots = Math.min(16, prompts.size());
      try (Generator generator = generator(loaded.model(), slots, (long) longest + maxNewTokens)) {
        Set<Integer> stop = loaded.encoder().stopIds();
        List<int[]> answers =
            temperature > 0
                ? generator.sample(prompts, maxNewTokens, stop, answering.sampling(temperature))
                : generator.greedy(prompts, maxNewTokens, stop);
        print(answers.stream().map(ids -> loaded.tokenizer().decode(ids).strip()).toList());
      }
    }
    return ExitCode.OK;
  }

  /** The generator would keep the end of such a prompt and answer another question. */
  private void requireRoom(List<int[]> prompts, int context) {
    for (int i = 0; i < prompts.size(); i++) {
      if (prompts.get(i).length >= context) {
        throw new UserException(
            "question "
                + (i + 1)
                + " takes "
                + prompts.get(i).length
                + " tokens with its prompt, which leaves no room for an answer in the model's "
                + context
                + "; shorten it");
      }
    }
  }

  private Generator generator(Model model, int slots, long length) {
    if (reinforced == null) {
      return new Generator(model, slots, length, model.view());
    }
    View other = model.view().plus(AdapterDirectory.loadFrozen(model, "--whp", reinforced), 1);
    return new Generator(model, slots, length, new Mixture(model.view(), other, alpha));
  }

  private void print(List<String> answers) {
    List<Map<String, String>> pairs = new ArrayList<>();
    for (int i = 0; i < answers.size(); i++) {
      pairs.add(Map.of("question", questions.get(i), "answer", answers.get(i)));
    }
    json.print(console, Map.of("answers", pairs), () -> answers.forEach(console.out()::println));
  }
}
