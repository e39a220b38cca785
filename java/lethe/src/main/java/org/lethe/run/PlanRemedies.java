package org.lethe.run;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.UnaryOperator;
import org.lethe.config.RunConfig;
import org.lethe.kernels.Dtype;
import org.lethe.model.BaseStorage;
import org.lethe.model.LoraConfig;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.WeightPlacement;
import org.lethe.train.FusedSteps;
import org.lethe.train.MemorySettings;
import org.lethe.train.TrainSettings;

/**
 * Which settings make a training fit that does not: one by one; when none does, one on top of the
 * other. What trains fewer numbers, and so learns something else, is said last: a smaller rank, or
 * adapters in place of all weights.
 */
final class PlanRemedies {
  private static final int SHORT_ANSWER = 16;

  private final RunConfig config;
  private final long available;

  private PlanRemedies(RunConfig config, long available) {
    this.config = config;
    this.available = available;
  }

  /**
   * What there is to say of a training that wants more than so many bytes.
   *
   * @param config what it was planned from
   */
  static List<String> of(RunConfig config, PlannedTraining training, long available) {
    return new PlanRemedies(config, available).of(training);
  }

  private List<String> of(PlannedTraining training) {
    List<String> found = new ArrayList<>();
    if (fits(training)) {
      // The budget alone makes pieces smaller and computes layers again.
      found.add("memory.budget=" + available / 1_000_000 + "MB");
    }
    for (Change change : changes(training)) {
      if (fits(change.on(training))) {
        found.add(change.setting());
      }
    }
    if (found.isEmpty()) {
      smallerRank(training).ifPresent(found::add);
    }
    List<String> together = new ArrayList<>();
    PlannedTraining reduced = training;
    List<Change> left = changes(reduced);
    while (found.isEmpty() && !left.isEmpty()) {
      Change next = left.get(0);
      reduced = next.on(reduced);
      together.add(next.setting());
      if (fits(reduced)) {
        found.add(String.join(" ", together));
      }
      left = changes(reduced);
    }
    if (found.isEmpty()) {
      String before = String.join(" ", together) + " ";
      smallerRank(reduced).ifPresent(rank -> found.add((before + rank).strip()));
    }
    if (!training.trainsAdapters()) {
      return withAdapters(training, found);
    }
    if (found.isEmpty()) {
      long least = PlannedTraining.most(reduced.phases(reduced.cut(true), 0));
      together.add("memory.budget=" + (least / 1_000_000 + 1) + "MB");
      found.add(String.join(" ", together) + ", where there is so much, or a smaller model");
    }
    return found;
  }

  /** What was found, and what adapters in place of all weights would do. */
  private List<String> withAdapters(PlannedTraining training, List<String> found) {
    PlannedTraining adapters = training.with(FineTune.loraConfig(config, training.model()));
    String setting =
        "train.full_parameters=false"
            + (training.optimizer().fused() ? " train.fused_update=false" : "");
    if (fits(adapters)) {
      found.add(setting);
    } else if (found.isEmpty()) {
      of(adapters).forEach(more -> found.add(setting + " " + more));
    }
    return found;
  }

  private boolean fits(PlannedTraining training) {
    return training.fit(available).isPresent();
  }

  /** The largest smaller rank with which it fits, of the powers of two. */
  private Optional<String> smallerRank(PlannedTraining training) {
    if (!training.trainsAdapters() || !training.adapters().sized()) {
      return Optional.empty();
    }
    LoraConfig lora = training.adapters().trained();
    int rank = Integer.highestOneBit(Math.max(1, lora.rank() - 1));
    // Whether any does is asked first: a plan of a thousand layers takes a while.
    if (lora.rank() == 1 || !fits(training.with(lora.withRank(1)))) {
      return Optional.empty();
    }
    while (!fits(training.with(lora.withRank(rank)))) {
      rank /= 2;
    }
    return Optional.of("lora.rank=" + rank);
  }

  /** A setting that takes less. */
  private record Change(String setting, UnaryOperator<PlannedTraining> change) {
    PlannedTraining on(PlannedTraining training) {
      return change.apply(training);
    }
  }

  /** Those not made yet: each is gone from what it leaves. */
  private List<Change> changes(PlannedTraining training) {
    List<Change> changes = new ArrayList<>();
    if (training.settings().memory().activations() == MemorySettings.Activations.KEEP) {
      changes.add(
          new Change("memory.activations=auto", t -> t.with(MemorySettings.Activations.AUTO)));
    }
    if (training.dtype() == Dtype.F32) {
      changes.add(new Change("dtype=bf16", t -> t.with(Dtype.BF16)));
    }
    WeightPlacement weights = training.weights();
    if (weights.linears() == BaseStorage.PLAIN && training.trainsAdapters()) {
      changes.add(
          new Change(
              "quantize_base=nf4_double", t -> t.with(t.weights().with(BaseStorage.NF4_DOUBLE))));
    }
    boolean moves =
        WeightPlacement.embeddingMayMove(training.model(), training.device().costs().host());
    if (moves && !weights.embeddingOnHost() && training.trainsAdapters()) {
      changes.add(
          new Change("memory.embedding=host", t -> t.with(t.weights().withEmbeddingOnHost())));
    }
    changes.addAll(ofOptimizer(training));
    Judging judging = training.judging();
    if (judging.beside()) {
      changes.add(new Change("evaluate.every=never", t -> t.with(t.judging().afterAlone())));
    }
    if (judging.sizes().fresh() > SHORT_ANSWER && (judging.beside() || judging.after())) {
      changes.add(
          new Change(
              "evaluate.max_new_tokens=" + SHORT_ANSWER,
              t -> t.with(t.judging().withFresh(SHORT_ANSWER))));
    }
    return changes;
  }

  private List<Change> ofOptimizer(PlannedTraining training) {
    List<Change> changes = new ArrayList<>();
    OptimizerConfig o = training.optimizer();
    if (o.moments() == OptimizerConfig.Moments.FP32) {
      changes.add(new Change("train.optimizer_state=8bit", t -> t.with(t.optimizer().eightBit())));
    }
    if (training.trainsAdapters()) {
      return changes;
    }
    TrainSettings settings = training.settings();
    boolean fuses =
        FusedSteps.possible(
            settings.maxGradientNorm(),
            settings.onNonFinite(),
            config.train().shards(),
            config.parity().microBatchRows());
    if (!o.fused() && fuses) {
      changes.add(new Change("train.fused_update=true", t -> t.with(t.optimizer().fusedUpdate())));
    }
    if (o.master() == OptimizerConfig.Master.FP32 && training.dtype() == Dtype.BF16) {
      changes.add(new Change("train.master=none", t -> t.with(t.optimizer().withoutMaster())));
    }
    return changes;
  }
}
