package org.lethe.method;

import java.util.List;

/**
 * Plain likelihood of the sequences of one role: loss = R(nll) over its rows, R a {@link
 * Reduction}. Objectives are made of it under many names: GD, IDK, the mismatch term of LLMU.
 */
record NllDescent(String name, Role role, Reduction reduction, Positions positions)
    implements Loss {
  private Use use() {
    return Use.nll(role, positions);
  }

  @Override
  public List<Use> uses() {
    return List.of(use());
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return reduction.count(totals, use());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    reduction.terms(seen, use(), seen.rows()::nll, out);
  }
}
