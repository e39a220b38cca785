package org.lethe.method;

import java.util.List;

/**
 * GA, gradient ascent: loss = −R(nll) over the rows of role FORGET, with R one of three reductions:
 * the mean over all rows (Hugging Face's own loss, negated: TOFU, "A Closer Look",
 * open-unlearning), the mean over sequences of a sequence's mean (Yao et al.), or the mean over
 * sequences of its sum (what NPO starts from).
 *
 * <p>Positions: ANSWER by default; ALL is Jang et al.'s, who have no question; SPANS is SeUL's. No
 * reference. Sources: Jang et al., "Knowledge Unlearning for Mitigating Privacy Risks in Language
 * Models" (arXiv 2210.01504); Maini et al., "TOFU" (arXiv 2401.06121).
 */
record GradientAscent(String name, Reduction reduction, Positions positions) implements Loss {
  private static final String TOFU = "TOFU, closer-look, open-unlearning";

  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "GA",
              "gradient ascent",
              o -> new GradientAscent("GA", Reduction.of(o), o.positions()))
          .formula("-R(nll)", "R: token_mean, sequence_mean or sequence_sum")
          .source(
              "Jang et al., arXiv 2210.01504; Maini et al. (TOFU), arXiv 2401.06121",
              "Jang's code ascends on whole sequences (positions: all), TOFU's on answers; Yao's"
                  + " (LLMU) takes the mean of each sequence first (reduction: sequence_mean)")
          .options(
              Reduction.option(Reduction.TOKEN_MEAN, TOFU),
              Option.positions(Positions.ANSWER, TOFU));

  private Use use() {
    return Use.nll(Role.FORGET, positions);
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
    return reduction.count(totals, use());
  }

  @Override
  public void evaluate(Observed seen, Accumulator out) {
    reduction.terms(seen, use(), seen.rows()::nll, out);
  }
}
