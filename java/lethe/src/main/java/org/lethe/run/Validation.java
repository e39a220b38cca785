package org.lethe.run;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import org.lethe.InternalFaultException;
import org.lethe.LetheException;
import org.lethe.NativeException;
import org.lethe.checkpoint.AdapterFiles;
import org.lethe.checkpoint.ModelCheck;
import org.lethe.checkpoint.ModelConfigFile;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.AdapterSection;
import org.lethe.config.Config;
import org.lethe.config.LoraSection;
import org.lethe.config.RunConfig;
import org.lethe.config.ScratchSection;
import org.lethe.config.TrainConfig;
import org.lethe.config.ViewSection;
import org.lethe.data.Tokenizer;
import org.lethe.evaluate.Evaluation;
import org.lethe.kernels.Backend;
import org.lethe.method.Method;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.Lora;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.train.Step;
import org.lethe.train.StepCount;

/**
 * Everything about a run that can be checked without running it: keys, files and their rows, the
 * model's directory, what the method needs, lengths, the output's place. Lists all of it instead of
 * stopping at the first; trains nothing and writes nothing.
 */
public final class Validation {
  /** Room for reports, metrics and evaluations, which the sizes of weights do not tell. */
  private static final long SMALL_FILES_BYTES = 16L << 20;

  private final RunConfig config;
  private final Task task;
  private final List<Finding> findings = new ArrayList<>();

  private Validation(RunConfig config, Task task) {
    this.config = config;
    this.task = task;
  }

  /**
   * What was found.
   *
   * @param task what the configuration was checked as; empty when too little of it could be read
   */
  public record Result(Optional<Task> task, List<Finding> findings) {
    /** How many findings are of a level. */
    public long count(Finding.Level level) {
      return findings.stream().filter(f -> f.level() == level).count();
    }
  }

  /**
   * Checks a file with overrides laid over it.
   *
   * @param asked what it is to be run as; empty: guessed from the rows it names
   */
  public static Result check(Path file, List<String> overrides, Optional<Task> asked) {
    Config.Checked<RunConfig> checked = Config.check(RunConfig.class, file, overrides);
    List<Finding> findings = new ArrayList<>();
    checked
        .problems()
        .forEach(p -> findings.add(new Finding(Finding.Level.ERROR, "keys", p.getMessage())));
    if (checked.config().isEmpty()) {
      return new Result(asked, findings);
    }
    if (!findings.isEmpty()) {
      findings.add(
          new Finding(
              Finding.Level.NOTE,
              "keys",
              "what follows was checked with the defaults in the place of what was refused"));
    }
    RunConfig config = checked.config().get();
    Task task = asked.orElseGet(() -> Task.guess(config));
    Validation validation = new Validation(config, task);
    validation.run();
    findings.addAll(validation.findings);
    return new Result(Optional.of(task), List.copyOf(findings));
  }

  private void run() {
    if (!config.phases().isEmpty()) {
      phases();
      return;
    }
    DataCheck data = sections();
    attempt("device", () -> Backend.open(config.device(), Math.max(1, config.threads())).close());
    if (task == Task.FINETUNE || task == Task.UNLEARN) {
      boolean all = config.train().fullParameters() || config.scratch().isPresent();
      attempt("train", () -> Settings.requireOptimizer(config, all));
    }
    attempt("evaluate.never_saw", () -> config.evaluate().neverSaw().ifPresent(Evaluation::read));
    if (task == Task.FINETUNE || (task == Task.UNLEARN && !continuesAdapter())) {
      attempt("adapter", () -> FineTune.refuseAdapter(config, task.verb()));
    }
    if (task == Task.FINETUNE && config.scratch().isPresent()) {
      scratch(config.scratch().get(), data);
    } else {
      model(data);
    }
  }

  /** Rows, method and schedule, which need no model. */
  private DataCheck sections() {
    DataCheck data = new DataCheck(config, task, this::add);
    data.read();
    int before = findings.size();
    if (task != Task.EVALUATE) {
      attempt("quantize_base", () -> Settings.requireTrainable(config));
    }
    attempt("method", () -> method(data));
    // Rules name the method's losses: without a method the same fault would be told twice.
    if (findings.size() == before) {
      attempt("train", () -> schedule(data));
    }
    return data;
  }

