package org.lethe.engine;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelConfigFile;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.PromptTemplate;
import org.lethe.data.Refusals;
import org.lethe.data.TokenSequence;
import org.lethe.data.Tokenizer;
import org.lethe.evaluate.Evaluation;
import org.lethe.evaluate.Evaluator;
import org.lethe.evaluate.Scoring;
import org.lethe.evaluate.SetObservations;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.model.AdapterRoom;
import org.lethe.model.Generator;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.SpareRule;
import org.lethe.train.Scorer;

/**
 * A model on an engine's device, with its tokenizer and the adapters it may carry. Any thread may
 * call it; what it says is what it is between two steps of its training. One training at a time.
 *
 * <p>Adapters act wherever nothing else is said. Closing frees it; using it afterwards is a {@link
 * UserException}. For interrupted callers see {@link Engine}.
 */
public final class LanguageModel implements AutoCloseable {
  private static final int MAX_NEW_TOKENS = 64;
  private static final int QUESTIONS_AT_A_TIME = 16;

  private final Engine engine;
  private final Path directory;
  private final Model model;
  private final Tokenizer tokenizer;
  private final ExampleEncoder encoder;
  private final ModelConfigFile config;
  // The rest belongs to the engine's thread.
  private Training training;
  private boolean closed;

  private LanguageModel(
      Engine engine,
      Path directory,
      Model model,
      Tokenizer tokenizer,
      ExampleEncoder encoder,
      ModelConfigFile config) {
    this.engine = engine;
    this.directory = directory;
    this.model = model;
    this.tokenizer = tokenizer;
    this.encoder = encoder;
    this.config = config;
  }

  /** Loads it on the engine's thread. */
  static LanguageModel load(Engine engine, Backend backend, Path directory, LoadOptions options) {
    ModelConfig sizes = sizes(directory, options);
    ModelConfigFile config = ModelDirectory.config(directory);
    Tokenizer tokenizer = Tokenizer.load(directory);
    try {
      tokenizer.requireVocabulary(config.model().vocabularySize());
      PromptTemplate template =
          options
              .promptTemplate()
              .map(PromptTemplate::plain)
              .orElseGet(() -> PromptTemplate.chat(tokenizer));
      ExampleEncoder encoder =
          new ExampleEncoder(tokenizer, template, sizes.contextLength(), options.longSequence());
      Ops ops = new Ops(backend, options.dtype());
      Model model =
          ModelDirectory.load(
              ops, directory, sizes.contextLength(), options.weights(), options.adapters());
      return new LanguageModel(engine, directory, model, tokenizer, encoder, config);
    } catch (RuntimeException e) {
      tokenizer.close();
      throw e;
    }
  }

  /**
   * What loading a model will take of the device's memory, in bytes, by its {@code config.json}
   * alone; {@link Engine#predictedBytes} also knows what its device wants for adapters.
   */
  public static long predictedBytes(Path directory, LoadOptions options) {
    return predictedBytes(directory, options, SpareRule.PACKED);
  }

  static long predictedBytes(Path directory, LoadOptions options, SpareRule rule) {
    ModelConfig sizes = sizes(directory, options);
    AdapterRoom room = AdapterRoom.of(rule, sizes, options.adapters());
    return Model.bytes(sizes, options.dtype(), options.weights(), room);
  }

  /** The model's sizes, with the context that it was loaded with. */
  public ModelConfig sizes() {
    return model.config();
  }

  /**
   * How likely an answer is.
   *
   * @return the answer's negative log likelihood in nats, summed over its tokens, and their number
   * @throws UserException when the prompt leaves no room for an answer
   */
  public Scorer.Score score(String question, String answer) {
    return score(List.of(Example.of(question, answer))).get(0);
  }

  /** How likely the right answers are, in order. */
  public List<Scorer.Score> score(List<Example> rows) {
    return on(own -> score(rows, model.lora() != null));
  }

  /**
   * How likely the right answers are to the model without its adapters, which a training of
   * adapters leaves as it was.
   *
   * @throws UserException when the base weights themselves train: the base is gone
   */
  public List<Scorer.Score> scoreBase(List<Example> rows) {
    return on(
        own -> {
          if (model.trainsWeights()) {
            throw new UserException(
                "the base weights of this model train, so the base is not there any more; load it"
                    + " a second time");
          }
          return score(rows, false);
        });
  }

  private List<Scorer.Score> score(List<Example> rows, boolean adapted) {
    if (rows.isEmpty()) {
      return List.of();
    }
    List<TokenSequence> sequences = new ArrayList<>();
    for (Example row : rows) {
      sequences.add(encoder.encode(row.question(), row.answer(), row.source()));
    }
    try (Scorer scorer = Scorer.forSequences(model, sequences, adapted)) {
      return scorer.score(sequences, Positions.ANSWER);
    }
  }

  /**
   * The greedy answer to a question.
   *
   * @param maxNewTokens at most as many tokens
   */
  public String generate(String question, int maxNewTokens) {
    return generate(List.of(question), maxNewTokens).get(0);
  }

  /** The greedy answers to questions, in order; none depends on its neighbours. */
  public List<String> generate(List<String> questions, int maxNewTokens) {
    if (questions.isEmpty()) {
      return List.of();
    }
    return on(
        own -> {
          List<int[]> prompts = questions.stream().map(encoder::encodePrompt).toList();
          int longest = prompts.stream().mapToInt(p -> p.length).max().orElse(1);
          int slots = Math.min(QUESTIONS_AT_A_TIME, prompts.size());
          boolean adapted = model.lora() != null;
          try (Generator generator =
              new Generator(model, slots, (long) longest + Math.max(1, maxNewTokens), adapted)) {
            return generator.greedy(prompts, maxNewTokens, encoder.stopIds()).stream()
                .map(ids -> tokenizer.decode(ids).strip())
                .toList();
          }
        });
  }

