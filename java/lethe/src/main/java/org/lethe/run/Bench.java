package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Consumer;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.config.RunConfig;
import org.lethe.data.CounterRng;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.method.Use;
import org.lethe.model.ModelConfig;
import org.lethe.train.StepSequence;

/**
 * What this machine does with Lethe: a matrix product, attention, the head and a whole step, each
 * checked against plain arithmetic before it is timed. Takes less than a minute with the defaults
 * and about a gigabyte of memory; opens and closes its own backend, so any thread may call it.
 */
public final class Bench {
  /** Timings shorter than that many calls say little. */
  private static final int FEWEST_CALLS = 3;

  private static final int MOST_CALLS = 1000;
  private static final long SEED = 20240607;

  private Bench() {}

  /**
   * What is timed.
   *
   * @param model whose sizes attention, head and step have; its weights are random
   * @param storage of weights and activations, {@link Dtype#F32} or {@link Dtype#BF16}
   * @param device what is timed, as {@link Backend#open(String, int)} names it
   * @param threads that an op uses; 0: one per processor
   * @param method the step's, such as "ME+GD", with its default options
   * @param pairs forget sequences of a step, and as many retain sequences
   * @param length tokens of each sequence, at least 4; at most the model's context
   * @param seconds that each timing takes at least, unless a thousand calls need less
   */
  public record Options(
      ModelConfig model,
      Dtype storage,
      String device,
      int threads,
      String method,
      int pairs,
      int length,
      double seconds) {
    public Options {
      require(storage == Dtype.F32 || storage == Dtype.BF16, "storage", storage, "F32 or BF16");
      require(
          threads >= 0 && threads <= RunConfig.MOST_THREADS,
          "threads",
          threads,
          "from 0 to " + RunConfig.MOST_THREADS);
      require(pairs >= 1, "pairs", pairs, "at least 1");
      require(length >= 4, "length", length, "at least 4");
      require(
          length <= model.contextLength(), "length", length, "at most " + model.contextLength());
      require(
          seconds >= 0 && seconds <= 600, "seconds", seconds, "between 0 and 600 for each timing");
    }

    /** A step of ME+GD on 8 + 8 sequences of 128 tokens in fp32, some four seconds a timing. */
    public static Options of(ModelConfig model) {
      return new Options(model, Dtype.F32, "cpu", 0, "ME+GD", 8, 128, 4);
    }

    private static void require(boolean holds, String name, Object value, String rule) {
      if (!holds) {
        throw new UserException("bench: " + name + " is " + value + ", must be " + rule);
      }
    }
  }

  /**
   * How long one call took.
   *
   * @param name what was called
   * @param shape its sizes, in words
   * @param medianMs milliseconds of a call, the median
   * @param leastMs the least of all calls
   * @param calls how many were timed
   * @param gflop 10⁹ floating-point operations of a call, those that its matrix products need
   * @param tokens of a call; 0 where there are none to count
   */
  public record Timing(
      String name,
      String shape,
      double medianMs,
      double leastMs,
      int calls,
      double gflop,
      long tokens) {
    /** By the median. */
    public double gflopPerSecond() {
      return gflop / medianMs * 1e3;
    }

    /** By the median. */
    public double tokensPerSecond() {
      return tokens / medianMs * 1e3;
    }
  }

  /**
   * All timings of a run.
   *
   * @param version of Lethe
   * @param java version of the JVM
   * @param processor its name, as the system says it
   * @param backend one line of JSON: {@link Backend#description}
   * @param storage of weights and activations
   * @param timings in the order they were taken
   */
  public record Result(
      String version,
      String java,
      String processor,
      String backend,
      Dtype storage,
      List<Timing> timings) {
    public Result {
      timings = List.copyOf(timings);
    }
  }

  /** The models that can be asked for by name: Llamas with random weights. */
  public static Map<String, ModelConfig> sizes() {
    Map<String, ModelConfig> sizes = new LinkedHashMap<>();
    sizes.put(
        "4M",
        ModelConfig.llama(
            new ModelConfig.Sizes(2048, 256, 4, 4, 2, 64, 704, 512), 1e-5f, 10000, true));
    sizes.put(
        "45M",
        ModelConfig.llama(
            new ModelConfig.Sizes(32000, 512, 4, 8, 8, 64, 1344, 1024), 1e-5f, 10000, false));
    sizes.put(
        "134M",
        ModelConfig.llama(
            new ModelConfig.Sizes(32000, 768, 12, 12, 12, 64, 2048, 1024), 1e-5f, 10000, false));
    return sizes;
  }

