package org.lethe.run;

import java.util.List;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.model.Head;
import org.lethe.model.Model;

/**
 * How many rows of logits exist at a time in a run. What is measured becomes part of the run's
 * configuration, so that a resumed run has the same, and with it the same bits.
 */
final class HeadChunk {
  private static final int MEASURED = -1;

  // Several chunks of any size that is tried.
  private static final int MOST_ROWS = 8192;

  private HeadChunk() {}

  /**
   * Sets what is configured for the model's device, or measures it.
   *
   * @return the configuration with what was measured
   */
  static RunConfig settle(RunConfig config, Model model) {
    int rows = config.train().headChunk();
    if (rows == 0) {
      return config;
    }
    if (model.ops().backend().isHost()) {
      throw new UserException(
          "train.head_chunk is "
              + rows
              + ", but the CPU has no such choice; leave it at 0, or use a CUDA device");
    }
    if (rows != MEASURED) {
      model.ops().headSetChunk(model.config().hiddenSize(), model.config().vocabularySize(), rows);
      return config;
    }
    try (Head head = new Head(model, Math.min(config.train().tokensPerMicroBatch(), MOST_ROWS))) {
      return Config.with(config, RunConfig.class, List.of("train.head_chunk=" + head.tune()));
    }
  }

  /** Refuses to measure where there is no model yet. */
  static void requireModel(RunConfig config) {
    if (config.train().headChunk() == MEASURED) {
      throw new UserException(
          "train.head_chunk=-1 measures with a model that is given, and scratch makes a new one;"
              + " set train.head_chunk=0");
    }
  }
}