  /** Judges the model with at most 64 generated tokens an answer; see the other form. */
  public Evaluation evaluate(Map<String, List<Example>> sets) {
    return evaluate(sets, MAX_NEW_TOKENS);
  }

  /**
   * Judges the model: probability, ROUGE-L, truth ratio and their kin for every set, and the model
   * utility over those to be kept.
   *
   * @param sets examples by name: {@code forget}, {@code retain}, {@code general}, {@code holdout}
   *     have the meanings of {@link Evaluation}; others are scored as sets to be known
   * @param maxNewTokens of a generated answer
   */
  public Evaluation evaluate(Map<String, List<Example>> sets, int maxNewTokens) {
    if (sets.isEmpty() || sets.values().stream().anyMatch(List::isEmpty)) {
      throw new UserException("there is nothing to evaluate in a set; give it examples");
    }
    Map<String, List<Example>> ordered = new LinkedHashMap<>(sets);
    return on(
        own -> {
          Evaluator evaluator =
              new Evaluator(
                  model, tokenizer, encoder, model.view(), maxNewTokens, QUESTIONS_AT_A_TIME);
          List<SetObservations> observed = new ArrayList<>();
          ordered.forEach((name, rows) -> observed.add(evaluator.observe(name, rows)));
          return Evaluation.of(observed, Scoring.of(Refusals::isRefusal));
        });
  }

  /**
   * Adds fresh adapters that train; with them the model says what it said, to the bit, until they
   * are trained. A training adds its own when there are none.
   *
   * @throws UserException when it carries adapters already
   */
  public void addAdapter(LoraConfig adapter, long seed) {
    on(own -> model.addLora(adapter, seed));
  }

  /**
   * Adds adapters in PEFT's layout.
   *
   * @param trains whether a training may go on with them, which takes fp32 master values and
   *     moments
   */
  public void loadAdapter(Path adapter, boolean trains) {
    on(own -> AdapterDirectory.load(model, adapter, trains));
  }

  /** The adapters' rank, alpha and projections; empty without adapters. */
  public Optional<LoraConfig> adapter() {
    return on(own -> Optional.ofNullable(model.lora()).map(lora -> lora.config()));
  }

  /**
   * Writes the adapters as PEFT loads them, in fp32, whole or not at all.
   *
   * @param target a directory that does not exist yet
   */
  public void saveAdapter(Path target) {
    run(
        () -> {
          if (model.lora() == null) {
            throw new UserException("this model carries no adapters; save() writes its weights");
          }
          AdapterDirectory.save(model.lora(), model, directory.toString(), target, false);
        });
  }

  /**
   * Writes the model as transformers loads it: config, weights in the dtype it was loaded with, and
   * the tokenizer's files, whole or not at all.
   *
   * @param target a directory that does not exist yet
   * @throws UserException when it carries adapters, which the weights do not hold
   */
  public void save(Path target) {
    run(
        () -> {
          if (model.lora() != null) {
            throw new UserException(
                "this model's training is in its adapters, not in its weights; write them with"
                    + " saveAdapter()");
          }
          ModelDirectory.save(model, config, directory, target, false);
        });
  }

  /**
   * A training that makes the model forget rows and keep others.
   *
   * @param retain may be empty for a method without a retain loss
   */
  public TrainingBuilder unlearn(Method method, List<Example> forget, List<Example> retain) {
    return new TrainingBuilder(this, "unlearn", method, forget, retain);
  }

  /** A training on the rows' answers: the mean negative log likelihood of their tokens. */
  public TrainingBuilder finetune(List<Example> rows) {
    return new TrainingBuilder(this, "finetune", Methods.fineTuning(), List.of(), rows);
  }

  /** Frees it; a training of it that is not over is stopped after its step. */
  @Override
  public void close() {
    engine.release(this::closeHere);
  }

  private void closeHere() {
    if (closed) {
      return;
    }
    if (training != null) {
      training.closeHere("its model was closed");
    }
    closed = true;
    engine.forget(this);
    tokenizer.close();
    model.close();
  }

  Engine engine() {
    return engine;
  }

  Path directory() {
    return directory;
  }

  Model model() {
    return model;
  }

  ExampleEncoder encoder() {
    return encoder;
  }

  /** Says which training the model is in. */
  void begin(Training next) {
    if (training != null) {
      throw new UserException("this model has a training already; close it first");
    }
    training = next;
  }

  void end(Training over) {
    training = training == over ? null : training;
  }

  /** Runs work on the engine's thread, if the model is open. */
  <T> T on(Function<Backend, T> work) {
    return engine.call(
        own -> {
          if (closed) {
            throw new UserException("this model was closed; load it again");
          }
          return work.apply(own);
        });
  }

  private void run(Runnable work) {
    on(
        own -> {
          work.run();
          return null;
        });
  }

  private static ModelConfig sizes(Path directory, LoadOptions options) {
    ModelConfig own = ModelDirectory.config(directory).model();
    int asked = options.contextLength();
    return asked == 0 ? own : own.withContextLength(Math.min(asked, own.contextLength()));
  }
}