  /**
   * The model of a name.
   *
   * @throws UserException when there is none of that name
   */
  public static ModelConfig size(String name) {
    ModelConfig size = sizes().get(name);
    if (size == null) {
      throw new UserException(
          "bench: there is no size "
              + name
              + "; choose one of "
              + String.join(", ", sizes().keySet()));
    }
    return size;
  }

  /**
   * Checks, then times.
   *
   * @param progress is told what comes next, on the calling thread
   * @throws InternalFaultException when a result is wrong: nothing of that kind was timed
   */
  public static Result run(Options options, Consumer<String> progress) {
    Method method = Methods.create(MethodConfig.of(options.method()));
    int threads =
        options.threads() == 0 ? Runtime.getRuntime().availableProcessors() : options.threads();
    try (Backend backend = Backend.open(options.device(), threads)) {
      Ops ops = new Ops(backend, options.storage());
      BenchKernels kernels = new BenchKernels(ops, options);
      List<Timing> timings = new ArrayList<>();
      progress.accept("matrix product");
      timings.add(kernels.gemm());
      progress.accept("attention");
      timings.addAll(kernels.attention());
      progress.accept("head");
      timings.add(kernels.head());
      progress.accept("training step");
      timings.add(BenchStep.time(ops, options, method));
      return new Result(
          Version.string(),
          Runtime.version().toString(),
          (String) new Machine(Path.of("/")).processors().get("model"),
          backend.description(),
          options.storage(),
          timings);
    }
  }

  /**
   * A step of random tokens: sequences of the roles that a method looks at, all of the same length,
   * a third of each its question; both answers to a question follow the same tokens.
   *
   * @param vocabulary tokens are below it
   * @param pairs sequences of each role
   * @param length of each sequence, at least 4
   */
  public static List<StepSequence> sequences(Method method, int vocabulary, int pairs, int length) {
    Set<Role> roles = EnumSet.noneOf(Role.class);
    method.uses().stream().map(Use::role).forEach(roles::add);
    int question = length / 3;
    List<StepSequence> sequences = new ArrayList<>();
    for (int pair = 0; pair < pairs; pair++) {
      for (Role role : roles) {
        boolean forgets = role == Role.FORGET || role == Role.FORGET_IDK;
        int[] ids = new int[length];
        for (int t = 0; t < length; t++) {
          long stream = t < question ? (forgets ? -1 : -2) : role.name().hashCode();
          ids[t] = CounterRng.below(vocabulary, SEED, stream, pair, t);
        }
        TokenSequence tokens = new TokenSequence(ids, question);
        sequences.add(new StepSequence(role, pair, tokens, role + " " + pair));
      }
    }
    return sequences;
  }

  /** Calls {@code work} until the time is over, and waits for each call's end. */
  static Timing time(
      Backend backend,
      Options options,
      String name,
      String shape,
      double flop,
      long tokens,
      Runnable work) {
    work.run();
    backend.synchronize();
    double[] taken = new double[MOST_CALLS];
    int calls = 0;
    double sum = 0;
    while (calls < FEWEST_CALLS || (sum < options.seconds() * 1e3 && calls < MOST_CALLS)) {
      long start = System.nanoTime();
      work.run();
      backend.synchronize();
      taken[calls] = (System.nanoTime() - start) / 1e6;
      sum += taken[calls++];
    }
    double[] sorted = Arrays.copyOf(taken, calls);
    Arrays.sort(sorted);
    double median = (sorted[(calls - 1) / 2] + sorted[calls / 2]) / 2;
    return new Timing(name, shape, median, sorted[0], calls, flop / 1e9, tokens);
  }

  /** Fails when a number is not what plain arithmetic says. */
  static void check(String what, double actual, double expected, double tolerance) {
    // Written so that a NaN fails.
    if (!(Math.abs(actual - expected) <= tolerance)) {
      throw new InternalFaultException(
          "bench: "
              + what
              + " is "
              + actual
              + ", must be "
              + expected
              + " within "
              + tolerance
              + "; a kernel is wrong on this machine, and nothing was timed");
    }
  }
}
