package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.run.Resume;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

/** {@code lethe resume}: goes on with a run that was stopped or died. */
@Command(
    name = "resume",
    description = {
      "Go on with a run that was stopped or died, from its newest checkpoint that verifies.",
      "What comes out is the same to the last bit as if it had never stopped."
    },
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "A run stops with a checkpoint on Ctrl-C, on SIGTERM, and when a file named stop",
      "appears in its directory.",
      "",
      "Example: lethe resume runs/forgot"
    })
final class ResumeVerb implements Callable<Integer> {
  @Parameters(paramLabel = "DIR", description = "Output directory of the run.")
  private Path directory;

  @Mixin private JsonOption json;

  private final Console console;

  ResumeVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Resume.Result result;
    try (ProgressListener listener = new ProgressListener(console)) {
      result = Resume.run(directory, listener, console.stop());
    }
    boolean wasFinished = result == Resume.Result.WAS_FINISHED;
    json.print(
        console,
        Map.of("output", directory.toString(), "was_finished", wasFinished),
        () ->
            console
                .out()
                .println(
                    wasFinished
                        ? directory + " had come to its end before; nothing was done"
                        : "Written to " + directory));
    return ExitCode.OK;
  }
}
