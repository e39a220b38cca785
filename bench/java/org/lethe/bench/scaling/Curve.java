package org.lethe.bench.scaling;

import java.util.List;

/**
 * A subject at points that differ in one size.
 *
 * @param sizes of each point, in the order they are measured
 */
record Curve(Subject subject, Sizes.Axis axis, List<Sizes> sizes) {
  Curve {
    sizes = List.copyOf(sizes);
  }

  /** As results, files and options call it: "head-tokens". */
  String name() {
    return subject.name() + "-" + axis.key();
  }

  /** Where a point stands on the axis. */
  double x(Sizes s) {
    return switch (axis) {
      case TOKENS -> s.tokens();
      case VOCABULARY -> s.vocabulary();
      case RANK -> s.rank();
      case SEQUENCE -> s.length();
      case MODEL -> parameters(s);
    };
  }

  private static double parameters(Sizes s) {
    var c = s.config();
    double d = c.hiddenSize();
    double layer = d * (2 * c.queryWidth() + 2 * c.kvWidth()) + 3 * d * c.feedForwardSize();
    return c.layers() * layer + (c.tiedHead() ? 1 : 2) * d * c.vocabularySize();
  }

  /** What does not vary, in words. */
  String fixed() {
    Sizes s = sizes.get(0);
    StringBuilder words = new StringBuilder(subject.shape(s));
    if (axis == Sizes.Axis.MODEL) {
      words.setLength(0);
      words.append("ME+GD, Llamas of growing size");
    }
    if (axis != Sizes.Axis.TOKENS && axis != Sizes.Axis.SEQUENCE) {
      words.append(", ").append(s.tokens()).append(" tokens");
    }
    boolean whole = subject instanceof StepSubject;
    if (whole && axis != Sizes.Axis.SEQUENCE) {
      words.append(", sequences of ").append(s.length());
    }
    if (whole && axis == Sizes.Axis.SEQUENCE) {
      words.append(", ").append(s.tokens() / s.length()).append(" sequences");
    }
    if ((whole || subject instanceof HeadSubject) && axis != Sizes.Axis.VOCABULARY) {
      words.append(", V ").append(s.vocabulary());
    }
    if ((whole || subject instanceof LinearSubject) && axis != Sizes.Axis.RANK) {
      words.append(", rank ").append(s.rank());
    }
    return words.toString();
  }
}
