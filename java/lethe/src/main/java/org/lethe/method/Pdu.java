package org.lethe.method;

import java.util.List;
import java.util.Map;

/**
 * PDU, primal-dual unlearning: γ·L_f + α_t·(L_r − ε), with L_f of {@link LogitMargin} and L_r the
 * mean nll of the retain answers; after each step past the warm-up α_{t+1} = max(0, α_t + η·(L_r −
 * ε)), η the dual step size.
 *
 * <p>Source: Entesari et al., "Constrained Entropic Unlearning: A Primal-Dual Framework for Large
 * Language Models" (arXiv 2506.05314); open-unlearning, {@code src/trainer/unlearn/pdu.py}, which
 * updates α after every micro-batch: here after every step. Its mask is that of the labels,
 * unshifted: the rows at the answer's tokens, the default here too.
 */
final class Pdu {
  private static final String OPEN = "open-unlearning, PDU.yaml";

  static final LossSpec SPEC =
      LossSpec.several(Side.FORGET, "PDU", "primal-dual unlearning", Pdu::losses)
          .formula(
              "mean (max z - mean z)^2 (forget) + alpha_t (mean nll(retain) - eps), alpha_{t+1} ="
                  + " max(0, alpha_t + dual_step (mean nll(retain) - eps))",
              "mean over rows")
          .source(
              "Entesari et al., arXiv 2506.05314; open-unlearning",
              "open-unlearning updates alpha after every micro-batch, here after every step; its"
                  + " update after an epoch (dual_update_upon=epoch) is not offered. It gives eps"
                  + " no default in its YAML; its TOFU script has alpha 100, dual_step 5, eps 0.3")
          .complete()
          .options(
              Option.atLeast(
                  0, "alpha", 1, "weight of the retain part before the first step", OPEN),
              Option.atLeast(0, "eps", 0, "retain loss that is allowed", "open-unlearning, pdu.py"),
              Option.atLeast(0, "dual_step", 1, "how fast alpha follows", OPEN),
              Option.whole(0, "warmup_epochs", 5, "epochs in which alpha stays", OPEN),
              Option.choice(
                  "positions",
                  Positions.ANSWER_UNSHIFTED,
                  "rows of the forget part",
                  "open-unlearning, pdu.py",
                  Positions.ANSWER_UNSHIFTED,
                  Positions.ANSWER,
                  Positions.ALL));

  private Pdu() {}

  private static List<Weighted> losses(Options o) {
    NllDescent retain =
        new NllDescent("PDU_retain", Role.RETAIN, Reduction.TOKEN_MEAN, Positions.ANSWER);
    return List.of(
        new Weighted(1, new LogitMargin("PDU_forget", o.positions())),
        new Weighted(
            1,
            new Constrained(
                retain,
                o.number("alpha"),
                o.number("eps"),
                o.number("dual_step"),
                o.whole("warmup_epochs"))));
  }

  /** A mean over rows that is held at a bound by a multiplier, which is the loss's state. */
  private record Constrained(
      NllDescent loss, double start, double bound, double step, int warmupEpochs) implements Loss {
    private static final String ALPHA = "alpha";

    @Override
    public String name() {
      return loss.name();
    }

    @Override
    public List<Use> uses() {
      return loss.uses();
    }

    @Override
    public double scale() {
      return loss.scale();
    }

    @Override
    public long count(Totals totals) {
      return loss.count(totals);
    }

    @Override
    public void evaluate(Observed seen, Accumulator out) {
      Reduction.TOKEN_MEAN.terms(
          seen, loss.uses().get(0), row -> seen.rows().nll(row) - bound, out);
    }

    @Override
    public Map<String, Double> initialState() {
      return Map.of(ALPHA, start);
    }

    @Override
    public double weight(Map<String, Double> state) {
      return state.get(ALPHA);
    }

    @Override
    public Map<String, Double> nextState(Map<String, Double> state, double value, StepPlace place) {
      return place.epoch() < warmupEpochs
          ? state
          : Map.of(ALPHA, Math.max(0, state.get(ALPHA) + step * value));
    }
  }
}
