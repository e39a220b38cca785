package org.lethe.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.bytedeco.pytorch.global.torch;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.torch.TorchLlama;
import org.lethe.torch.TorchStep;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * The step of {@link StepBench} in libtorch alone, by the JavaCPP presets: the same weights and
 * rows, in a padded batch, adapters in the model's storage. Prints one JSON line. Methods whose
 * losses are means over rows; others are refused with exit status 2.
 */
@Command(name = "torch-peer", mixinStandardHelpOptions = true)
public final class TorchPeer implements Callable<Integer> {
  private static final int SEED = 0;
  private static final int TOKENS_PER_PIECE = 4096;

  @Option(names = "--model", required = true, description = "Hugging Face directory")
  Path model;

  @Option(names = "--rows", required = true, description = "JSON of make_rows.py")
  Path rows;

  @Option(names = "--method", defaultValue = "ME+GD")
  String method;

  @Option(names = "--threads", defaultValue = "2")
  int threads;

  @Option(names = "--warmup", defaultValue = "3")
  int warmup;

  @Option(names = "--steps", defaultValue = "10", description = "0: the loss alone")
  int steps;

  @Option(names = "--dtype", defaultValue = "fp32", description = "fp32 or bf16")
  String dtype;

  /** Exits 0, or 2 for bad input. */
  public static void main(String[] args) {
    CommandLine line = new CommandLine(new TorchPeer());
    line.setExecutionExceptionHandler(
        (e, command, parsed) -> {
          if (!(e instanceof UserException)) {
            throw e;
          }
          command.getErr().println(e.getMessage());
          return 2;
        });
    System.exit(line.execute(args));
  }

  @Override
  public Integer call() throws IOException {
    torch.set_num_threads(threads);
    Method objective = StepBench.objective(method, Positions.ANSWER);
    List<List<StepSequence>> batches = Rows.read(rows, objective);
    TrainSettings settings = StepBench.settings(warmup + steps, TOKENS_PER_PIECE);
    try (TorchLlama llama = llama(batches);
        TorchStep step = new TorchStep(llama, objective, settings, TorchStep.Batching.PADDED)) {
      // The copy's own source is gone; the peak that counts begins here.
      Files.writeString(Path.of("/proc/self/clear_refs"), "5", StandardCharsets.US_ASCII);
      System.out.println(new ObjectMapper().writeValueAsString(timed(step, objective, batches)));
      return 0;
    }
  }

  private TorchLlama llama(List<List<StepSequence>> batches) {
    int context =
        batches.stream()
            .flatMap(List::stream)
            .mapToInt(s -> s.tokens().ids().length)
            .max()
            .orElseThrow();
    boolean narrow = dtype.equals("bf16");
    try (Backend backend = Backend.open("cpu", threads);
        Model loaded =
            ModelDirectory.load(
                new Ops(backend, narrow ? Dtype.BF16 : Dtype.F32), model, context)) {
      loaded.addLora(LoraConfig.all(8, 16), SEED);
      return TorchLlama.copyOf(loaded, narrow ? torch.ScalarType.BFloat16 : torch.ScalarType.Float);
    }
  }

  private Map<String, Object> timed(
      TorchStep step, Method objective, List<List<StepSequence>> batches) {
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("method", objective.name());
    result.put("dtype", dtype);
    result.put("loss_step0", step.gradients(batches.get(0)));
    double[] ms = new double[steps];
    long processor = 0;
    for (int i = 0; steps > 0 && i < warmup + steps; i++) {
      if (i == warmup) {
        processor = StepBench.processorNanos();
      }
      long start = System.nanoTime();
      step.run(batches.get(i % batches.size()));
      if (i >= warmup) {
        ms[i - warmup] = Math.round((System.nanoTime() - start) / 1e4) / 100.0;
      }
    }
    if (steps > 0) {
      StepBench.putTimes(result, ms);
      double spent = StepBench.processorNanos() - processor;
      result.put("cpu_ms", Math.round(spent / 1e4 / steps) / 100.0);
    }
    result.put("peak_MB", StepBench.peakMegabytes());
    result.put("threads", threads);
    return result;
  }
}
