package org.lethe.method;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.lethe.InternalFaultException;

/** What losses over whole sequences share: a logistic link, and pairs. */
final class Reductions {
  private Reductions() {}

  /** Two sequences of one pair. */
  record Pair(Sequence first, Sequence second) {}

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

  /**
   * Each sequence of the use {@code first} with its twin of the use {@code second}.
   *
   * @throws InternalFaultException when one lacks its twin, or has two
   */
  static List<Pair> pairs(Observed seen, Use first, Use second) {
    Map<Integer, Sequence> twins = new HashMap<>();
    for (Sequence sequence : seen.of(second)) {
      if (twins.put(sequence.pair(), sequence) != null) {
        throw new InternalFaultException(
            "Pair " + sequence.pair() + " has two of " + second.role());
      }
    }
    List<Pair> pairs = new ArrayList<>();
    for (Sequence sequence : seen.of(first)) {
      Sequence twin = twins.remove(sequence.pair());
      if (twin == null) {
        throw new InternalFaultException(
            "Pair "
                + sequence.pair()
                + " has a sequence "
                + first.role()
                + " without its "
                + second.role());
      }
      pairs.add(new Pair(sequence, twin));
    }
    if (!twins.isEmpty()) {
      throw new InternalFaultException(
          "Pairs "
              + twins.keySet()
              + " have a sequence "
              + second.role()
              + " without its "
              + first.role());
    }
    return pairs;
  }
}
