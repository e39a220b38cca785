package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.kernels.HeadOps;
import picocli.CommandLine.Option;

/** The model that answers, how it is asked, and how it draws: what verbs that generate share. */
final class AnsweringOptions {
  @Option(names = "--model", required = true, paramLabel = "DIR", description = "Model directory.")
  private Path model;

  @Option(
      names = "--adapter",
      paramLabel = "DIR[:COEFFICIENT]",
      description = "Adapter directory, and its coefficient (1); may be given several times.")
  private List<String> adapters = List.of();

  @Option(
      names = "--prompt",
      paramLabel = "TEXT",
      description = "Prompt with {question} in it; default: the model's chat template.")
  private String prompt;

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

  @Option(
      names = "--device",
      paramLabel = "NAME",
      defaultValue = "cpu",
      description = "What to compute on: cpu, cuda or cuda:N. Default: ${DEFAULT-VALUE}.")
  private String device;

  @Option(names = "--threads", defaultValue = "0", description = "0: one per processor.")
  private int threads;

  @Option(
      names = "--quantize-base",
      paramLabel = "LAYOUT",
      defaultValue = "none",
      description =
          "Keep the layers' linears in 4-bit codes: none, nf4 or nf4_double. Default:"
              + " ${DEFAULT-VALUE}.")
  private String quantizeBase;

  /** What the options say, as a configuration that can be loaded. */
  RunConfig config() {
    require(topK >= 0, "--top-k", topK, "0 or more");
    require(topP > 0 && topP <= 1, "--top-p", topP, "above 0 and at most 1");
    require(
        threads >= 0 && threads <= RunConfig.MOST_THREADS,
        "--threads",
        threads,
        "from 0 to " + RunConfig.MOST_THREADS);
    List<String> values = new ArrayList<>();
    values.add("output=unused");
    values.add("device=" + quoted(device));
    values.add("threads=" + threads);
    values.add("quantize_base=" + quoted(quantizeBase));
    values.add("model=" + quoted(model.toString()));
    values.add("adapters=[" + adapters() + "]");
    if (prompt != null) {
      values.add("data.prompt=" + quoted(prompt));
    }
    return Config.of(RunConfig.class, values);
  }

  /** How tokens are drawn. */
  HeadOps.Sampling sampling(float temperature) {
    return new HeadOps.Sampling(temperature, topK, topP, seed);
  }

  /** Refuses an option's value. */
  static void require(boolean holds, String option, Number value, String rule) {
    if (!holds) {
      throw new UserException(option + " is " + value + ", must be " + rule);
    }
  }

  private String adapters() {
    return WeightedAdapter.parse("--adapter", adapters).stream()
        .map(
            a ->
                "{path: " + quoted(a.path().toString()) + ", coefficient: " + a.coefficient() + "}")
        .collect(Collectors.joining(", "));
  }

  /** As YAML: line breaks are escaped, so that the text stays one line. */
  private static String quoted(String text) {
    return '"'
        + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n").replace("\t", "\\t")
        + '"';
  }
}
