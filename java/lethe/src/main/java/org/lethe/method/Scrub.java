package org.lethe.method;

import java.util.ArrayList;
import java.util.List;

/**
 * SCRUB, unlearning by a student that disobeys its teacher: the trained model p, the student, is
 * driven away from the reference r, the teacher, on what is to be forgotten, and held to it and to
 * the labels on the rest:
 *
 * <pre>
 *   max step  −w · T² · (1/N) Σ KL_T(r‖p)                            over the N rows of role FORGET
 *   min step  α · T² · (1/M) Σ KL_T(r‖p) + γ · (1/M) Σ nll           over the M rows of role RETAIN
 *   KL_T(r‖p) = KL(softmax(z_ref/T)‖softmax(z/T))
 * </pre>
 *
 * <p>The nll has no temperature. T² keeps the size of the gradient when T changes, as in the
 * authors' code. Positions: ALL by default. Needs the reference's hidden states.
 *
 * <p>The paper alternates: an epoch of max steps, then one of min steps, and after some max epochs
 * min steps alone. Here {@code train.turns: epochs} alternates (max first; an epoch of either side
 * is as many steps as the forget rows fill), and a later phase of {@code lethe run} with {@code
 * forget_weight: 0}, joint turns, trains the min step alone. Joint turns train the sum of both
 * steps.
 *
 * <p>The max step is unbounded below, as ascent is. Both divergences are 0 with gradient 0 where
 * the model equals the reference: max steps before anything else has moved the model change
 * nothing, so that a run with fresh adapters begins in effect with its first min step.
 *
 * <p>Source: Kurmanji et al., "Towards Unbounded Machine Unlearning" (arXiv 2302.09880), code
 * meghdadk/SCRUB, {@code thirdparty/repdistiller/helper/loops.py}, for classifiers. For language
 * models chrisliu298/llm-unlearn-eco, {@code scripts/copyright_unlearn_baselines.py}: T 4, of 5
 * epochs the first four max and min in turn. Its divergence takes the softmax of [B, T, V] over
 * dimension 1, which is time and not the vocabulary, divides by the batch a second time, and counts
 * padding and the last position; none of this is reproduced, the paper's formula is used.
 */
final class Scrub {
  private static final String ECO = "llm-unlearn-eco, README.md";

  static final LossSpec SPEC =
      LossSpec.several(Side.FORGET, "SCRUB", "a student that disobeys its teacher", Scrub::losses)
          .formula(
              "-forget_weight T^2 mean KL_T(p_ref || p)(forget) + alpha T^2 mean KL_T(p_ref ||"
                  + " p)(retain) + gamma mean nll(retain), KL_T of logits over T = temperature",
              "mean over rows")
          .source(
              "Kurmanji et al., arXiv 2302.09880; code SCRUB; llm-unlearn-eco",
              "the paper takes max (forget) and min (retain) epochs in turn: train.turns epochs;"
                  + " then min epochs alone: a further phase with forget_weight 0. llm-unlearn-eco"
                  + " takes its softmax over time in place of the vocabulary and divides by the"
                  + " batch twice; not reproduced. SCRUB's notebooks have temperature 2, 4 or 8,"
                  + " gamma 0.99, 1 or 99, and alpha 0.001 to 0.5. Unbounded below; max steps"
                  + " change nothing while the model still equals the reference")
          .complete()
          .options(
              Option.above(
                      0,
                      "temperature",
                      4,
                      "what logits are divided by in the divergences",
                      "llm-unlearn-eco, copyright_unlearn_baselines.py")
                  .atMost(1e6),
              Option.atLeast(
                  0,
                  "forget_weight",
                  1,
                  "weight of the max step; 0 leaves it out, the min step alone",
                  "the paper"),
              Option.atLeast(0, "alpha", 0.001, "weight of the divergence on retain rows", ECO),
              Option.atLeast(0, "gamma", 1, "weight of the nll on retain rows", ECO),
              Option.choice(
                  "positions",
                  Positions.ALL,
                  "rows the losses look at",
                  "llm-unlearn-eco without padding and last position",
                  Positions.ANSWER,
                  Positions.ALL));

  private Scrub() {}

  private static List<Weighted> losses(Options o) {
    double temperature = o.number("temperature");
    Positions positions = o.positions();
    List<Weighted> losses = new ArrayList<>();
    double forget = o.number("forget_weight");
    // With a weight of 0 the forget rows would still be computed, and train.turns would spend half
    // the steps on nothing.
    if (forget > 0) {
      losses.add(
          new Weighted(forget, divergence("SCRUB_max", Role.FORGET, positions, temperature, -1)));
    }
    losses.add(
        new Weighted(
            o.number("alpha"), divergence("SCRUB_min", Role.RETAIN, positions, temperature, 1)));
    losses.add(
        new Weighted(
            o.number("gamma"),
            new NllDescent("SCRUB_nll", Role.RETAIN, Reduction.TOKEN_MEAN, positions)));
    return losses;
  }

  private static Loss divergence(
      String name, Role role, Positions positions, double temperature, int sign) {
    Use use =
        new Use(role, positions, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN)
            .with(RowParameters.temperature(temperature));
    double scale = sign * temperature * temperature;
    return new Rowwise(name, use, Reduction.TOKEN_MEAN, scale, rows -> rows::kl);
  }
}
