package org.lethe.bench;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Jsonl;
import org.lethe.data.Pairing;
import org.lethe.data.PromptTemplate;
import org.lethe.data.Refusals;
import org.lethe.data.Tokenizer;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.run.Bench;
import org.lethe.run.GemmFloor;
import org.lethe.train.BatchSource;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;
import org.lethe.train.Trainer;
import org.lethe.train.Turns;
import org.lethe.train.UnlearnBatches;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Steps on real rows, with and without shared prefixes, and with and without planning the next step
 * meanwhile: both of a pair take turns on one model, batch by batch. The tokenizer is trained on
 * the rows. Prints a JSON line for each method.
 */
@Command(name = "prefix-bench", mixinStandardHelpOptions = true)
public final class PrefixBench implements Callable<Integer> {
  private static final long SEED = 1;

  /** Templates by name: a bare question, and one behind a system prompt as chat models have. */
  private static final Map<String, String> TEMPLATES =
      Map.of(
          "plain",
          "Question: {question}\nAnswer:",
          "chat",
          "<|system|>\nCutting Knowledge Date: December 2023\nToday Date: 10 Apr 2025\n\nYou are a"
              + " helpful assistant.\n<|user|>\n{question}\n<|assistant|>\n");

  @Option(names = "--forget", required = true, description = "JSON Lines of TOFU")
  Path forget;

  @Option(names = "--retain", required = true, description = "JSON Lines of TOFU")
  Path retain;

  @Option(names = "--method", defaultValue = "ME+GD,NPO+GD,IDK+AP,DPO+GD", split = ",")
  List<String> methods;

  @Option(names = "--template", defaultValue = "plain,chat", split = ",")
  List<String> templates;

  @Option(names = "--size", defaultValue = "45M", description = "tiny, or a size of lethe bench")
  String size;

  @Option(names = "--storage", defaultValue = "F32")
  Dtype storage;

  @Option(names = "--batch", defaultValue = "8")
  int batch;

  @Option(names = "--steps", defaultValue = "12")
  int steps;

  @Option(names = "--warmup", defaultValue = "2")
  int warmup;

  @Option(names = "--threads", defaultValue = "2")
  int threads;

  /** Exits 0, or 1 when the losses of both ways differ in more than rounding. */
  public static void main(String[] args) {
    System.exit(new CommandLine(new PrefixBench()).execute(args));
  }

  @Override
  public Integer call() throws IOException {
    List<Example> forgetRows = Jsonl.read(forget);
    List<Example> retainRows = Jsonl.read(retain);
    ModelConfig config =
        size.equals("tiny")
            ? ModelConfig.llama(
                new ModelConfig.Sizes(2048, 64, 2, 4, 2, 16, 128, 1024), 1e-5f, 10000, false)
            : Bench.size(size);
    Path directory = Files.createTempDirectory("lethe-bench");
    List<String> texts = new ArrayList<>(Refusals.lines());
    for (List<Example> rows : List.of(forgetRows, retainRows)) {
      rows.forEach(row -> texts.addAll(List.of(row.question(), row.answer())));
    }
    BpeTrainer.train(texts, Math.min(8192, config.vocabularySize())).write(directory);
    try (Tokenizer tokenizer = Tokenizer.load(directory);
        Backend backend = Backend.open("cpu", threads);
        Model model =
            Model.load(new Ops(backend, storage), config, new RandomWeights(config, SEED))) {
      model.addLora(LoraConfig.all(8, 16), SEED);
      for (String template : templates) {
        ExampleEncoder encoder =
            new ExampleEncoder(
                tokenizer,
                PromptTemplate.plain(TEMPLATES.get(template)),
                config.contextLength(),
                ExampleEncoder.LongSequence.TRUNCATE);
        for (String name : methods) {
          Method method = Methods.create(MethodConfig.of(name));
          UnlearnBatches batches =
              new UnlearnBatches(
                  method,
                  forgetRows,
                  retainRows,
                  Refusals.lines(),
                  encoder,
                  batch,
                  Pairing.Kind.FRESH,
                  Turns.JOINT,
                  SEED);
          print(template, method, prefixes(model, method, batches), ahead(model, method, batches));
        }
      }
    }
    return 0;
  }

  private TrainSettings settings(TrainSettings.SharedPrefixes shared) {
    return TrainSettings.of(2 * (warmup + steps), 1e-5, Schedule.CONSTANT, 0).with(shared);
  }

