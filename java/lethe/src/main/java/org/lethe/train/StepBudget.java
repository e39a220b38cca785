package org.lethe.train;

import java.util.function.IntToLongFunction;
import java.util.function.IntUnaryOperator;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.BaseStorage;
import org.lethe.model.MemoryPlan;
import org.lethe.model.Model;
import org.lethe.model.ScratchPlan;
import org.lethe.model.WeightPlacement;

/** Cuts the steps of a training so that it stays within its {@link MemorySettings#budget}. */
final class StepBudget {
  private StepBudget() {}

  /**
   * The cheapest fit; as the settings say where there is no budget.
   *
   * @param cuts how the steps can be cut
   * @param sequences of a piece at most
   * @throws UserException when nothing fits: what is needed, for what, and which settings help
   */
  static StepFit fit(
      Model model,
      TrainSettings settings,
      IntUnaryOperator headRows,
      StepCuts cuts,
      int sequences) {
    StepMemory memory = StepMemory.of(model, settings, headRows);
    MemorySettings bounds = settings.memory();
    int most = settings.tokensPerMicroBatch();
    if (bounds.budget() == 0) {
      ActivationPolicy policy = bounds.activations().unbounded(model.config().layers());
      int limit = cuts.tightest(most);
      int piece = cuts.largest(limit);
      return new StepFit(limit, piece, policy, memory.bytes(piece, policy));
    }
    Backend backend = model.ops().backend();
    DeviceCosts costs = DeviceCosts.of(backend.isHost());
    long held = backend.allocatedBytes() + costs.overheadBytes() + bounds.scratch();
    ScratchPlan scratch = model.scratch();
    IntToLongFunction more =
        piece ->
            Math.max(0, PieceShape.scratch(scratch, memory, sequences, piece) - bounds.scratch());
    return StepFit.cheapest(
            memory,
            bounds.activations(),
            bounds.budget() - held - bounds.kept(),
            most,
            cuts,
            more,
            costs.pieceTokens())
        .orElseThrow(
            () -> {
              long smallest = more.applyAsLong(cuts.largest(1));
              return tooMuch(model, bounds, held + smallest, memory, cuts);
            });
  }

  private static UserException tooMuch(
      Model model, MemorySettings bounds, long held, StepMemory memory, StepCuts cuts) {
    long least = StepFit.leastBytes(memory, bounds.activations(), cuts);
    boolean keep = bounds.activations() == MemorySettings.Activations.KEEP;
    boolean wide = model.ops().dtype() == Dtype.F32;
    long narrower =
        Model.bytes(model.config(), Dtype.F32) - Model.bytes(model.config(), Dtype.BF16);
    long codes =
        model.trainsWeights()
            ? 0
            : model.bytes() - bytes(model, model.placement().with(BaseStorage.NF4_DOUBLE));
    boolean moves =
        !model.trainsWeights()
            && WeightPlacement.embeddingMayMove(model.config(), model.ops().backend().isHost());
    long embedding =
        moves
            ? bytes(model, model.placement())
                - bytes(model, model.placement().withEmbeddingOnHost())
            : 0;
    MemoryPlan plan =
        new MemoryPlan()
            .part("model, adapters, optimizer and libraries", held)
            .part("activations and head of the smallest pieces", least)
            .partIfAny("evaluation and sampling between steps", bounds.kept())
            .remedy("memory.budget=" + ((held + least + bounds.kept()) / 1_000_000 + 1) + "MB")
            .remedy("evaluate.every=never, where nothing is sampled,", bounds.kept())
            .remedy(
                "memory.activations=auto",
                keep
                    ? least - StepFit.leastBytes(memory, MemorySettings.Activations.AUTO, cuts)
                    : 0)
            .remedy("dtype=bf16", wide ? narrower : 0)
            .remedy("quantize_base=nf4_double", codes)
            .remedy("memory.embedding=host", embedding)
            .remedy("shorter rows (data.context_length)")
            .remedy("what lethe plan with the same keys says");
    return new UserException(
        "memory.budget is " + Backend.amount(bounds.budget()) + ", which is too little" + plan);
  }

  private static long bytes(Model model, WeightPlacement placement) {
    return Model.bytes(model.config(), model.ops().dtype(), placement);
  }
}
