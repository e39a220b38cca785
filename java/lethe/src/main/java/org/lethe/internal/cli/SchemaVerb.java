package org.lethe.internal.cli;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.config.JsonSchema;
import org.lethe.config.RunConfig;
import org.lethe.method.Methods;
import org.lethe.method.Side;
import picocli.CommandLine.Command;

/** {@code lethe schema}: the JSON schema of a run's YAML file. */
@Command(
    name = "schema",
    description =
        "Print the JSON schema (draft 2020-12) of a run's YAML file, by which editors complete and"
            + " check it.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe schema >lethe.schema.json",
      "         (and as the first line of run.yaml:)",
      "         # yaml-language-server: $$schema=lethe.schema.json"
    })
final class SchemaVerb implements Callable<Integer> {
  private final Console console;

  SchemaVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Map<String, List<String>> losses = new LinkedHashMap<>();
    for (Side side : Side.values()) {
      List<String> names = new ArrayList<>(List.of(Methods.NONE));
      Methods.of(side).forEach(spec -> names.add(spec.name()));
      losses.put("MethodSection." + (side == Side.FORGET ? "forget" : "retain"), names);
    }
    console.out().print(JsonSchema.of(RunConfig.class, "A run of Lethe", losses));
    return ExitCode.OK;
  }
}