  /** Cadences, rules and warm-up against the steps that the rows come to. */
  private void schedule(DataCheck data) {
    boolean unlearns = task == Task.UNLEARN;
    int rows = data.rows(unlearns ? "forget" : "train");
    if (task == Task.EVALUATE || rows == 0) {
      return;
    }
    TrainConfig train = config.train();
    int batchSize = unlearns ? Settings.batchSize(train, rows) : train.batchSize();
    int batches = StepCount.batches(rows, batchSize);
    int perEpoch =
        StepCount.of(
            (long) (unlearns ? Settings.turns(train).stepsPerEpoch(batches) : batches)
                * train.stepsPerBatch(),
            "an epoch of " + batches + " batches with steps_per_batch=" + train.stepsPerBatch());
    Method method = unlearns ? Settings.method(config.method()) : Methods.fineTuning();
    Settings.plan(config, method, Settings.train(train, perEpoch).steps(), perEpoch);
  }

  /**
   * The first phase whole; of the others what does not depend on the model that the one before them
   * makes.
   */
  private void phases() {
    attempt("phases", () -> Phases.requirePhases(config));
    for (int i = 0; i < config.phases().size(); i++) {
      Task own = Task.valueOf(config.phases().get(i).task().name());
      Validation phase = new Validation(Phases.alone(config, i), own);
      if (i == 0) {
        phase.run();
      } else {
        phase.sections();
      }
      for (Finding found : phase.findings) {
        add(new Finding(found.level(), "phases[" + i + "]." + found.key(), found.message()));
      }
    }
    output(Optional.empty());
  }

  private boolean continuesAdapter() {
    return config.lora().start() == LoraSection.Start.CONTINUE;
  }

  private void add(Finding finding) {
    findings.add(finding);
  }

  private void error(String key, String message) {
    add(new Finding(Finding.Level.ERROR, key, message));
  }

  /** Runs one check; what it refuses is a finding. */
  private void attempt(String key, Runnable check) {
    try {
      check.run();
    } catch (InternalFaultException e) {
      throw e;
    } catch (LetheException e) {
      if (e instanceof NativeException || e.getCause() instanceof NativeException) {
        // The rest is a trace through native code.
        String first = e.getMessage().lines().findFirst().orElse("");
        error(key, first + "; lethe doctor says what this machine has");
      } else {
        error(key, e.getMessage());
      }
    }
  }

  private void method(DataCheck data) {
    if (task != Task.UNLEARN) {
      return;
    }
    Method method = Settings.method(config.method());
    attempt("method", () -> Step.requireReference(method, config.train().fullParameters()));
    if (QuarkRun.isMethod(config.method())) {
      attempt("quark", () -> QuarkRun.requireSettings(config));
    }
    boolean refuses =
        method.uses().stream()
            .anyMatch(u -> u.role() == Role.FORGET_IDK || u.role() == Role.RETAIN_IDK);
    boolean keeps =
        method.uses().stream()
            .anyMatch(u -> u.role() == Role.RETAIN || u.role() == Role.RETAIN_IDK);
    if (refuses) {
      attempt("data.refusals", () -> Settings.refusals(config));
    }
    boolean prefers = method.uses().stream().anyMatch(u -> u.role() == Role.FORGET_ALTERNATE);
    if (prefers) {
      data.firstWithoutAlternate()
          .ifPresent(
              source ->
                  error(
                      "data.forget",
                      source
                          + ": "
                          + method.name()
                          + " needs another plausible answer, but this row has none; give it"
                          + " \"alternate\", for example by lethe alternates"));
    }
    if (keeps && data.isEmpty("retain") && !config.data().trainOnGeneral()) {
      error(
          "data.retain",
          "the retain set is empty, but "
              + method.name()
              + " pairs every forget row with a retain row; give data.retain a file with rows, or"
              + " set method.retain=none");
    }
  }

  private void scratch(ScratchSection s, DataCheck data) {
    int vocabulary = s.vocabulary();
    if (s.tokenizer().isPresent()) {
      OptionalInt size =
          tokenizer("scratch.tokenizer", s.tokenizer().get(), s.contextLength(), data);
      vocabulary = size.orElse(vocabulary);
    }
    int most = vocabulary;
    attempt("scratch", () -> output(Optional.of(FineTune.sizes(s, most))));
  }

