package org.lethe.bench.scaling;

import java.util.Locale;
import org.lethe.model.ModelConfig;

/**
 * The sizes of one point; a subject looks at those it has.
 *
 * @param tokens packed tokens; for the head, rows
 * @param length of each sequence
 * @param width hidden size of head, linear and attention
 * @param vocabulary rows of the head
 * @param rank of each adapter
 * @param model of a step, but for its vocabulary
 */
record Sizes(int tokens, int length, int width, int vocabulary, int rank, ModelConfig model) {
  /** What is varied. */
  enum Axis {
    TOKENS("tokens"),
    VOCABULARY("vocabulary"),
    RANK("rank"),
    SEQUENCE("tokens of a sequence"),
    MODEL("parameters");

    private final String label;

    Axis(String label) {
      this.label = label;
    }

    /** As an axis of a chart calls it. */
    String label() {
      return label;
    }

    /** As files and keys call it. */
    String key() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  Sizes tokens(int value) {
    return new Sizes(value, length, width, vocabulary, rank, model);
  }

  Sizes vocabulary(int value) {
    return new Sizes(tokens, length, width, value, rank, model);
  }

  Sizes rank(int value) {
    return new Sizes(tokens, length, width, vocabulary, value, model);
  }

  /** As many sequences, of another length. */
  Sizes length(int value) {
    return new Sizes(tokens / length * value, value, width, vocabulary, rank, model);
  }

  Sizes model(ModelConfig value) {
    return new Sizes(tokens, length, width, value.vocabularySize(), rank, value);
  }

  /** The model with this point's vocabulary, and a context that its sequences fit. */
  ModelConfig config() {
    ModelConfig m = model;
    return ModelConfig.llama(
        new ModelConfig.Sizes(
            vocabulary,
            m.hiddenSize(),
            m.layers(),
            m.heads(),
            m.kvHeads(),
            m.headDim(),
            m.feedForwardSize(),
            Math.max(64, length)),
        1e-5f,
        10000,
        m.tiedHead());
  }
}
