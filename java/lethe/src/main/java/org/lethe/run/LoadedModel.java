package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelConfigFile;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.config.AdapterSection;
import org.lethe.config.DataConfig;
import org.lethe.config.MemorySection;
import org.lethe.config.RunConfig;
import org.lethe.config.ViewSection;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Tokenizer;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.model.BaseStorage;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.View;
import org.lethe.model.WeightPlacement;
import org.lethe.train.DeviceCosts;

/**
 * A model directory opened for a run: backend, weights, tokenizer, and the encoder of its prompts.
 * Owns them all; belongs to the thread that opened it.
 */
public final class LoadedModel implements AutoCloseable {
  private final Backend backend;
  private final Model model;
  private final Tokenizer tokenizer;
  private final ExampleEncoder encoder;
  private final ModelConfigFile config;
  private long scratch;

  private LoadedModel(
      Backend backend,
      Model model,
      Tokenizer tokenizer,
      ExampleEncoder encoder,
      ModelConfigFile config) {
    this.backend = backend;
    this.model = model;
    this.tokenizer = tokenizer;
    this.encoder = encoder;
    this.config = config;
  }

  /**
   * Opens {@code config.model} as the configuration says; adapters are not loaded, but there is
   * room for those that it names.
   */
  public static LoadedModel open(RunConfig config) {
    return open(config, List.of());
  }

  /**
   * The same with room for others.
   *
   * @param others adapters that the configuration does not name
   */
  public static LoadedModel open(RunConfig config, List<LoraConfig> others) {
    return open(config, modelDirectory(config), model -> others);
  }

  /** The same with room for the adapters that a training begins with. */
  static LoadedModel openToTrain(RunConfig config) {
    boolean fresh = !config.train().fullParameters() && config.adapter().isEmpty();
    return open(
        config,
        modelDirectory(config),
        model -> fresh ? List.of(FineTune.loraConfig(config, model)) : List.of());
  }

  private static LoadedModel open(
      RunConfig config, Path directory, Function<ModelConfig, List<LoraConfig>> others) {
    ModelConfigFile file = ModelDirectory.config(directory);
    Tokenizer tokenizer = Tokenizer.load(directory);
    Backend backend = null;
    try {
      tokenizer.requireVocabulary(file.model().vocabularySize());
      int context = contextLength(config, file.model().contextLength());
      backend = openBackend(config);
      List<LoraConfig> adapters = new ArrayList<>(named(config));
      adapters.addAll(others.apply(file.model()));
      Ops ops = ops(config, backend);
      LoadingRoom.require(config, ops, file.model().withContextLength(context), adapters);
      Model model = ModelDirectory.load(ops, directory, context, placement(config), adapters);
      startFrom(model, config.adapters());
      nameViews(model, config.views());
      model.optimizer(Settings.optimizer(config.train()));
      return new LoadedModel(backend, model, tokenizer, encoder(config, tokenizer, context), file);
    } catch (RuntimeException e) {
      tokenizer.close();
      if (backend != null) {
        backend.close();
      }
      throw e;
    }
  }

  /** Takes over a model that was made rather than read. */
  static LoadedModel of(
      RunConfig config, Backend backend, Model model, Tokenizer tokenizer, ModelConfigFile file) {
    int context = contextLength(config, file.model().contextLength());
    model.optimizer(Settings.optimizer(config.train()));
    return new LoadedModel(backend, model, tokenizer, encoder(config, tokenizer, context), file);
  }

  /** The adapters that a configuration names: all may lie on the model at one time. */
  private static List<LoraConfig> named(RunConfig config) {
    List<LoraConfig> adapters = new ArrayList<>();
    config.adapters().forEach(a -> adapters.add(AdapterDirectory.config(a.path())));
    config.views().forEach(v -> adapters.add(AdapterDirectory.config(v.path())));
    config.adapter().ifPresent(directory -> adapters.add(AdapterDirectory.config(directory)));
    return adapters;
  }

