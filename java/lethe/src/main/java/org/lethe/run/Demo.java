package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.lethe.EnvironmentException;
import org.lethe.InternalFaultException;
import org.lethe.LetheException;
import org.lethe.UserException;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Corpus;
import org.lethe.evaluate.Evaluation;
import org.lethe.kernels.Backend;
import org.lethe.report.Table;

/**
 * The whole chain on a small model: it learns facts about fictitious people, forgets some of them
 * by three methods, and keeps the rest. A second model that never saw those people stands beside it
 * as the yardstick.
 *
 * <p>Independent runs go side by side, one thread each: for matrices this small two threads on two
 * models are worth more than two on one.
 */
public final class Demo {
  /**
   * The methods that the demo compares, with what each needs. Found by trying; the same for every
   * seed.
   */
  private static final Map<String, List<String>> METHODS = methods();

  private static final List<String> FINETUNE =
      List.of(
          "scratch.hidden_size=384",
          "scratch.layers=2",
          "scratch.heads=6",
          "scratch.kv_heads=3",
          "scratch.feed_forward_size=1024",
          "scratch.context_length=128",
          "train.full_parameters=true",
          "train.batch_size=8",
          "train.learning_rate=1e-3",
          "train.schedule=cosine",
          "train.warmup_steps=20");

  /**
   * What a demo does.
   *
   * @param output the directory that everything goes into
   * @param device what to compute on, as {@link Backend#open(String, int)} names it
   * @param people how many there are, ten questions each
   * @param fraction of the people that are forgotten
   * @param epochs of fine-tuning
   * @param methods of {@link #allMethods}
   */
  public record Options(
      Path output,
      boolean overwrite,
      String device,
      long seed,
      int people,
      double fraction,
      int epochs,
      List<String> methods) {
    public Options {
      if (people < 2 || people > Corpus.MOST_PEOPLE) {
        throw new UserException(
            "there can be 2 to " + Corpus.MOST_PEOPLE + " people, not " + people);
      }
      if (!(fraction > 0 && fraction < 1)) {
        throw new UserException(
            "the fraction of people to forget must lie between 0 and 1, not " + fraction);
      }
      if (epochs < 1) {
        throw new UserException("the epochs of fine-tuning must be at least 1, not " + epochs);
      }
      methods = List.copyOf(methods);
      for (String method : methods) {
        if (!METHODS.containsKey(method)) {
          throw new UserException(
              "the demo has no method " + method + "; choose of " + METHODS.keySet());
        }
      }
      // Two runs of one method would write one directory.
      if (methods.stream().distinct().count() < methods.size()) {
        throw new UserException("the methods " + methods + " name one twice; name it once");
      }
    }
  }

  /** Every model's evaluation by the name that the table shows, in its order. */
  public record Result(Map<String, Evaluation> evaluations, Table table) {}

  private final Options options;
  private final List<String> fineTuning;
  private final List<String> unlearning;
  private final RunListener listener;
  private final Path data;

  private Demo(
      Options options, List<String> fineTuning, List<String> unlearning, RunListener listener) {
    this.options = options;
    this.fineTuning = fineTuning;
    this.unlearning = unlearning;
    this.listener = listener;
    this.data = options.output().resolve("data");
  }

  /** The methods that can be asked for. */
  public static List<String> allMethods() {
    return List.copyOf(METHODS.keySet());
  }

  /** Runs the demo; {@code listener} is called from several threads, one at a time. */
  public static Result run(Options options, RunListener listener) {
    return run(options, List.of(), List.of(), listener);
  }

  /**
   * The same with smaller numbers.
   *
   * @param fineTuning overrides of every fine-tuning
   * @param unlearning overrides of every unlearning
   */
  static Result run(
      Options options, List<String> fineTuning, List<String> unlearning, RunListener listener) {
    OutputDirectory.check(options.output(), options.overwrite(), 0);
    // A device that is not there is said before anything is written.
    Backend.open(options.device(), 1).close();
    return new Demo(options, fineTuning, unlearning, new OneAtATime(listener)).run();
  }

  private Result run() {
    Corpus corpus = Corpus.generate(options.seed(), options.people());
    corpus.write(data, options.fraction());
    // One tokenizer for both models: likelihoods are compared by token.
    BpeTrainer.train(corpus.texts(), BpeTrainer.DEFAULT_VOCABULARY)
        .write(data.resolve("tokenizer"));
    ExecutorService threads =
        Executors.newFixedThreadPool(
            Math.max(1, Math.min(2, Runtime.getRuntime().availableProcessors())));
    try {
      Future<Evaluation> tuned =
          threads.submit(() -> fineTune("fine-tuned", "full", "general", "open"));
      Future<Evaluation> unaware =
          threads.submit(() -> fineTune("never-saw", "retain", "general", "open"));
      Evaluation before = join(tuned);
      Evaluation neverSaw = join(unaware);
      Map<String, Future<Evaluation>> runs = new LinkedHashMap<>();
      for (String method : options.methods()) {
        Callable<Evaluation> run = () -> unlearn(method, before);
        runs.put(method, threads.submit(run));
      }
      Map<String, Evaluation> all = new LinkedHashMap<>();
      all.put("fine-tuned", before);
      all.put("never saw them", neverSaw);
      runs.forEach((method, run) -> all.put(method, join(run)));
      return new Result(all, table(all, neverSaw));
    } finally {
      threads.shutdownNow();
    }
  }

