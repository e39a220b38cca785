package org.lethe.internal.cli;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.InternalFaultException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code lethe config}: what a run would be given, without running it. */
@Command(
    name = "config",
    description = "Print the effective configuration of a run as YAML: file, overrides, defaults.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {"", "Example: lethe config --config run.yaml train.epochs=3 >effective.yaml"})
final class ConfigVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;

  @Option(names = "--comments", description = "Say above each key what it means.")
  private boolean comments;

  @Mixin private JsonOption json;

  private final Console console;

  ConfigVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    RunConfig config = options.load(RunConfig.class);
    String yaml = comments ? Config.toCommentedYaml(config) : Config.toYaml(config);
    json.print(console, map(yaml), () -> console.out().print(yaml));
    return ExitCode.OK;
  }

  private static Map<String, Object> map(String yaml) {
    try {
      return new YAMLMapper().readValue(yaml, new TypeReference<Map<String, Object>>() {});
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("what was written as YAML cannot be read", e);
    }
  }
}