  private static void startFrom(Model model, List<AdapterSection> adapters) {
    View start = View.BASE;
    for (int i = 0; i < adapters.size(); i++) {
      AdapterSection a = adapters.get(i);
      // The same directory may be named twice; then its coefficients add up.
      start =
          start.plus(
              AdapterDirectory.loadFrozen(model, "adapters[" + i + "]", a.path()), a.coefficient());
    }
    model.startFrom(start);
  }

  private static void nameViews(Model model, List<ViewSection> views) {
    for (ViewSection v : views) {
      String frozen = "views." + v.name();
      model.name(
          v.name(),
          model
              .reference()
              .plus(AdapterDirectory.loadFrozen(model, frozen, v.path()), v.coefficient()));
    }
  }

  static Backend openBackend(RunConfig config) {
    Backend backend =
        config.threads() == 0
            ? Backend.open(config.device())
            : Backend.open(config.device(), config.threads());
    long budget = config.memory().budgetBytes();
    if (budget > 0) {
      backend.limit(budget - DeviceCosts.of(backend.isHost()).overheadBytes());
    }
    return backend;
  }

  static Ops ops(RunConfig config, Backend backend) {
    return new Ops(backend, config.dtype() == RunConfig.Dtype.BF16 ? Dtype.BF16 : Dtype.F32);
  }

  /** How and where the model's weights are to be kept. */
  static WeightPlacement placement(RunConfig config) {
    BaseStorage linears =
        switch (config.quantizeBase()) {
          case NONE -> BaseStorage.PLAIN;
          case NF4 -> BaseStorage.NF4;
          case NF4_DOUBLE -> BaseStorage.NF4_DOUBLE;
        };
    return new WeightPlacement(
        linears, config.memory().embedding() == MemorySection.Embedding.HOST);
  }

  static Path modelDirectory(RunConfig config) {
    return config
        .model()
        .orElseThrow(
            () -> new UserException("model is not set; give a model directory: model=DIR"));
  }

  /**
   * Says that the device's ops will take so many bytes of scratch memory, which then are no room
   * for anything else.
   */
  void takesScratch(RunConfig run, long bytes) {
    scratch = Math.max(scratch, bytes);
    long budget = run.memory().budgetBytes();
    if (budget > 0) {
      backend.limit(budget - DeviceCosts.of(backend.isHost()).overheadBytes() - scratch);
    }
  }

  /** Bytes of scratch memory that the device's ops will take, as far as it is known. */
  long scratch() {
    return scratch;
  }

  /** Puts the configured adapter on the model, if there is one; answers whether. */
  public boolean loadAdapter(RunConfig run) {
    run.adapter().ifPresent(directory -> AdapterDirectory.load(model, directory, false));
    return run.adapter().isPresent();
  }

  /** The device it is on. */
  public Backend backend() {
    return backend;
  }

  /** The weights. */
  public Model model() {
    return model;
  }

  /** Its tokenizer. */
  public Tokenizer tokenizer() {
    return tokenizer;
  }

  /** Makes token sequences of rows, with the model's prompt. */
  public ExampleEncoder encoder() {
    return encoder;
  }

  /** What its config.json says. */
  public ModelConfigFile config() {
    return config;
  }

  @Override
  public void close() {
    tokenizer.close();
    model.close();
    backend.close();
  }

  static int contextLength(RunConfig config, int ofModel) {
    int asked = config.data().contextLength();
    return asked == 0 ? ofModel : Math.min(asked, ofModel);
  }

  private static ExampleEncoder encoder(RunConfig config, Tokenizer tokenizer, int context) {
    return Prompts.encoder(
        config.data(),
        tokenizer,
        context,
        config.data().onTooLong() == DataConfig.Truncation.REFUSE
            ? ExampleEncoder.LongSequence.REFUSE
            : ExampleEncoder.LongSequence.TRUNCATE);
  }
}
