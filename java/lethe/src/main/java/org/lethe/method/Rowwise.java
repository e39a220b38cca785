package org.lethe.method;

import java.util.List;
import java.util.function.Function;

/**
 * A loss that is a value per row, reduced: loss = scale · R(value).
 *
 * @param value of a row, and its derivative with respect to the row's scalar
 */
record Rowwise(
    String name,
    Use use,
    Reduction reduction,
    double scale,
    Function<RowStatistics, Reduction.RowValue> value)
    implements Loss {

  /** The divergence from the reference, in the direction of the use's kind. */
  static Rowwise divergence(String name, Use use, Reduction reduction) {
    return new Rowwise(name, use, reduction, 1, rows -> rows::kl);
  }

  @Override
  public List<Use> uses() {
    return List.of(use);
  }

  @Override
  public long count(Totals totals) {
    return reduction.count(totals, use);
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    reduction.terms(seen, use, value.apply(seen.rows()), out);
  }
}
