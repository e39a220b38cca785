package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.config.AdapterSection;
import org.lethe.config.DataConfig;
import org.lethe.config.EvaluateSection;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.method.Method;
import org.lethe.train.BatchSource;
import org.lethe.train.TrainSettings;

/**
 * What the evaluation of the given model depends on: runs that agree in it share the evaluation.
 */
record SweepStart(
    Optional<Path> model,
    Optional<Path> adapter,
    List<AdapterSection> adapters,
    RunConfig.Dtype dtype,
    RunConfig.QuantizeBase quantizeBase,
    String device,
    int threads,
    DataConfig data,
    EvaluateSection evaluate) {

  static SweepStart of(RunConfig c) {
    return new SweepStart(
        c.model(),
        c.adapter(),
        c.adapters(),
        c.dtype(),
        c.quantizeBase(),
        c.device(),
        c.threads(),
        c.data(),
        c.evaluate());
  }

  /** The runs by what they start from, in their order. */
  static Map<SweepStart, List<SweepCell>> group(List<SweepCell> cells) {
    Map<SweepStart, List<SweepCell>> groups = new LinkedHashMap<>();
    cells.forEach(c -> groups.computeIfAbsent(of(c.config()), s -> new ArrayList<>()).add(c));
    return groups;
  }

  /**
   * Checks of all runs what needs the model, and then judges each given model once.
   *
   * @throws UserException naming the run that cannot be
   */
  static Map<SweepStart, Evaluation> judge(List<SweepCell> cells, RunListener listener) {
    Map<SweepStart, List<SweepCell>> groups = group(cells);
    groups.forEach(
        (start, own) -> {
          try (LoadedModel loaded = LoadedModel.open(own.get(0).config())) {
            own.forEach(cell -> check(cell, loaded, cells));
          }
        });
    Map<SweepStart, Evaluation> evaluations = new LinkedHashMap<>();
    groups.forEach(
        (start, own) -> {
          listener.note("judging " + start.model().orElseThrow() + " as it is, once for all runs");
          evaluations.put(start, Evaluate.run(own.get(0).config(), listener).evaluation());
        });
    return evaluations;
  }

  private static void check(SweepCell cell, LoadedModel loaded, List<SweepCell> all) {
    RunConfig config = cell.config();
    try {
      Method method = Settings.method(config.method());
      BatchSource batches = Unlearn.batches(config, method, Unlearn.Rows.read(config), loaded);
      TrainSettings settings = Settings.train(config.train(), batches.stepsPerEpoch());
      Settings.plan(config, method, settings.steps(), batches.stepsPerEpoch());
      if (!config.train().fullParameters() && config.adapter().isEmpty()) {
        FineTune.loraConfig(config, loaded.model().config());
      }
    } catch (UserException e) {
      throw new UserException(cell.where(all) + e.getMessage(), e);
    }
  }
}
