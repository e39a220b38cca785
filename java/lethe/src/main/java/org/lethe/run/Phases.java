package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelExport;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.checkpoint.StoredDtype;
import org.lethe.config.AdapterSection;
import org.lethe.config.Config;
import org.lethe.config.LoraSection;
import org.lethe.config.PhaseSection;
import org.lethe.config.RunConfig;
import org.lethe.train.StopRequest;

/**
 * Phases one after the other, such as finetune, unlearn, unlearn, evaluate: each in a directory of
 * its own, {@code 01-finetune} and so on, and each on what the ones before it made.
 *
 * <p>What hands over from phase to phase lies on disk, so a run that was interrupted goes on in the
 * phase it was in: phases that are done are kept.
 */
public final class Phases {
  private static final String CONFIG = "config.yaml";
  private static final long SHARD_BYTES = 5_000_000_000L;

  /**
   * What a phase begins with.
   *
   * @param model directory; empty only before the first phase of a run from scratch
   * @param adapters frozen ones, part of the base
   * @param adapter on it, when there is one
   */
  private record State(
      Optional<Path> model, List<AdapterSection> adapters, Optional<Path> adapter) {
    /** The adapter becomes part of the base. */
    State freezing(double coefficient) {
      List<AdapterSection> frozen = new ArrayList<>(adapters);
      frozen.add(new AdapterSection(adapter.orElseThrow(), coefficient));
      return new State(model, List.copyOf(frozen), Optional.empty());
    }
  }

  private final RunConfig config;
  private final RunListener listener;
  private final StopRequest stop;

  private Phases(RunConfig config, RunListener listener, StopRequest stop) {
    this.config = config;
    this.listener = listener;
    this.stop = stop;
  }

  /**
   * Runs all phases into the output directory.
   *
   * @return the phases' directories
   * @throws org.lethe.StoppedException when it was asked to stop and has; it can be resumed
   */
  public static List<Path> run(RunConfig config, RunListener listener, StopRequest stop) {
    requirePhases(config);
    for (int i = 0; i < config.phases().size(); i++) {
      if (config.phases().get(i).task() != PhaseSection.Task.EVALUATE) {
        Settings.requireTrainable(alone(config, i));
      }
    }
    OutputDirectory.check(config.output(), config.overwrite(), 0);
    Inputs.requireOutside(config);
    OutputDirectory.write(
        config.output(),
        config.overwrite(),
        0,
        out -> {
          out.writeString(CONFIG, Config.toYaml(config));
          out.writeString(RunIdentity.FILE, new RunIdentity(RunIdentity.Task.PHASES).json());
        });
    return new Phases(config, listener, stop).run();
  }

  /** Goes on with phases that were interrupted. */
  static List<Path> resume(RunConfig config, RunListener listener, StopRequest stop) {
    return new Phases(config, listener, stop).run();
  }

  /** Whether all phases are done. */
  static boolean finished(RunConfig config) {
    for (int i = 0; i < config.phases().size(); i++) {
      if (!isDone(config.phases().get(i), directory(config, i))) {
        return false;
      }
    }
    return true;
  }

  static void requirePhases(RunConfig config) {
    if (config.phases().isEmpty()) {
      throw new UserException(
          "there are no phases; give the file a list of them, for example phases: [{task:"
              + " finetune}, {task: unlearn}], or use the verb of the one thing to be done");
    }
    boolean scratch = config.scratch().isPresent();
    if (scratch && config.phases().get(0).task() != PhaseSection.Task.FINETUNE) {
      throw new UserException(
          "scratch makes a new model, so the first phase must be finetune, not "
              + name(config.phases().get(0).task()));
    }
    if (!scratch && config.model().isEmpty()) {
      throw new UserException(
          "model is not set; give a model directory, or scratch for a new model");
    }
  }

  private List<Path> run() {
    List<Path> directories = new ArrayList<>();
    State state = new State(config.model(), config.adapters(), config.adapter());
    for (int i = 0; i < config.phases().size(); i++) {
      PhaseSection phase = config.phases().get(i);
      Path directory = directory(config, i);
      State begin = prepare(phase, directory, state);
      RunConfig own = configOf(config, phase, directory, begin, i);
      if (isDone(phase, directory)) {
        listener.note(directory.getFileName() + " is done");
      } else {
        run(phase, directory, own);
      }
      // To judge a model is not to change it.
      state = phase.task() == PhaseSection.Task.EVALUATE ? state : after(directory, begin);
      directories.add(directory);
    }
    return directories;
  }

