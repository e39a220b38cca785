package org.lethe.nd4j;

/**
 * Follows a run as DL4J's {@code org.deeplearning4j.optimize.api.TrainingListener} follows a
 * network's {@code fit}: the same names, order and counts, without DL4J on the class path. {@link
 * Nd4jRunListener} makes the calls.
 *
 * <table>
 *   <caption>For who knows DL4J</caption>
 *   <tr><th>DL4J</th><th>here</th></tr>
 *   <tr><td>{@code onEpochStart(Model)}, {@code onEpochEnd(Model)}</td>
 *       <td>the same, with a {@link TrainedModel}; a phase without a known epoch is one epoch</td></tr>
 *   <tr><td>{@code iterationDone(Model, iteration, epoch)}</td>
 *       <td>the same: after the update, iterations and epochs from 0 and over all phases</td></tr>
 *   <tr><td>{@code model.score()}</td><td>{@link TrainedModel#score}</td></tr>
 *   <tr><td>{@code model.params()}, {@code model.paramTable()}</td>
 *       <td>{@link TrainedModel#params}, {@link TrainedModel#paramTable}: snapshots</td></tr>
 *   <tr><td>{@code model.gradient()} in {@code onBackwardPass}</td>
 *       <td>{@link TrainedModel#gradientTable} in {@code iterationDone}: before the clip</td></tr>
 *   <tr><td>{@code onForwardPass(Model, activations)}</td><td>none: Lethe keeps no activations</td></tr>
 * </table>
 *
 * <p>A listener that exists for DL4J and needs no more than score and counts is called from one of
 * these: {@code iterationDone(model, iteration, epoch) -> theirs.iterationDone(theirModel,
 * iteration, epoch)}, where {@code theirModel} is a DL4J {@code Model} whose {@code score()}
 * returns this one's.
 *
 * <p>Calls come on the run's thread, one at a time. An exception ends the run and reaches its
 * caller.
 */
public interface TrainingListener {
  /** An epoch begins, before its first step. */
  default void onEpochStart(TrainedModel model) {}

  /**
   * A step is done and its update made.
   *
   * @param iteration from 0, over all phases
   * @param epoch from 0, over all phases
   */
  default void iterationDone(TrainedModel model, int iteration, int epoch) {}

  /** An epoch is over: its last step is done, or its phase has ended before. */
  default void onEpochEnd(TrainedModel model) {}
}
