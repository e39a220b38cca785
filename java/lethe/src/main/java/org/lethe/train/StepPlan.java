package org.lethe.train;

import java.util.ArrayList;
import java.util.List;
import org.lethe.method.Method;
import org.lethe.method.Totals;
import org.lethe.model.Model;

/**
 * A step as it is known before the model is asked: how it is shared out and cut, what its pieces
 * hold, and the counts behind the denominators. Nothing native is called to make one, so that it
 * can be made on another thread while the step before is computed.
 *
 * @param index of the step in the run
 * @param sequences all of them
 * @param groups whose losses are averaged; one but for {@link Parity#groups}
 */
record StepPlan(int index, List<StepSequence> sequences, List<Group> groups) {
  /**
   * Sequences with denominators of their own.
   *
   * @param sides the losses that such sequences have
   * @param shards those of this process
   */
  record Group(Method sides, List<Share> shards) {}

  /**
   * A part of a group, maybe an empty one.
   *
   * @param totals of the whole group; null where the share is empty
   * @param own of the share
   */
  record Share(List<MicroBatch> pieces, Totals totals, Totals own) {}

  /** What plans the steps of a run. */
  static final class Planner {
    private final Model model;
    private final Method method;
    private final TrainSettings settings;
    private final MicroBatch.Layout layout;
    private final Sharding sharding;
    private final int budget;

    /**
     * @param largestPiece the most tokens of a piece
     */
    Planner(
        Model model,
        Method method,
        TrainSettings settings,
        MicroBatch.Layout layout,
        Sharding sharding,
        int largestPiece) {
      this.model = model;
      this.method = method;
      this.settings = settings;
      this.layout = layout;
      this.sharding = sharding;
      this.budget = Math.min(largestPiece, settings.tokensPerMicroBatch());
    }

    /** Plans a step. */
    StepPlan plan(int index, List<StepSequence> sequences) {
      boolean drops = model.lora() != null && model.lora().drops();
      DropoutKeys keys = drops ? new DropoutKeys(settings.seed(), index) : null;
      List<Group> groups = new ArrayList<>();
      List<List<StepSequence>> averaged = settings.parity().groups(sequences);
      for (List<StepSequence> group : averaged) {
        List<List<StepSequence>> shards =
            averaged.size() > 1 ? List.of(group) : sharding.own(sequences);
        List<Share> shares = new ArrayList<>();
        shards.forEach(shard -> shares.add(share(group, shard, keys)));
        groups.add(new Group(sides(group), shares));
      }
      return new StepPlan(index, sequences, groups);
    }

    private Method sides(List<StepSequence> group) {
      boolean forgets = group.stream().anyMatch(StepSequence::forgets);
      boolean retains = group.stream().anyMatch(s -> !s.forgets());
      return method.on(forgets, retains);
    }

    private Share share(List<StepSequence> group, List<StepSequence> own, DropoutKeys keys) {
      if (own.isEmpty()) {
        return new Share(List.of(), null, null);
      }
      MicroBatch.Layout padded = layout.padding(group);
      return new Share(
          MicroBatch.cut(own, padded, budget, keys),
          Totals.of(MicroBatch.outline(group, padded)),
          Totals.ofShare(MicroBatch.outline(own, padded)));
    }
  }
}
