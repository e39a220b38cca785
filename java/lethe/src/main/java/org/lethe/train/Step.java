package org.lethe.train;

import java.util.ArrayList;
import java.util.List;
import org.lethe.UserException;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Method;
import org.lethe.method.MethodStep;
import org.lethe.method.ReferenceUse;
import org.lethe.method.RowStatistics;
import org.lethe.method.Totals;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.Model;
import org.lethe.model.Trainable;

/**
 * One training step, top to bottom: batch → forward → head → method → backward → guard → clip →
 * update.
 *
 * <p>A step is a list of sequences with roles. A token budget cuts it into pieces, invisibly:
 * counts and denominators are the whole step's. Memory for the largest piece is taken when the step
 * is made. Only the backend's thread may call it.
 */
public final class Step implements AutoCloseable {
  private final Model model;
  private final Method method;
  private final TrainSettings settings;
  private final MicroBatch.Layout layout;
  private final Trainable trainable;
  private final int budget;
  private final Decoder decoder;
  private final Head head;
  private final Staging staging = new Staging(Ops.UPDATE_STATE * Float.BYTES);

  /**
   * Takes the memory of the largest piece.
   *
   * @param reference the reference's nll by sequence; null runs the reference model in the same
   *     batch
   * @param largestPiece tokens of the largest piece, from {@link #largestPiece}
   */
  public Step(
      Model model,
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      int largestPiece) {
    this.model = model;
    this.method = method;
    this.settings = settings;
    this.layout = layout(method, reference);
    this.trainable = model.trainable();
    if (trainable == null) {
      throw new UserException(
          "nothing trains; add adapters to the model, or make its weights train");
    }
    if (model.trainsWeights()
        && method.uses().stream().anyMatch(u -> u.reference() != ReferenceUse.NONE)) {
      throw new UserException(
          method.name()
              + " compares with the reference model, which is the base with its adapters off; train"
              + " adapters, or choose a method without a reference");
    }
    this.budget = Math.max(largestPiece, 1);
    this.decoder = new Decoder(model, budget, true);
    this.head = new Head(model, budget);
  }

  /** Tokens of the largest piece that the steps of a run are cut into. */
  public static int largestPiece(
      Method method,
      TrainSettings settings,
      ReferenceCache reference,
      Iterable<List<StepSequence>> steps) {
    MicroBatch.Layout layout = layout(method, reference);
    int largest = 0;
    for (List<StepSequence> step : steps) {
      largest = Math.max(largest, MicroBatch.largest(step, layout, settings.tokensPerMicroBatch()));
    }
    return largest;
  }

  /** Bytes of activations and head together. */
  public long bytes() {
    return decoder.bytes() + head.bytes();
  }

  /**
   * Runs one step.
   *
   * @param index from 0, for the report and messages
   * @throws UserException when a loss or gradient is not finite and the settings say stop; nothing
   *     was updated
   */
  public StepReport run(int index, List<StepSequence> sequences, double learningRate) {
    List<MicroBatch> pieces =
        MicroBatch.cut(sequences, layout, Math.min(budget, settings.tokensPerMicroBatch()));
    MethodStep objective = method.begin(Totals.of(MicroBatch.outline(sequences, layout)));
    trainable.zeroGradients();

    int tokens = 0;
    for (MicroBatch piece : pieces) {
      long residual = decoder.forward(piece.packed());
      float[] values = head.forward(residual, piece.packed().tokens(), piece.headRows(), true);
      RowStatistics statistics = new RowStatistics(values, model.config().vocabularySize());
      double[] coefficients = objective.add(statistics, piece.sequences(statistics));
      head.backward(decoder, toFloats(coefficients));
      decoder.backward();
      tokens += piece.packed().tokens();
    }
    // A loss can be infinite where its gradient is not: ascent on a label of probability 0.
    if (!Double.isFinite(objective.loss())) {
      return notFinite(index, objective, Double.NaN, learningRate, tokens, pieces);
    }
    // All gradients of the step are in the arena; the update skips itself when one of them is not
    // finite.
    trainable.measure((float) settings.maxGradientNorm());
    trainable.update(settings.adamW(), (float) learningRate);
    if (model.trainsWeights()) {
      model.refreshHeadMean();
    }
    float[] state = new float[Ops.UPDATE_STATE];
    staging.download(trainable.arena().buffer(), trainable.stateOffset(), state, state.length);
    if (state[Ops.UPDATE_FINITE] == 0) {
      return notFinite(index, objective, state[Ops.UPDATE_NORM], learningRate, tokens, pieces);
    }
    return new StepReport(
        index,
        objective.loss(),
        objective.parts(),
        state[Ops.UPDATE_NORM],
        learningRate,
        tokens,
        pieces.size(),
        true);
  }

  private StepReport notFinite(
      int index,
      MethodStep objective,
      double norm,
      double learningRate,
      int tokens,
      List<MicroBatch> pieces) {
    if (settings.onNonFinite() == TrainSettings.OnNonFinite.STOP) {
      List<String> sources = new ArrayList<>();
      pieces.forEach(piece -> sources.addAll(piece.sources()));
      throw new UserException(
          "step "
              + index
              + ": the "
              + (Double.isFinite(objective.loss()) ? "gradient" : "loss")
              + " is not finite; nothing was updated. The batch: "
              + String.join(", ", sources)
              + ". Lower train.learning_rate, or set train.on_non_finite=skip to go on without such"
              + " steps");
    }
    return new StepReport(
        index,
        objective.loss(),
        objective.parts(),
        norm,
        learningRate,
        tokens,
        pieces.size(),
        false);
  }

  private static MicroBatch.Layout layout(Method method, ReferenceCache reference) {
    return new MicroBatch.Layout(method, reference == null ? null : reference::nll);
  }

  private static float[] toFloats(double[] values) {
    float[] floats = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      floats[i] = (float) values[i];
    }
    return floats;
  }

  @Override
  public void close() {
    staging.close();
    head.close();
    decoder.close();
  }
}
