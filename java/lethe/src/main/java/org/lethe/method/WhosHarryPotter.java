package org.lethe.method;

/**
 * "Who's Harry Potter" (Eldan &amp; Russinovich, arXiv 2310.02238): what a model would say that did
 * not know, as a target for one that does. With u the base's logits on the text with its names
 * replaced, and v those of a reinforced model, trained on more of the same, on the text as it is:
 *
 * <pre>
 *   w    = u − α·relu(v − u)                        the generic prediction
 *   loss = (1/N) Σ −Σ_t softmax(w)_t · log p_t      soft: KL(softmax(w)‖p) + H(softmax(w))
 *        | (1/N) Σ −log p[argmax w]                 hard
 * </pre>
 *
 * <p>over the N rows of role TARGET. The reinforced model is the view "reinforced". Rows without a
 * counterpart in the translation take no part; nor does a name that the text mentioned before (see
 * {@link org.lethe.data.Counterpart}). α is 5. Accounts of the paper call the loss a divergence,
 * its algorithm takes labels: both are offered, soft is the default. {@code baseline} says on which
 * text u is: translated (the paper), or original, which needs no dictionary and is how MUSE's
 * baseline decodes; code that takes u of the translation but the difference on the original is not
 * offered, since that needs three models at once.
 */
final class WhosHarryPotter {
  /** Name of the view that was trained on more of what is to be forgotten. */
  static final String REINFORCED = "reinforced";

  /** What the target is. */
  enum Targets {
    SOFT,
    HARD
  }

  /** The text that the base reads. */
  enum Baseline {
    TRANSLATED,
    ORIGINAL
  }

  static final LossSpec SPEC =
      LossSpec.of(Side.FORGET, "WHP", "Who's Harry Potter", WhosHarryPotter::loss)
          .formula("mean -sum softmax(u - alpha relu(v - u)) log p", "mean over rows")
          .source(
              "Eldan & Russinovich, arXiv 2310.02238; MUSE's whos_harry_potter.py",
              "accounts of the paper have soft targets, its algorithm hard ones (targets: hard);"
                  + " codes differ in the text that the base reads (baseline)")
          .options(
              Option.atLeast(0, "alpha", 5, "how much the reinforced model counts", "the paper"),
              Option.choice(
                  "targets",
                  Targets.SOFT,
                  "what is learnt",
                  "accounts of the paper",
                  Targets.values()),
              Option.choice(
                  "baseline",
                  Baseline.TRANSLATED,
                  "text that the base reads",
                  "the paper",
                  Baseline.values()),
              Option.choice(
                  "positions",
                  Positions.ALL,
                  "rows the loss looks at",
                  "the paper: whole blocks",
                  Positions.ANSWER,
                  Positions.ALL));

  private WhosHarryPotter() {}

  private static Loss loss(Options o) {
    boolean translated = o.choice("baseline", Baseline.class) == Baseline.TRANSLATED;
    if (o.choice("targets", Targets.class) == Targets.HARD) {
      Use use =
          Use.nll(Role.TARGET, o.positions()).from(new Sources(Sources.TRAINED, null, translated));
      return new Rowwise("WHP", use, Reduction.TOKEN_MEAN, 1, rows -> rows::nll);
    }
    return new Rowwise(
        "WHP",
        mixed(o.positions(), o.number("alpha"), translated, Sources.TRAINED),
        Reduction.TOKEN_MEAN,
        1,
        rows -> row -> rows.kl(row) + rows.referenceEntropy(row));
  }

  /** The rows that compare with the mixture. */
  static Use mixed(Positions positions, double alpha, boolean translated, String policy) {
    return new Use(Role.TARGET, positions, RowKind.REFERENCE_KL, ReferenceUse.HIDDEN)
        .with(new RowParameters(1, 0, (float) alpha, 0))
        .from(new Sources(policy, REINFORCED, translated));
  }
}
