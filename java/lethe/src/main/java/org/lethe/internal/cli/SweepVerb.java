package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import org.lethe.config.Grid;
import org.lethe.config.RunConfig;
import org.lethe.run.Leaderboard;
import org.lethe.run.LeaderboardReport;
import org.lethe.run.Sweep;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** {@code lethe sweep}: unlearnings over a grid, and which of them came out best. */
@Command(
    name = "sweep",
    description = {
      "Unlearn by every combination of methods and numbers, and rank what comes out.",
      "Each run has a directory of its own in the output; leaderboard.html shows forgetting against"
          + " utility. The whole grid is checked before the first run begins."
    },
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe sweep --config run.yaml output=runs/sweep \\",
      "         --grid method=ME+GD,NPO+GD,IDK+AP \\",
      "         --grid method.forget_coefficient=0.1,0.5,1",
      "",
      "A run whose training fails is ranked last and the others go on; the exit code",
      "is then 2. After an interruption, lethe resume runs/sweep goes on: finished",
      "runs are kept."
    })
final class SweepVerb implements Callable<Integer> {
  @Mixin private ConfigOptions options;

  @Option(
      names = "--grid",
      paramLabel = "KEY=V1,V2,...",
      description =
          "A key of the configuration and its values; may be given several times. The key method"
              + " takes FORGET+RETAIN.")
  private List<String> grid = List.of();

  @Option(
      names = "--grid-file",
      paramLabel = "FILE",
      description = "The same as YAML: keys, and a list of values behind each.")
  private Path gridFile;

  @Option(
      names = "--max",
      paramLabel = "N",
      defaultValue = "" + Sweep.MOST,
      description = "Refuse a grid of more runs. Default: ${DEFAULT-VALUE}.")
  private int most;

  @Option(
      names = "--parallel",
      paramLabel = "N",
      defaultValue = "1",
      description =
          "Runs side by side, with one thread each unless threads is set. Default:"
              + " ${DEFAULT-VALUE}.")
  private int parallel;

  @Option(
      names = "--resume",
      description = "Go on with the same sweep where the output directory holds its beginning.")
  private boolean resume;

  @Mixin private JsonOption json;

  private final Console console;

  SweepVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    Grid all = Grid.of(grid);
    if (gridFile != null) {
      all = Grid.file(gridFile).and(all);
    }
    Sweep.Options asked = new Sweep.Options(all, most, parallel, resume);
    RunConfig base = options.load(RunConfig.class);
    Leaderboard board;
    try (ProgressListener listener = new ProgressListener(console)) {
      board = Sweep.run(base, asked, listener, console.stop());
    }
    LeaderboardReport report = new LeaderboardReport(board);
    json.print(console, report.facts(), () -> print(board, report));
    if (board.failures() > 0) {
      console.err().println("lethe: " + board.failureMessage());
      return ExitCode.USER;
    }
    return ExitCode.OK;
  }

  private void print(Leaderboard board, LeaderboardReport report) {
    console.out().print(report.table().plain());
    console.out().println();
    report.summary().forEach(console.out()::println);
    console.out().println("Leaderboard: " + board.output().resolve("leaderboard.html"));
  }
}
