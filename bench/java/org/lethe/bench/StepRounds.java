package org.lethe.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.model.DeviceWeights;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.Parameter;
import org.lethe.model.WeightPlacement;
import org.lethe.train.Step;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Lethe's side of {@code bench/peers/gpu/steps.py}: a model with random weights that makes one step
 * for each line "step" on its standard input, so that its peers can take turns with it. Each answer
 * is one JSON line; the first says the loss before any update, and which sequence of normal numbers
 * ({@code lethe_random_normal}) each matrix holds.
 */
@Command(name = "step-rounds", mixinStandardHelpOptions = true)
public final class StepRounds implements Callable<Integer> {
  private static final long SEED = 1;
  private static final int TOKENS_PER_PIECE = 4096;
  private static final int MOST_STEPS = 100_000;

  @Option(names = "--device", required = true)
  String device;

  @Option(names = "--threads", defaultValue = "2")
  int threads;

  @Option(names = "--storage", defaultValue = "BF16")
  Dtype storage;

  @Option(names = "--model", required = true, description = "1B, 7B, tiny or tiny-tied")
  String model;

  @Option(names = "--rows", required = true, description = "JSON as make_rows.py writes it")
  Path rows;

  @Option(names = "--method", defaultValue = "ME+GD")
  String method;

  @Option(names = "--rank", defaultValue = "8")
  int rank;

  private final ObjectMapper json = new ObjectMapper();

  /** Exits 0 when its input ends. */
  public static void main(String[] args) {
    System.exit(new CommandLine(new StepRounds()).execute(args));
  }

  @Override
  public Integer call() throws IOException {
    Method objective = StepBench.objective(method, Positions.ANSWER);
    List<StepSequence> sequences = Rows.read(rows, objective).get(0);
    ModelConfig config = DeviceSteps.model(model);
    TrainSettings settings = StepBench.settings(MOST_STEPS, TOKENS_PER_PIECE);
    try (Backend backend = Backend.open(device, threads)) {
      long free = backend.memory().free();
      Ops ops = new Ops(backend, storage);
      LoraConfig lora = LoraConfig.all(rank, 2.0 * rank);
      DeviceWeights weights = new DeviceWeights(config, SEED);
      try (Model loaded = Model.load(ops, config, weights, WeightPlacement.PLAIN, List.of(lora))) {
        loaded.addLora(lora, SEED);
        int largest = StepSizing.largestPiece(objective, settings, null, List.of(sequences));
        try (Step step = new Step(loaded, objective, settings, null, largest)) {
          Map<String, Object> ready = new LinkedHashMap<>();
          ready.put("loss", step.gradients(sequences).loss());
          ready.put("matrices", matrices(config));
          answer(ready);
          serve(backend, step, sequences, free);
          return 0;
        }
      }
    }
  }

  private static List<Map<String, Object>> matrices(ModelConfig config) {
    List<Map<String, Object>> matrices = new ArrayList<>();
    List<Parameter> all = List.copyOf(Model.layout(config).parameters().values());
    for (Parameter p : all) {
      if (!p.vector()) {
        Map<String, Object> matrix = new LinkedHashMap<>();
        matrix.put("name", p.name());
        matrix.put("sequence", DeviceWeights.sequence(SEED, all.size(), all.indexOf(p)));
        matrices.add(matrix);
      }
    }
    return matrices;
  }

  private void serve(Backend backend, Step step, List<StepSequence> sequences, long free)
      throws IOException {
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    int done = 0;
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      boolean recorded = line.equals("launches");
      if (recorded) {
        backend.recordLaunches(true);
      }
      long start = System.nanoTime();
      step.run(done++, sequences, StepBench.LEARNING_RATE);
      backend.synchronize();
      Map<String, Object> found = new LinkedHashMap<>();
      found.put("ms", (System.nanoTime() - start) / 1e6);
      found.put("device_bytes", free - backend.memory().free());
      if (recorded) {
        found.put("launches", TimedSteps.counted(backend.launches()));
        backend.recordLaunches(false);
      }
      answer(found);
    }
  }

  private void answer(Map<String, Object> values) throws IOException {
    System.out.println(json.writeValueAsString(values));
    System.out.flush();
  }
}