  private void model(DataCheck data) {
    ModelConfig[] sizes = {null};
    attempt(
        "model",
        () -> {
          Path directory = LoadedModel.modelDirectory(config);
          ModelConfigFile file = ModelDirectory.config(directory);
          sizes[0] = file.model();
          attempt(
              "model", () -> ModelCheck.problems(directory, file).forEach(p -> error("model", p)));
          OptionalInt vocabulary =
              tokenizer("model", directory, file.model().contextLength(), data);
          if (vocabulary.orElse(0) > file.model().vocabularySize()) {
            error(
                "model",
                directory
                    + ": the tokenizer has token ids up to "
                    + (vocabulary.getAsInt() - 1)
                    + ", but the model's vocabulary is "
                    + file.model().vocabularySize()
                    + "; use the tokenizer that belongs to the model");
          }
        });
    if (sizes[0] != null) {
      for (AdapterSection a : config.adapters()) {
        attempt("adapters", () -> AdapterFiles.check(a.path(), sizes[0]));
      }
      for (ViewSection v : config.views()) {
        attempt("views", () -> AdapterFiles.check(v.path(), sizes[0]));
      }
    }
    if (sizes[0] != null && (task == Task.EVALUATE || continuesAdapter())) {
      attempt("adapter", () -> config.adapter().ifPresent(a -> AdapterFiles.check(a, sizes[0])));
    }
    output(Optional.ofNullable(sizes[0]));
  }

  /** Checks a tokenizer and, with it, every row's length; answers its vocabulary's size. */
  private OptionalInt tokenizer(String key, Path directory, int ofModel, DataCheck data) {
    int[] size = {-1};
    int asked = config.data().contextLength();
    if (asked > ofModel) {
      add(
          new Finding(
              Finding.Level.NOTE,
              "data.context_length",
              "is " + asked + ", but the model has " + ofModel + " positions; those are used"));
    }
    int context = asked == 0 ? ofModel : Math.min(asked, ofModel);
    attempt(
        key,
        () -> {
          try (Tokenizer tokenizer = Tokenizer.load(directory)) {
            size[0] = tokenizer.vocabularySize();
            tokenizer.eosId();
            if (task == Task.UNLEARN && QuarkRun.isMethod(config.method())) {
              attempt("quark.tokens", () -> QuarkRun.controls(config.quark(), tokenizer));
            }
            data.lengths(tokenizer, context);
          }
        });
    return size[0] < 0 ? OptionalInt.empty() : OptionalInt.of(size[0]);
  }

  /** Whether the results can be written, and how large they are when the sizes are known. */
  private void output(Optional<ModelConfig> sizes) {
    long bytes = SMALL_FILES_BYTES;
    if (sizes.isPresent()) {
      try {
        bytes += resultBytes(sizes.get());
      } catch (LetheException e) {
        error("lora", e.getMessage());
      }
    }
    long expected = bytes;
    if (config.output().toAbsolutePath().normalize().getFileName() == null) {
      error("output", config.output() + ": is the root directory; choose another output");
      return;
    }
    attempt("output", () -> OutputDirectory.check(config.output(), config.overwrite(), expected));
    attempt("output", () -> Inputs.requireOutside(config));
    Path parent = existingParent(Inputs.real(config.output()));
    if (!Files.isDirectory(parent) || !Files.isWritable(parent)) {
      error(
          "output",
          parent
              + ": nothing can be written here; change its permissions or choose another output");
    }
  }

  private long resultBytes(ModelConfig sizes) {
    return switch (task) {
      case EVALUATE -> 0;
      case FINETUNE, UNLEARN -> {
        if (config.scratch().isPresent() || config.train().fullParameters()) {
          int width = config.dtype() == RunConfig.Dtype.BF16 ? Short.BYTES : Float.BYTES;
          yield Model.layout(sizes).count() * width;
        }
        yield Lora.layout(sizes, FineTune.loraConfig(config, sizes)).count() * Float.BYTES;
      }
    };
  }

  private static Path existingParent(Path path) {
    Path at = path;
    while (!Files.exists(at) && at.getParent() != null) {
      at = at.getParent();
    }
    return at;
  }
}