  private void run(PhaseSection phase, Path directory, RunConfig own) {
    if (RunIdentity.isThere(directory)) {
      Resume.run(directory, listener, stop);
      return;
    }
    clear(directory);
    switch (phase.task()) {
      case FINETUNE -> FineTune.run(own, listener, stop);
      case UNLEARN -> Unlearn.run(own, null, listener, stop);
      case EVALUATE -> Evaluate.runAndWrite(own, listener);
    }
  }

  /**
   * The base a phase works on: where the reference moves, the adapter so far becomes part of it.
   */
  private State prepare(PhaseSection phase, Path directory, State state) {
    if (phase.adapterCoefficient().isPresent()) {
      if (state.adapter().isEmpty()) {
        throw new UserException(
            "phases: "
                + directory.getFileName()
                + " has an adapter_coefficient, but no phase before it made an adapter, and adapter"
                + " is not set; remove the key, or train adapters before (train.full_parameters="
                + "false, no scratch)");
      }
      return state.freezing(phase.adapterCoefficient().get());
    }
    boolean trains = phase.task() != PhaseSection.Task.EVALUATE;
    boolean moves =
        phase.reference() == PhaseSection.Base.MOVING
            || phase.task() == PhaseSection.Task.FINETUNE
            || phase.train().fullParameters();
    if (!trains || !moves || state.adapter().isEmpty()) {
      return state;
    }
    if (!state.adapters().isEmpty() || config.quantizeBase() != RunConfig.QuantizeBase.NONE) {
      // Those cannot be left out of a merged model, so what was trained on them stays beside them;
      // and most of an adapter would be rounded away in 4 bits.
      return state.freezing(1);
    }
    Path merged = directory.resolveSibling(directory.getFileName() + "-base");
    if (!Files.isRegularFile(merged.resolve("config.json"))) {
      // In the storage that the run computes in: nothing more is rounded than the run would.
      StoredDtype dtype =
          config.dtype() == RunConfig.Dtype.FP32 ? StoredDtype.F32 : StoredDtype.BF16;
      ModelExport.write(
          new ModelExport.Request(
              state.model().orElseThrow(),
              state.adapter(),
              merged,
              true,
              Optional.of(dtype),
              SHARD_BYTES));
    }
    return new State(Optional.of(merged), List.of(), Optional.empty());
  }

  /** A phase as a run of its own, as far as that is known before the phases before it have run. */
  static RunConfig alone(RunConfig config, int index) {
    State given =
        new State(
            config.model(), config.adapters(), index == 0 ? config.adapter() : Optional.empty());
    PhaseSection phase = config.phases().get(index);
    return configOf(config, phase, directory(config, index), given, index);
  }

  private static RunConfig configOf(
      RunConfig config, PhaseSection phase, Path directory, State state, int index) {
    boolean continues = phase.task() == PhaseSection.Task.UNLEARN && state.adapter().isPresent();
    LoraSection lora = phase.lora();
    return new RunConfig(
        config.version(),
        state.model(),
        state.adapter(),
        state.adapters(),
        config.views(),
        directory,
        false,
        config.seed(),
        config.dtype(),
        config.quantizeBase(),
        config.device(),
        config.threads(),
        phase.data(),
        phase.method(),
        phase.train(),
        config.memory(),
        continues ? lora.continued() : lora,
        index == 0 ? config.scratch() : Optional.empty(),
        phase.evaluate(),
        config.calibrate(),
        config.quark(),
        config.parity(),
        config.checkpoint(),
        config.tensorboard(),
        List.of());
  }

  private static State after(Path directory, State state) {
    Path model = directory.resolve("model");
    return Files.isDirectory(model)
        ? new State(Optional.of(model), List.of(), Optional.empty())
        : new State(state.model(), state.adapters(), Optional.of(directory.resolve("adapter")));
  }

  private static boolean isDone(PhaseSection phase, Path directory) {
    return Files.isRegularFile(
        directory.resolve(
            phase.task() == PhaseSection.Task.EVALUATE ? "evaluation.json" : "report.md"));
  }

  private static Path directory(RunConfig config, int index) {
    PhaseSection phase = config.phases().get(index);
    int digits = Integer.toString(config.phases().size()).length();
    String number = String.format(Locale.ROOT, "%0" + Math.max(2, digits) + "d", index + 1);
    return config.output().resolve(number + "-" + phase.name().orElse(name(phase.task())));
  }

  private static String name(PhaseSection.Task task) {
    return task.name().toLowerCase(Locale.ROOT);
  }

  /** A phase's directory that a crash left before it said what it is. */
  static void clear(Path directory) {
    try {
      if (Files.isDirectory(directory) && !RunIdentity.isThere(directory)) {
        RunFolder.deleteTree(directory);
      }
    } catch (IOException e) {
      throw new EnvironmentException(
          directory + ": cannot be deleted (" + e + "); delete it yourself", e);
    }
  }
}
