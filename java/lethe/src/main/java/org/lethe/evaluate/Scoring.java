package org.lethe.evaluate;

import java.util.List;
import java.util.function.Predicate;
import org.lethe.metric.Definitions;
import org.lethe.metric.MembershipAttack;
import org.lethe.metric.Metric;

/**
 * How observations become scores.
 *
 * @param definitions whose formulas
 * @param minK share of an answer's least likely tokens that Min-K% looks at, in (0, 1]
 * @param isRefusal whether a generated text is a refusal
 */
public record Scoring(Definitions definitions, double minK, Predicate<String> isRefusal) {
  /** Lethe's formulas, and 40 % of the tokens, as open-unlearning's evaluations have it. */
  public static Scoring of(Predicate<String> isRefusal) {
    return new Scoring(Definitions.LETHE, 0.4, isRefusal);
  }

  /** The metrics of one set. */
  public List<Metric> metrics() {
    return Metric.list(definitions, isRefusal);
  }

  /** The attacks that compare the forget set with the holdout set. */
  public List<MembershipAttack> attacks() {
    return MembershipAttack.list(definitions, minK);
  }
}