  private Evaluation fineTune(String name, String... parts) {
    List<String> overrides = common(name);
    overrides.addAll(FINETUNE);
    overrides.add("train.epochs=" + options.epochs());
    overrides.add("scratch.tokenizer=" + quote(data.resolve("tokenizer")));
    List<String> files = new ArrayList<>();
    for (String part : parts) {
      files.add(quote(data.resolve(part + ".jsonl")));
    }
    overrides.add("data.train=" + files);
    overrides.addAll(fineTuning);
    FineTune.run(Config.of(RunConfig.class, overrides), listener);
    List<String> evaluation = common(name);
    evaluation.add("model=" + quote(directory(name).resolve("model")));
    return Evaluate.run(Config.of(RunConfig.class, evaluation), listener).evaluation();
  }

  private Evaluation unlearn(String method, Evaluation before) {
    List<String> overrides = common(method);
    overrides.add("model=" + quote(directory("fine-tuned").resolve("model")));
    overrides.addAll(
        List.of(
            "data.train_on_general=true",
            "train.batch_size=8",
            "train.warmup_steps=10",
            "train.schedule=linear"));
    overrides.addAll(METHODS.get(method));
    overrides.addAll(unlearning);
    return Unlearn.run(Config.of(RunConfig.class, overrides), before, listener).after();
  }

  private List<String> common(String name) {
    List<String> overrides = new ArrayList<>();
    overrides.add("output=" + quote(directory(name)));
    overrides.add("overwrite=" + options.overwrite());
    overrides.add("device=" + options.device());
    overrides.add("seed=" + options.seed());
    overrides.add("threads=1");
    overrides.add("checkpoint.every=never");
    for (String part : List.of("forget", "retain", "general")) {
      overrides.add("data." + part + "=[" + quote(data.resolve(part + ".jsonl")) + "]");
    }
    overrides.add("evaluate.max_new_tokens=40");
    overrides.add("evaluate.batch_size=32");
    return overrides;
  }

  private Path directory(String name) {
    return options.output().resolve(name.toLowerCase(Locale.ROOT).replace('+', '-'));
  }

  private static Table table(Map<String, Evaluation> all, Evaluation neverSaw) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    all.forEach(
        (name, e) ->
            rows.add(
                Table.row(
                    name,
                    e.score("forget", "probability"),
                    e.score("forget", "rouge_l_recall"),
                    e.score("forget", "refusal_rate"),
                    e.score("retain", "probability"),
                    e.score("retain", "rouge_l_recall"),
                    e.score("general", "probability"),
                    e.score("general", "rouge_l_recall"),
                    e.utility(),
                    e.forgetQuality(neverSaw))));
    return new Table(
        "Before and after",
        List.of(
            "model",
            "forget prob",
            "ROUGE-L",
            "refusals",
            "retain prob",
            "ROUGE-L",
            "general prob",
            "ROUGE-L",
            "utility",
            "KS p-value"),
        rows);
  }

  private static Map<String, List<String>> methods() {
    Map<String, List<String>> methods = new LinkedHashMap<>();
    methods.put(
        "ME+GD",
        List.of(
            "method.forget=ME",
            "method.retain=GD",
            "method.forget_positions=answer",
            "method.forget_coefficient=0.2",
            "train.steps=170",
            "train.learning_rate=1e-3"));
    methods.put(
        "NPO+GD",
        List.of(
            "method.forget=NPO",
            "method.retain=GD",
            "method.forget_coefficient=0.2",
            "train.steps=330",
            "train.learning_rate=7e-4"));
    // At 0.1 the preference for the answer is satisfied long before the answer is what is
    // generated.
    methods.put(
        "IDK+AP",
        List.of(
            "method.forget=IDK",
            "method.retain=AP",
            "method.retain_beta=0.5",
            "train.steps=180",
            "train.learning_rate=1e-3"));
    return methods;
  }

  /** A path as a YAML scalar. */
  private static String quote(Path path) {
    return "'" + path.toString().replace("'", "''") + "'";
  }

  private static <T> T join(Future<T> future) {
    try {
      return future.get();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new EnvironmentException("interrupted; start the demo again", e);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof LetheException lethe) {
        throw lethe;
      }
      throw new InternalFaultException("a run of the demo failed: " + e.getCause(), e.getCause());
    }
  }
}
