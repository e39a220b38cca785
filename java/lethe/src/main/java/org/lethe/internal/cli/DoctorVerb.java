package org.lethe.internal.cli;

import java.util.concurrent.Callable;
import org.lethe.run.Doctor;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** {@code lethe doctor}: what this machine has, and what would mend what it lacks. */
@Command(
    name = "doctor",
    description =
        "Say which backends run here and why the others do not, with versions, processors, memory"
            + " and directories. Exits with 3 only if no model can run.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {"", "Example: lethe doctor --json"})
final class DoctorVerb implements Callable<Integer> {
  @Mixin private JsonOption json;

  private final Console console;

  DoctorVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Doctor.Result result = Doctor.examine(System.getenv());
    json.print(console, result.facts(), () -> console.out().print(Facts.text(result.facts())));
    return result.canRun() ? ExitCode.OK : ExitCode.ENVIRONMENT;
  }
}
