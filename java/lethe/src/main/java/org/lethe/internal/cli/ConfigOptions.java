package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.lethe.config.Config;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Options of every verb that runs from a configuration; include it as a picocli mixin. */
final class ConfigOptions {
  @Option(
      names = {"-c", "--config"},
      paramLabel = "FILE",
      description = "YAML file of the run; without it, the defaults.")
  private Path file;

  @Option(names = "--overwrite", description = "Same as overwrite=true.")
  private boolean overwrite;

  @Option(names = "--device", paramLabel = "NAME", description = "Same as device=NAME.")
  private String device;

  @Option(names = "--threads", paramLabel = "N", description = "Same as threads=N.")
  private Integer threads;

  @Parameters(
      paramLabel = "KEY.PATH=VALUE",
      description = {
        "Overrides of the file's keys, for example",
        "train.epochs=3; the last one wins."
      })
  private List<String> overrides = List.of();

  /**
   * The effective configuration. {@code type} needs the keys {@code overwrite}, {@code device} and
   * {@code threads} when those options are given.
   *
   * @throws org.lethe.UserException naming file, line and key
   */
  <R extends Record> R load(Class<R> type) {
    return load(type, List.of());
  }

  /** The same for a verb that gives keys itself; what the user says comes after. */
  <R extends Record> R load(Class<R> type, List<String> given) {
    List<String> all = new ArrayList<>(given);
    if (overwrite) {
      all.add("overwrite=true");
    }
    if (device != null) {
      all.add("device=" + device);
    }
    if (threads != null) {
      all.add("threads=" + threads);
    }
    all.addAll(overrides);
    return file == null ? Config.of(type, all) : Config.load(type, file, all);
  }
}
