package org.lethe.bench.jmh;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.reflect.Method;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import org.lethe.bench.Machine;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.BenchmarkList;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.format.OutputFormatFactory;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** Runs benchmarks one after the other: bench/jmh/run. */
@Command(name = "jmh", mixinStandardHelpOptions = true)
public final class Main implements Callable<Integer> {
  private static final List<String> JVM =
      List.of(
          "-Xmx1g",
          "-XX:+UseSerialGC",
          "-Dfile.encoding=UTF-8",
          "-Dorg.bytedeco.javacpp.maxBytes=0",
          "-Dorg.bytedeco.javacpp.maxPhysicalBytes=0",
          "-Dorg.bytedeco.javacpp.nopointergc=true");

  @Parameters(arity = "0..1", defaultValue = "", description = "Regular expression of names.")
  String pattern;

  @Option(names = "--smoke", description = "Checks, and one call of each at small sizes.")
  boolean smoke;

  @Option(names = "--list", description = "Names only.")
  boolean list;

  @Option(names = "--results", description = "Folder for JSON and table.")
  Path results;

  @Option(names = "--commit", defaultValue = "unknown")
  String commit;

  /** Exits 0, or 1 when a benchmark failed or none matched. */
  public static void main(String[] args) {
    System.exit(new CommandLine(new Main()).execute(args));
  }

  @Override
  public Integer call() throws RunnerException {
    Set<String> names = new TreeSet<>();
    BenchmarkList.defaultList()
        .getAll(OutputFormatFactory.createFormatInstance(System.out, VerboseMode.SILENT), List.of())
        .forEach(entry -> names.add(entry.getUsername()));
    names.removeIf(name -> !Pattern.compile(pattern).matcher(simple(name)).find());
    if (names.isEmpty()) {
      System.err.println("no benchmark matches " + pattern + "; bench/jmh/run --list names them");
      return 1;
    }
    if (list) {
      names.forEach(name -> System.out.println(simple(name)));
      return 0;
    }
    return smoke ? smoke() : time(names);
  }

  /** All in this process; what is wrong ends it with an exception. */
  private int smoke() throws RunnerException {
    Collection<RunResult> ran =
        new Runner(
                new OptionsBuilder()
                    .include(".*")
                    .forks(0)
                    .warmupIterations(0)
                    .measurementIterations(1)
                    .measurementTime(TimeValue.milliseconds(1))
                    .param("size", "tiny")
                    .param("people", "4")
                    .param("mebibytes", "1")
                    .param("floats", "16", "1024")
                    .shouldFailOnError(true)
                    .verbosity(VerboseMode.SILENT)
                    .build())
            .run();
    System.out.println(ran.size() + " benchmarks computed what they should");
    return 0;
  }

  private int time(Set<String> names) throws RunnerException {
    ResultFile file = results == null ? null : ResultFile.open(results);
    for (String name : names) {
      ChainedOptionsBuilder options =
          new OptionsBuilder()
              .include("^" + Pattern.quote(name) + "$")
              .jvmArgs(JVM.toArray(new String[0]))
              .shouldFailOnError(true);
      Machine before = Machine.now();
      Collection<RunResult> ran = new Runner(options.build()).run();
      double others = Machine.now().othersSince(before);
      if (file != null) {
        ran.forEach(result -> file.put("results", entry(name, result, others)));
        // After each, so that a run that is cut short leaves what it has.
        file.write();
      }
    }
    if (file != null) {
      System.out.println(file.markdown());
    }
    return 0;
  }

  private ObjectNode entry(String name, RunResult run, double others) {
    ObjectNode entry = ResultFile.entry();
    entry.put("benchmark", simple(name));
    ObjectNode parameters = entry.putObject("parameters");
    run.getParams()
        .getParamsKeys()
        .forEach(key -> parameters.put(key, run.getParams().getParam(key)));
    entry.put("shape", shape(name));
    entry.put("mode", run.getParams().getMode().shortLabel());
    put(entry, run.getPrimaryResult());
    if (!run.getSecondaryResults().isEmpty()) {
      ObjectNode counters = entry.putObject("counters");
      run.getSecondaryResults()
          .forEach(
              (key, result) -> {
                // A counter that this benchmark does not count stays 0.
                if (result.getScore() > 0 && Double.isFinite(result.getScore())) {
                  put(counters.putObject(key), result);
                }
              });
    }
    entry.put("others", others);
    entry.put("commit", commit);
    entry.put("command", "bench/jmh/run" + (pattern.isEmpty() ? "" : " '" + pattern + "'"));
    return entry;
  }

  private static void put(ObjectNode into, Result<?> result) {
    into.put("score", result.getScore());
    into.put("error", result.getScoreError());
    into.put("unit", result.getScoreUnit());
    into.put("samples", result.getSampleCount());
  }

  private static String simple(String name) {
    String[] parts = name.split("\\.", -1);
    return parts[parts.length - 2] + "." + parts[parts.length - 1];
  }

  private static String shape(String name) {
    int dot = name.lastIndexOf('.');
    try {
      for (Method method : Class.forName(name.substring(0, dot)).getMethods()) {
        Shape shape = method.getAnnotation(Shape.class);
        if (method.getName().equals(name.substring(dot + 1)) && shape != null) {
          return shape.value();
        }
      }
    } catch (ClassNotFoundException e) {
      throw new IllegalStateException(e);
    }
    throw new IllegalStateException(name + " does not say its shape; annotate it with @Shape");
  }
}
