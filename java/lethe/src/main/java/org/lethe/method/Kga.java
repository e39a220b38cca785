package org.lethe.method;

import java.util.List;

/**
 * KGA, knowledge gap alignment (Wang et al., ACL 2023, arXiv 2305.06535; code
 * Lingzhi-WANG/KGAUnlearn): the trained model A* shall be as far from A_f, which knows nothing but
 * the forget set, as A_n, which was trained on new data, is from the original A_D:
 *
 * <pre>
 *   gap  = R KL(A_n‖A_D) over rows of role NEW, no gradient     (new_to_original; or KL(A_D‖A_n))
 *   loss = | R KL(A_f‖A*) over rows of role FORGET − gap |
 *        + w · R KL(A_D‖A*) over rows of role RETAIN
 * </pre>
 *
 * <p>A_f and A_n are the views "forget" and "new", A_D is what the run started from. R is a {@link
 * Reduction}: the code for translation and dialogue sums over a sequence and averages over the
 * batch (batchmean of [B, T, V]), padding included, which does not exist here; its classification
 * code averages over all elements. The gap's direction is that of translation and dialogue by
 * default; the classification code has the other. w is 0.3, as the README has it for translation
 * and dialogue; classification weighs by 1 − w in place of w. The code accumulates k retain
 * batches, each weighted by w/k, to one of align: here a step brings k retain rows to each forget
 * row. The subgradient of |x| at 0 is 0; below the gap it pushes A* away from A_f.
 */
record Kga(Positions positions, Reduction reduction, Direction direction) implements Loss {
  /** Name of the view that was trained on the forget set alone. */
  static final String FORGET_VIEW = "forget";

  /** Name of the view that was trained on data that the model never saw. */
  static final String NEW_VIEW = "new";

  /** Which divergence the gap is. */
  enum Direction {
    NEW_TO_ORIGINAL,
    ORIGINAL_TO_NEW
  }

  static final LossSpec SPEC =
      LossSpec.several(Side.FORGET, "KGA", "knowledge gap alignment", Kga::losses)
          .formula(
              "|R KL(A_f || p) - R KL(A_n || A_D)| + w R KL(A_D || p)",
              "sum over a sequence's rows, mean over sequences; options: token_mean, sequence_mean")
          .source(
              "Wang et al., arXiv 2305.06535; KGAUnlearn",
              "translation and dialogue code against classification code: the gap's direction, the"
                  + " reduction, and w against 1 - w; the first are the defaults")
          .complete()
          .options(
              Option.choice(
                  "positions",
                  Positions.ALL,
                  "rows the losses look at",
                  "KGA's code, which masks nothing",
                  Positions.ANSWER,
                  Positions.ALL,
                  Positions.EVERY),
              Reduction.option(Reduction.SEQUENCE_SUM, "KGA's translation and dialogue code"),
              Option.choice(
                  "direction",
                  Direction.NEW_TO_ORIGINAL,
                  "divergence that the gap is",
                  "KGA's translation and dialogue code",
                  Direction.values()),
              Option.atLeast(
                  0, "retain_weight", 0.3, "weight w of the retain loss", "KGA's README"));

  private static List<Weighted> losses(Options o) {
    Reduction reduction = Reduction.of(o);
    Use retain = new Use(Role.RETAIN, o.positions(), RowKind.REFERENCE_KL, ReferenceUse.HIDDEN);
    return List.of(
        new Weighted(1, new Kga(o.positions(), reduction, o.choice("direction", Direction.class))),
        new Weighted(
            o.number("retain_weight"), Rowwise.divergence("KGA_retain", retain, reduction)));
  }

  private Use forget() {
    return new Use(Role.FORGET, positions, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN)
        .against(FORGET_VIEW);
  }

  private Use unseen() {
    RowKind kind =
        direction == Direction.NEW_TO_ORIGINAL ? RowKind.REFERENCE_KL : RowKind.KL_REFERENCE;
    return new Use(Role.NEW, positions, kind, ReferenceUse.HIDDEN)
        .against(NEW_VIEW)
        .from(new Sources(Use.BASE, null, false));
  }

  @Override
  public String name() {
    return "KGA";
  }

  @Override
  public List<Use> uses() {
    return List.of(forget(), unseen());
  }

  @Override
  public double scale() {
    return 1;
  }

  @Override
  public long count(Totals totals) {
    return reduction.count(totals, forget());
  }

  @Override
  public int measures() {
    return 2;
  }

  @Override
  public void measure(Observed seen, Measured out) {
    seen.of(forget()).forEach(s -> out.add(0, total(seen.rows(), s)));
    seen.of(unseen()).forEach(s -> out.add(1, total(seen.rows(), s)));
  }

  /** A sequence's rows, reduced as far as they are within it. */
  private double total(RowStatistics rows, Sequence sequence) {
    ExactSum sum = new ExactSum();
    for (int i = 0; i < sequence.rows(); i++) {
      sum.add(rows.kl(sequence.firstRow() + i));
    }
    return sum.value() * share(sequence);
  }

  private double share(Sequence sequence) {
    return reduction == Reduction.SEQUENCE_MEAN ? 1.0 / Math.max(1, sequence.rows()) : 1;
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    double divergence = seen.measured()[0] / reduction.count(seen.totals(), forget());
    double gap = seen.measured()[1] / reduction.count(seen.totals(), unseen());
    double sign = Math.signum(divergence - gap);
    for (Sequence s : seen.of(forget())) {
      out.slope(s, sign * share(s));
      if (reduction != Reduction.TOKEN_MEAN) {
        out.term(sign * (total(seen.rows(), s) - gap));
        continue;
      }
      for (int i = 0; i < s.rows(); i++) {
        out.term(sign * (seen.rows().kl(s.firstRow() + i) - gap));
      }
    }
  }
}
