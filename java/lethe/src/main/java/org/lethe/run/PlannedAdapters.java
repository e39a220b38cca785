package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterFiles;
import org.lethe.config.LoraSection;
import org.lethe.config.RunConfig;
import org.lethe.config.ViewSection;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.Sources;
import org.lethe.method.Use;
import org.lethe.model.AdapterWidths;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.ModelConfig;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.Trainable;

/**
 * The adapters of a training that nothing was loaded of, by their configurations and the headers of
 * their files.
 *
 * @param trained null: all weights train
 * @param sized whether the configuration says how large they are, and not a file that they come
 *     from
 * @param frozen those that the run starts from, then those of its views
 */
record PlannedAdapters(LoraConfig trained, boolean sized, List<LoraConfig> frozen) {
  PlannedAdapters {
    frozen = List.copyOf(frozen);
  }

  /**
   * What a configuration names, held to a model of these sizes.
   *
   * @throws UserException when a run of it would be refused: the adapters do not fit the model, or
   *     not what trains
   */
  static PlannedAdapters of(RunConfig config, ModelConfig model, Task task) {
    boolean continues = task == Task.UNLEARN && config.lora().start() == LoraSection.Start.CONTINUE;
    if (!continues) {
      FineTune.refuseAdapter(config, task.verb());
    }
    List<LoraConfig> frozen = new ArrayList<>();
    config.adapters().forEach(a -> frozen.add(read(a.path(), model)));
    config.views().forEach(v -> frozen.add(read(v.path(), model)));
    if (config.train().fullParameters()) {
      if (!frozen.isEmpty() || config.adapter().isPresent()) {
        throw new UserException(
            "all weights train, and adapters lie on them; merge the adapters into the model first,"
                + " or train adapters (train.full_parameters=false)");
      }
      return new PlannedAdapters(null, false, frozen);
    }
    LoraConfig trained =
        config
            .adapter()
            .map(directory -> read(directory, model))
            .orElseGet(() -> FineTune.loraConfig(config, model));
    return new PlannedAdapters(trained, config.adapter().isEmpty(), frozen);
  }

  private static LoraConfig read(Path directory, ModelConfig model) {
    return AdapterFiles.check(directory, model).lora();
  }

  /**
   * Refuses a method that compares with models that nothing names.
   *
   * @throws UserException naming the view
   */
  static void requireViews(Method method, RunConfig config) {
    List<String> named = config.views().stream().map(ViewSection::name).toList();
    Set<String> wanted = new LinkedHashSet<>();
    for (Use use : method.uses()) {
      wanted.add(use.view());
      if (!use.sources().policy().equals(Sources.TRAINED)) {
        wanted.add(use.sources().policy());
      }
      if (use.sources().second() != null) {
        wanted.add(use.sources().second());
      }
    }
    wanted.remove(Use.BASE);
    for (String name : wanted) {
      if (!named.contains(name)) {
        throw new UserException(
            method.name()
                + " compares with a model named "
                + name
                + ", but views names "
                + (named.isEmpty() ? "none" : named)
                + "; give its adapter: views=[{name: "
                + name
                + ", path: DIR}]");
      }
    }
  }

  /** The same with other adapters that train. */
  PlannedAdapters with(LoraConfig other) {
    return new PlannedAdapters(other, true, frozen);
  }

  /** All that may lie on the model at one time. */
  List<LoraConfig> all() {
    List<LoraConfig> all = new ArrayList<>(frozen);
    if (trained != null) {
      all.add(trained);
    }
    return all;
  }

  /** The widths of u that hold whatever the view. */
  AdapterWidths widths(ModelConfig model) {
    return AdapterWidths.of(model, all());
  }

  /** Bytes that the frozen ones take. */
  long frozenBytes(ModelConfig model, Dtype dtype) {
    return frozen.stream().mapToLong(lora -> bytes(model, lora, dtype)).sum();
  }

  /** Bytes that what trains takes beside the weights: adapters, or the state of all of these. */
  long trainedBytes(ModelConfig model, Dtype dtype, OptimizerConfig optimizer) {
    if (trained == null) {
      return Trainable.bytes(model, dtype, optimizer);
    }
    return bytes(model, trained, dtype)
        + Trainable.bytes(Lora.layout(model, trained), dtype, optimizer);
  }

  /** Bytes that the working copy of adapters takes. */
  private static long bytes(ModelConfig model, LoraConfig lora, Dtype dtype) {
    Arena counting = new Arena(null);
    counting.reserve(Lora.layout(model, lora).elements(), dtype);
    return counting.bytes();
  }
}
