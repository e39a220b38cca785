package org.lethe.method;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntToDoubleFunction;
import org.lethe.InternalFaultException;

/** The two shapes that terms come in: a value per row, and a logistic loss per sequence. */
final class Reductions {
  private Reductions() {}

  /** Two sequences of one pair. */
  record Pair(Sequence first, Sequence second) {}

  /** A term for each row of a role, whose derivative with respect to itself is 1. */
  static void perRow(
      Role role, List<Sequence> sequences, IntToDoubleFunction value, Accumulator out) {
    for (Sequence sequence : of(role, sequences)) {
      for (int i = 0; i < sequence.rows(); i++) {
        out.term(value.applyAsDouble(sequence.firstRow() + i));
      }
      out.slope(sequence, 1);
    }
  }

  /**
   * Adds the term −log σ(β·margin); NaN when the margin is infinite, which would vanish unseen
   * where the logistic function is flat.
   *
   * @return its derivative with respect to the margin, −β·σ(−β·margin)
   */
  static double logistic(double beta, double margin, Accumulator out) {
    double x = Double.isInfinite(margin) ? Double.NaN : -beta * margin;
    out.term(Logistic.softplus(x));
    return -beta * Logistic.sigmoid(x);
  }

  /** The sequences of a role, in order. */
  static List<Sequence> of(Role role, List<Sequence> sequences) {
    List<Sequence> found = new ArrayList<>();
    for (Sequence sequence : sequences) {
      if (sequence.role() == role) {
        found.add(sequence);
      }
    }
    return found;
  }

  /**
   * Each sequence of role {@code first} with its twin of role {@code second}.
   *
   * @throws InternalFaultException when one lacks its twin, or has two
   */
  static List<Pair> pairs(Role first, Role second, List<Sequence> sequences) {
    Map<Integer, Sequence> twins = new HashMap<>();
    for (Sequence sequence : of(second, sequences)) {
      if (twins.put(sequence.pair(), sequence) != null) {
        throw new InternalFaultException("Pair " + sequence.pair() + " has two of " + second);
      }
    }
    List<Pair> pairs = new ArrayList<>();
    for (Sequence sequence : of(first, sequences)) {
      Sequence twin = twins.remove(sequence.pair());
      if (twin == null) {
        throw new InternalFaultException(
            "Pair " + sequence.pair() + " has a sequence " + first + " without its " + second);
      }
      pairs.add(new Pair(sequence, twin));
    }
    if (!twins.isEmpty()) {
      throw new InternalFaultException(
          "Pairs " + twins.keySet() + " have a sequence " + second + " without its " + first);
    }
    return pairs;
  }
}
