package org.lethe.method;

import java.util.Comparator;
import java.util.List;
import java.util.stream.IntStream;

/**
 * GA_LS, gradient ascent on the tokens that are known best: of each sequence of n rows the ⌊q·n⌋
 * with the lowest nll are kept; loss = −(Σ nll kept)/(number kept in the step). With KL beside it,
 * UWC's KL_LS.
 *
 * <p>q·n is a product of two floats, as in the code. Of rows with equal nll the earlier one is
 * kept; the code's sort leaves that open. Positions: ANSWER by default. No reference. Source: Wang
 * et al., "Towards Effective Evaluations and Comparisons for LLM Unlearning Methods" (arXiv
 * 2406.09179); code tmlr-group/Unlearning-with-Control, {@code dataloader.py}.
 */
record LowestAscent(double keep, Positions positions) implements Loss {
  private static final String CODE = "Unlearning-with-Control, dataloader.py";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "GA_LS",
              "gradient ascent on the lowest nll",
              o -> new LowestAscent(o.number("keep"), o.positions()))
          .formula(
              "-(sum of the floor(keep n) lowest nll of each sequence) / (their number)",
              "mean over the kept rows of the step")
          .source(
              "Wang et al. (ULC/UWC), arXiv 2406.09179; code Unlearning-with-Control",
              "KL_LS there is GA_LS+KL; of equal nll the earlier row is kept")
          .options(
              Option.above(0, "keep", 0.8, "share of a sequence's rows", CODE).atMost(1),
              Option.positions(Positions.ANSWER, CODE));

  private Use use() {
    return Use.nll(Role.FORGET, positions);
  }

  private int kept(int rows) {
    return (int) ((float) keep * rows);
  }

  @Override
  public String name() {
    return "GA_LS";
  }

  @Override
  public List<Use> uses() {
    return List.of(use());
  }

  @Override
  public double scale() {
    return -1;
  }

  @Override
  public long count(Totals totals) {
    return totals.picked(use(), this::kept);
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    for (Sequence sequence : seen.of(use())) {
      double[] nll = new double[sequence.rows()];
      boolean finite = true;
      for (int i = 0; i < nll.length; i++) {
        nll[i] = seen.rows().nll(sequence.firstRow() + i);
        finite = finite && !Double.isNaN(nll[i]);
      }
      boolean comparable = finite;
      // A stable sort. A row that is not a number must not hide among those that are dropped.
      IntStream.range(0, nll.length)
          .boxed()
          .sorted(Comparator.comparingDouble((Integer i) -> nll[i]))
          .limit(kept(nll.length))
          .forEach(
              i -> {
                out.term(comparable ? nll[i] : Double.NaN);
                out.slope(sequence.firstRow() + i, 1);
              });
    }
  }
}
