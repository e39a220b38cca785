package org.lethe.method;

import java.util.List;

/**
 * PDU's forget loss: (1/N) Σ (max_v z_v − mean_v z_v)² over the N rows of role FORGET, z the
 * logits. It flattens them whatever the label, see {@link Pdu}.
 */
record LogitMargin(String name, Positions positions) implements Loss {
  private Use use() {
    return new Use(Role.FORGET, positions, RowKind.LOGIT_MARGIN, ReferenceUse.NONE);
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
    return totals.rows(use());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    RowStatistics rows = seen.rows();
    for (Sequence sequence : seen.of(use())) {
      for (int i = 0; i < sequence.rows(); i++) {
        int row = sequence.firstRow() + i;
        double margin = rows.logitMargin(row);
        out.term(margin * margin);
        out.slope(row, 2 * margin);
      }
    }
  }
}
