package org.lethe.internal.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.checkpoint.ModelExport;
import org.lethe.checkpoint.Survival;
import org.lethe.config.Config;
import org.lethe.config.ExportConfig;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** What {@code merge} and {@code export} are given, and how they print what they wrote. */
final class ExportOptions {
  @Parameters(
      paramLabel = "KEY=VALUE",
      arity = "1..*",
      description =
          "model=DIR adapter=DIR from=DIR output=DIR dtype=TYPE max_shard_size=SIZE"
              + " quantize=LAYOUT quantize_skip=[NAME] overwrite=true; the last one wins.")
  private List<String> values = List.of();

  @Option(names = "--dtype", paramLabel = "TYPE", description = "Same as dtype=TYPE.")
  private String dtype;

  @Option(
      names = "--max-shard-size",
      paramLabel = "SIZE",
      description = "Same as max_shard_size=SIZE, such as 500MB or 2GiB; default 5GB.")
  private String maxShardSize;

  @Option(
      names = "--quantize",
      paramLabel = "LAYOUT",
      description =
          "Same as quantize=LAYOUT: nf4, nf4_double, fp4, fp4_double or int8, as bitsandbytes"
              + " stores them; default none.")
  private String quantize;

  @Option(names = "--overwrite", description = "Same as overwrite=true.")
  private boolean overwrite;

  /**
   * The configuration.
   *
   * @throws org.lethe.UserException naming the key
   */
  ExportConfig load() {
    List<String> all = new ArrayList<>();
    if (dtype != null) {
      all.add("dtype='" + dtype.replace("'", "''") + "'");
    }
    if (maxShardSize != null) {
      all.add("max_shard_size='" + maxShardSize.replace("'", "''") + "'");
    }
    if (quantize != null) {
      all.add("quantize='" + quantize.replace("'", "''") + "'");
    }
    if (overwrite) {
      all.add("overwrite=true");
    }
    all.addAll(values);
    return Config.of(ExportConfig.class, all);
  }

  /** The facts of a written model. */
  static Map<String, Object> facts(ExportConfig config, ModelExport.Result result) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("output", config.output().toString());
    facts.put("dtype", config.dtype().name().toLowerCase(Locale.ROOT));
    facts.put("quantize", config.quantize().name().toLowerCase(Locale.ROOT));
    facts.put("tensors", result.tensors());
    facts.put("parameters", result.parameters());
    facts.put("bytes", result.bytes());
    facts.put("files", result.files());
    result
        .survival()
        .ifPresent(
            survival -> {
              facts.put("delta_survives", survival.fraction());
              facts.put("delta_along", survival.along());
              facts.put("weights_unchanged", survival.unchanged());
            });
    return facts;
  }

  static void print(Console console, ExportConfig config, ModelExport.Result result) {
    if (result.survival().isPresent()) {
      Survival survival = result.survival().get();
      console
          .out()
          .printf(
              Locale.ROOT,
              "Of the adapter's delta %.2f %% survives rounding (%.2f %% in its own direction);"
                  + " %.2f %% of the adapted weights are stored as they were.%n",
              100 * survival.fraction(),
              100 * survival.along(),
              100 * survival.unchanged());
      // Noise that is plainly larger than what it was to carry.
      if (survival.fraction() > 1.1) {
        console
            .out()
            .println("More than 100 %: rounding moves the weights further than the adapter does.");
      }
    }
    console
        .out()
        .printf(
            Locale.ROOT,
            "Written to %s: %,d parameters, %,d bytes in %d %s%n",
            config.output(),
            result.parameters(),
            result.bytes(),
            result.files(),
            result.files() == 1 ? "file" : "files");
  }
}
