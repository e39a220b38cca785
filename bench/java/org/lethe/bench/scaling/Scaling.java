package org.lethe.bench.scaling;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.lethe.EnvironmentException;
import org.lethe.LetheException;
import org.lethe.UserException;
import org.lethe.bench.Machine;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * How time grows with tokens, vocabulary, rank, sequence and model, of the head, a linear with
 * LoRA, attention and the whole step, on any device. Every point's result is checked. Writes
 * PREFIX.json and PREFIX.md; points that memory or time do not allow stand there with the reason.
 */
@Command(name = "scaling", mixinStandardHelpOptions = true)
public final class Scaling implements Callable<Integer> {
  private static final double MEMORY_SHARE = 0.8;

  @Option(names = "--device", defaultValue = "cpu")
  String device;

  @Option(names = "--threads", description = "of the CPU; default: one per processor")
  int threads = Runtime.getRuntime().availableProcessors();

  @Option(names = "--storage", description = "F32 or BF16; default: F32 on the CPU, else BF16")
  Dtype storage;

  @Option(names = "--seconds", defaultValue = "420", description = "for all; default: 420")
  double seconds;

  @Option(
      names = "--memory",
      description = "gigabytes that a point may take; default: 80 % of what is free")
  Double gigabytes;

  @Option(names = "--curves", split = ",", description = "names, such as head-tokens; default: all")
  List<String> only = List.of();

  @Option(names = "--tiny", description = "Moments, no figures: that it runs")
  boolean tiny;

  @Option(names = "--prefix", required = true, description = "of the two result files")
  Path prefix;

  @Option(names = "--commit", defaultValue = "unknown")
  String commit;

  @Option(names = "--date", defaultValue = "unknown")
  String date;

  @Option(names = "--command", defaultValue = "bench/scaling/run")
  String command;

  /** Exits 0, 1 when a result is wrong, 2 for bad input, 3 when the machine lacks the device. */
  public static void main(String[] args) {
    CommandLine line = new CommandLine(new Scaling());
    // bench/gpu/run gives its own, and those of who calls it behind them.
    line.setOverwrittenOptionsAllowed(true);
    line.setExecutionExceptionHandler(
        (e, parsed, result) -> {
          if (!(e instanceof LetheException)) {
            throw e;
          }
          parsed.getErr().println(e.getMessage());
          return e instanceof UserException ? 2 : e instanceof EnvironmentException ? 3 : 1;
        });
    System.exit(line.execute(args));
  }

  @Override
  public Integer call() throws IOException {
    JsonMapper json = JsonMapper.builder().build();
    try (Backend backend = Backend.open(device, threads)) {
      Dtype dtype = storage != null ? storage : backend.isHost() ? Dtype.F32 : Dtype.BF16;
      long memory =
          gigabytes != null
              ? (long) (gigabytes * 1e9)
              : (long) (MEMORY_SHARE * backend.memory().free());
      Machine before = Machine.now();
      Measurement measurement =
          new Measurement(new Ops(backend, dtype), memory, seconds, System.out::println);
      ObjectNode document = json.createObjectNode();
      document.put("what", "scaling").set("device", json.readTree(backend.description()));
      document.put("processor", Machine.processor());
      document.put("threads", threads).put("storage", StepSubject.storage(dtype));
      document.put("commit", commit).put("date", date).put("command", command);
      document.put("seconds", seconds).put("memory_bytes", memory).put("tiny", tiny);
      measurement.run(
          chosen(backend.isHost()),
          all -> {
            document.put("others", Math.rint(1e3 * Machine.now().othersSince(before)) / 1e3);
            Results.put(document, all);
            write(document);
          });
      System.out.printf(
          "wrote %s.json and .md: %d points NOT RUN%n",
          prefix.getFileName(), document.path("not_run").asInt());
      return 0;
    }
  }

  private void write(ObjectNode document) {
    try {
      Results.write(prefix, document);
    } catch (IOException e) {
      throw new UncheckedIOException(prefix + ".json and .md cannot be written", e);
    }
  }

  private List<Curve> chosen(boolean host) {
    List<Curve> all = tiny ? Curves.tiny() : host ? Curves.forHost() : Curves.forDevice();
    List<String> names = all.stream().map(Curve::name).collect(Collectors.toList());
    for (String name : only) {
      if (!names.contains(name)) {
        throw new UserException(
            "--curves: there is no " + name + "; choose of " + String.join(", ", names));
      }
    }
    return only.isEmpty() ? all : all.stream().filter(c -> only.contains(c.name())).toList();
  }
}
