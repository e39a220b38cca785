package org.lethe.internal.cli;

import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import org.lethe.method.MethodGuide;
import org.lethe.method.Side;
import org.lethe.run.Shapes;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.UsageMessageSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;

/** The command line: {@code lethe VERB ...}. */
@Command(
    name = "lethe",
    description = "Makes language models forget.",
    synopsisSubcommandLabel = "VERB",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    exitCodeListHeading = "%nExit codes:%n",
    exitCodeList = {
      "0:done",
      "1:a fault in Lethe",
      "2:wrong input: an argument, a key, a file",
      "3:the machine lacks something: memory, disk space, a tool, a device",
      "4:stopped by the file 'stop'; lethe resume goes on",
      "130:stopped by Ctrl-C (143: SIGTERM), likewise"
    })
public final class Main implements Callable<Integer> {
  private static final String LOG_LEVEL = "org.slf4j.simpleLogger.defaultLogLevel";

  @Option(
      names = "--stacktrace",
      scope = ScopeType.INHERIT,
      description = "On failure, print the Java stack trace, too.")
  private boolean stacktrace;

  @Spec private CommandLine.Model.CommandSpec spec;

  private final Console console;

  private Main(Console console) {
    this.console = console;
  }

  public static void main(String[] args) {
    // The verbs say themselves what they do; LETHE_JAVA_OPTS can ask for more.
    if (System.getProperty(LOG_LEVEL) == null) {
      System.setProperty(LOG_LEVEL, "warn");
    }
    Console console = Console.system();
    CountDownLatch done = new CountDownLatch(1);
    // On Ctrl-C and SIGTERM the process ends (130, 143) when this hook does: it waits for a run
    // that
    // hears it, and for nothing else.
    Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(console, done), "lethe-stop"));
    int code = run(console, args);
    done.countDown();
    System.exit(code);
  }

  private static void stop(Console console, CountDownLatch done) {
    if (done.getCount() == 0 || !console.stop().isWatched()) {
      return;
    }
    console.err().println("lethe: stopping after this step, with a checkpoint");
    console.stop().request("a signal");
    try {
      done.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /** The verbs, in the order that the help shows: a new one is a class and a line here. */
  private static List<Object> verbs(Console console) {
    return List.of(
        new DemoVerb(console),
        new FineTuneVerb(console),
        new UnlearnVerb(console),
        new RunVerb(console),
        new SweepVerb(console),
        new ResumeVerb(console),
        new EvaluateVerb(console),
        new CalibrateVerb(console),
        new GenerateVerb(console),
        new AlternatesVerb(console),
        new PlanVerb(console),
        new BenchVerb(console),
        new ReportVerb(console),
        new InitVerb(console),
        new ValidateVerb(console),
        new ConfigVerb(console),
        new InspectVerb(console),
        new InspectDataVerb(console),
        new MergeVerb(console),
        new CombineVerb(console),
        new ExportVerb(console),
        new DoctorVerb(console),
        new SchemaVerb(console),
        new CompletionVerb(console));
  }

  /** Runs one command and answers its exit code; prints to {@code console} only. */
  static int run(Console console, String... args) {
    return commandLine(console).execute(args);
  }

  /** All verbs; prints to {@code console} only. */
  static CommandLine commandLine(Console console) {
    Main main = new Main(console);
    CommandLine commandLine = new CommandLine(main);
    verbs(console).forEach(commandLine::addSubcommand);
    Map<String, List<String>> losses = new LinkedHashMap<>();
    losses.put("Forget losses", MethodGuide.names(Side.FORGET));
    losses.put("Retain losses", MethodGuide.names(Side.RETAIN));
    list(commandLine.getSubcommands().get("unlearn"), losses);
    list(commandLine.getSubcommands().get("plan"), Map.of("Shapes", Shapes.names()));
    return commandLine
        .setCaseInsensitiveEnumValuesAllowed(true)
        .setOut(new PrintWriter(console.out(), true, StandardCharsets.UTF_8))
        .setErr(new PrintWriter(console.err(), true, StandardCharsets.UTF_8))
        .setExecutionStrategy(main::execute)
        .setExecutionExceptionHandler((failure, command, parsed) -> main.report(failure))
        .setParameterExceptionHandler(Main::refuse);
  }

  /** Adds names to the help of a verb, in lines of their own: picocli would break them at dots. */
  private static void list(CommandLine verb, Map<String, List<String>> namesOf) {
    UsageMessageSpec usage = verb.getCommandSpec().usageMessage();
    List<String> footer = new ArrayList<>(List.of(usage.footer()));
    footer.add("");
    namesOf.forEach((what, names) -> footer.addAll(lines(what, names, usage.width())));
    usage.footer(footer.toArray(String[]::new));
  }

  private static List<String> lines(String what, List<String> names, int width) {
    List<String> lines = new ArrayList<>();
    StringBuilder line = new StringBuilder(what).append(':');
    for (int i = 0; i < names.size(); i++) {
      String name = names.get(i) + (i < names.size() - 1 ? "," : "");
      if (line.length() + 1 + name.length() > width) {
        lines.add(line.toString());
        line = new StringBuilder(" ");
      }
      line.append(' ').append(name);
    }
    lines.add(line.toString());
    return lines;
  }

  /** Without a verb: the help, as an error, since nothing was done. */
  @Override
  public Integer call() {
    spec.commandLine().usage(console.err());
    return ExitCode.USER;
  }

  /** picocli hands on what is an exception alone; a full heap is none. */
  private int execute(CommandLine.ParseResult parsed) {
    try {
      return new CommandLine.RunLast().execute(parsed);
    } catch (Error e) {
      return report(e);
    }
  }

  private int report(Throwable failure) {
    console.err().println("lethe: " + ExitCode.message(failure));
    if (stacktrace) {
      failure.printStackTrace(console.err());
    }
    return ExitCode.of(failure);
  }

  private static int refuse(CommandLine.ParameterException e, String[] args) {
    PrintWriter err = e.getCommandLine().getErr();
    err.println("lethe: " + e.getMessage());
    CommandLine.UnmatchedArgumentException.printSuggestions(e, err);
    err.println("See: " + e.getCommandLine().getCommandSpec().qualifiedName() + " --help");
    return ExitCode.USER;
  }

  static final class Version implements CommandLine.IVersionProvider {
    @Override
    public String[] getVersion() {
      return new String[] {
        "Lethe " + org.lethe.run.Version.string(),
        "Java " + Runtime.version(),
        System.getProperty("os.arch")
      };
    }
  }
}