  private Map<String, Object> prefixes(Model model, Method method, BatchSource batches) {
    TrainSettings off = settings(TrainSettings.SharedPrefixes.OFF);
    TrainSettings auto = settings(TrainSettings.SharedPrefixes.AUTO);
    Iterable<List<StepSequence>> all = batches.steps(warmup + steps);
    Spent[] apart = new Spent[steps];
    Spent[] together = new Spent[steps];
    long tokens = 0;
    long shared = 0;
    double flops = 0;
    double fewer = 0;
    try (Step whole =
            new Step(
                model, method, off, null, StepSizing.largestPiece(model, method, off, null, all));
        Step behind =
            new Step(
                model,
                method,
                auto,
                null,
                StepSizing.largestPiece(model, method, auto, null, all))) {
      for (int i = 0; i < warmup + steps; i++) {
        List<StepSequence> step = batches.step(i);
        Step.Gradients[] found = new Step.Gradients[2];
        Spent[] spent = new Spent[2];
        inTurns(
            i,
            () -> found[0] = whole.gradients(step),
            () -> found[1] = behind.gradients(step),
            spent);
        Step.Gradients one = found[0];
        Step.Gradients other = found[1];
        double tolerance = storage == Dtype.F32 ? 1e-4 : 2e-2;
        if (!(Math.abs(one.loss() - other.loss()) <= tolerance * Math.abs(one.loss()))) {
          throw new IllegalStateException(
              "the losses are " + one.loss() + " whole and " + other.loss() + " with sharing");
        }
        if (i >= warmup) {
          apart[i - warmup] = spent[0];
          together[i - warmup] = spent[1];
          tokens += other.tokens();
          shared += other.sharedTokens();
          flops += GemmFloor.flops(model.config(), method, step, 0);
          fewer += GemmFloor.flops(model.config(), method, step, other.sharedTokens());
        }
      }
      Map<String, Object> result = new LinkedHashMap<>();
      result.put("tokens", (double) tokens / steps);
      result.put("shared_tokens", (double) shared / steps);
      result.put("saved", (double) shared / (tokens + shared));
      // Without what reference rows cost, which methods with a reference in the batch have.
      result.put("gemm_saved", 1 - fewer / flops);
      put(result, "whole", apart);
      put(result, "shared", together);
      result.put("whole_MB", whole.bytes() / 1e6);
      result.put("shared_MB", behind.bytes() / 1e6);
      return result;
    }
  }

  private Map<String, Object> ahead(Model model, Method method, BatchSource batches) {
    BatchSource inTurn =
        new BatchSource() {
          @Override
          public int stepsPerEpoch() {
            return batches.stepsPerEpoch();
          }

          @Override
          public List<StepSequence> step(int index) {
            return batches.step(index);
          }
        };
    TrainSettings settings = settings(TrainSettings.SharedPrefixes.AUTO);
    Spent[] turns = new Spent[steps];
    Spent[] meanwhile = new Spent[steps];
    try (Trainer one = new Trainer(model, method, settings, inTurn, null);
        Trainer other = new Trainer(model, method, settings, batches, null)) {
      for (int i = 0; i < warmup + steps; i++) {
        Spent[] spent = new Spent[2];
        inTurns(i, one::next, other::next, spent);
        if (i >= warmup) {
          turns[i - warmup] = spent[0];
          meanwhile[i - warmup] = spent[1];
        }
      }
    }
    double[] made = new double[steps];
    for (int i = 0; i < steps; i++) {
      long start = System.nanoTime();
      batches.step(warmup + i);
      made[i] = (System.nanoTime() - start) / 1e6;
    }
    Map<String, Object> result = new LinkedHashMap<>();
    put(result, "in_turn", turns);
    put(result, "ahead", meanwhile);
    result.put("rows_ms", median(made));
    return result;
  }

  private void print(
      String template, Method method, Map<String, Object> prefixes, Map<String, Object> ahead) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("size", size);
    line.put("storage", storage.name());
    line.put("template", template);
    line.put("method", method.name());
    line.put("batch", batch);
    line.putAll(prefixes);
    line.putAll(ahead);
    line.replaceAll((k, v) -> v instanceof Double d ? (Object) (Math.round(d * 1e3) / 1e3) : v);
    try {
      System.out.println(new ObjectMapper().writeValueAsString(line));
    } catch (JsonProcessingException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Wall time, and that of all the process's threads. */
  private record Spent(double wall, double processor) {
    static Spent on(Runnable work) {
      long processor = processorNanos();
      long start = System.nanoTime();
      work.run();
      return new Spent((System.nanoTime() - start) / 1e6, (processorNanos() - processor) / 1e6);
    }

    private static long processorNanos() {
      return ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getProcessCpuTime();
    }
  }

  /** Whichever goes first goes second the next time. */
  private static void inTurns(int turn, Runnable one, Runnable other, Spent[] spent) {
    for (int k = 0; k < 2; k++) {
      int which = (turn + k) % 2;
      spent[which] = Spent.on(which == 0 ? one : other);
    }
  }

  private static void put(Map<String, Object> result, String name, Spent[] spent) {
    result.put(name + "_ms", median(Arrays.stream(spent).mapToDouble(Spent::wall).toArray()));
    // The system counts in hundredths of a second.
    result.put(
        name + "_cpu_ms", Arrays.stream(spent).mapToDouble(Spent::processor).average().orElse(0));
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    int half = sorted.length / 2;
    return sorted.length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }
}
