package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.NativeException;
import org.lethe.UserException;
import org.lethe.internal.abi.Abi;
import picocli.CommandLine;

class MainTest {
  private final TestConsole console = new TestConsole(false);

  private int run(String... args) {
    return Main.run(console.console(), args);
  }

  @Test
  void theVersionIsTheBuilds() {
    assertEquals(0, run("--version"));
    assertTrue(console.out().matches("(?s)Lethe \\d+\\.\\d+\\.\\d+.*Java .*"), console.out());
  }

  @Test
  void theHelpListsVerbsAndExitCodes() {
    assertEquals(0, run("--help"));
    for (String verb :
        new String[] {
          "demo",
          "finetune",
          "unlearn",
          "run",
          "resume",
          "sweep",
          "evaluate",
          "calibrate",
          "generate",
          "alternates",
          "bench",
          "report",
          "init",
          "validate",
          "config",
          "inspect",
          "inspect-data",
          "merge",
          "combine",
          "export",
          "doctor",
          "schema",
          "completion"
        }) {
      assertTrue(console.out().matches("(?s).*\n  " + verb + " +[A-Z].*"), console.out());
    }
    assertTrue(console.out().contains("Exit codes:"), console.out());
  }

  /** Whoever pastes an example of a help text gets what it says: picocli breaks lines at dots. */
  @Test
  void noHelpTextBreaksAKeyAFileOrANumber() {
    CommandLine all = Main.commandLine(console.console());
    all.getSubcommands()
        .forEach(
            (verb, command) -> {
              String help = command.getUsageMessage(CommandLine.Help.Ansi.OFF);
              Matcher broken = Pattern.compile("\\S[.=]\n *[a-z0-9].*").matcher(help);
              assertFalse(broken.find(), () -> verb + ": " + broken.group());
              for (String line : command.getCommandSpec().usageMessage().footer()) {
                assertTrue(help.contains("\n" + line + "\n"), verb + " breaks: " + line);
              }
            });
  }

  @Test
  void nothingToDoIsAUserError() {
    assertEquals(2, run());
    assertTrue(console.err().startsWith("Usage: lethe"), console.err());
    assertTrue(console.err().contains("\n  unlearn  "), console.err());
  }

  @Test
  void aMistypedVerbIsNamedWithTheNearest() {
    assertEquals(2, run("confg"));
    assertTrue(console.err().startsWith("lethe: Unmatched argument"), console.err());
    assertTrue(console.err().contains("Did you mean: lethe config"), console.err());
    assertEquals("", console.out());
  }

  @Test
  void configPrintsFileOverridesAndDefaults(@TempDir Path directory) throws IOException {
    Path file = directory.resolve("run.yaml");
    Files.writeString(file, "model: modèle\noutput: out\ntrain: {epochs: 3, batch_size: 2}\n");
    assertEquals(0, run("config", "--config", file.toString(), "--threads=2", "train.epochs=4"));
    String yaml = console.out();
    assertTrue(
        yaml.startsWith(
            "version: 1\nmodel: modèle\nadapters: []\nviews: []\noutput: out\noverwrite: false\n"),
        yaml);
    assertTrue(yaml.contains("\nthreads: 2\n"), yaml);
    assertTrue(yaml.contains("\n  epochs: 4\n"), yaml);
    assertTrue(yaml.contains("\n  batch_size: 2\n"), yaml);
    assertTrue(yaml.contains("\n  adam_beta2: 0.999\n"), yaml);
    assertEquals("", console.err());

    TestConsole again = new TestConsole(false);
    Files.writeString(file, yaml);
    assertEquals(0, Main.run(again.console(), "config", "-c", file.toString(), "--overwrite"));
    assertEquals(yaml.replace("overwrite: false", "overwrite: true"), again.out());
  }

  @Test
  void configCommentsOnRequest() {
    assertEquals(0, run("config", "--comments", "model=m", "output=o"));
    assertTrue(console.out().contains("\n# Model directory to start from"), console.out());
  }

  @Test
  void aUserErrorIsOneLineWithoutAStackTrace() {
    assertEquals(2, run("config", "model=m", "output=o", "trian.epochs=3"));
    assertEquals(
        "lethe: override 'trian.epochs=3': unknown key trian; did you mean train?\n",
        console.err());
    assertEquals("", console.out());
  }

  /** What a verb throws that is no exception. */
  private int failing(Error failure) {
    CommandLine commandLine = Main.commandLine(console.console());
    commandLine.addSubcommand(
        CommandLine.Model.CommandSpec.wrapWithoutInspection(
                (Callable<Integer>)
                    () -> {
                      throw failure;
                    })
            .name("fail"));
    return commandLine.execute("fail");
  }

  @Test
  void errorsAreOneLineToo() {
    assertEquals(3, failing(new OutOfMemoryError("Java heap space")));
    assertEquals(
        "lethe: the Java heap is full (Java heap space); give it more by"
            + " LETHE_JAVA_OPTS=-Xmx4g\n",
        console.err());
    assertEquals(1, failing(new StackOverflowError()));
    assertTrue(console.err().contains("unexpected java.lang.StackOverflowError"), console.err());
  }

  @Test
  void theStackTraceComesOnRequest() {
    assertEquals(2, run("config", "--stacktrace"));
    assertTrue(console.err().startsWith("lethe: configuration: output is missing"), console.err());
    assertTrue(console.err().contains("\n\tat org.lethe.config."), console.err());
  }

  @Test
  void exitCodesSayWhoCanMendIt() {
    assertEquals(2, ExitCode.of(new UserException("x")));
    assertEquals(3, ExitCode.of(new EnvironmentException("x")));
    assertEquals(3, ExitCode.of(new OutOfMemoryError("Java heap space")));
    assertEquals(1, ExitCode.of(new InternalFaultException("x")));
    assertEquals(1, ExitCode.of(new IllegalStateException("x")));
    assertEquals(
        3, ExitCode.of(new NativeException(Abi.LETHE_OUT_OF_MEMORY, "LETHE_OUT_OF_MEMORY", "t")));
    assertEquals(1, ExitCode.of(new NativeException(Abi.LETHE_OVERLAP, "LETHE_OVERLAP", "t")));
    String unexpected = ExitCode.message(new IllegalStateException("why"));
    assertTrue(unexpected.contains("IllegalStateException: why"), unexpected);
    assertTrue(unexpected.contains("--stacktrace"), unexpected);
    assertFalse(ExitCode.message(new UserException("plain")).contains("fault"));
  }
}
