package org.lethe.config;

import java.nio.file.Path;
import java.util.Optional;

/** How a model is judged. */
public record EvaluateSection(
    @Doc("Longest answer that is generated, in tokens") @Default("64") int maxNewTokens,
    @Doc("Rows of each set that are judged, from the front; 0: all") @Default("0") int rows,
    @Doc("Questions answered at a time") @Default("16") int batchSize,
    @Doc("How often the sets are judged during training: never, N steps, N epochs")
        @Default("never")
        @Written("never, N steps or N epochs")
        String every,
    @Doc(
            "evaluation.json of a model that never saw the forget set, for the forget quality;"
                + " unset: none")
        Optional<Path> neverSaw,
    @Doc(
            "Whose formulas where sources differ: lethe, open_unlearning (its printed digits) or"
                + " closer_look")
        @Default("lethe")
        Definitions definitions,
    @Doc("Share of an answer's least likely tokens that the attack Min-K% looks at") @Default("0.4")
        double minK,
    @Doc(
            "Length of the n-grams of extraction likelihood (Jang et al.: 10), measured on forget"
                + " and holdout with memorization accuracy; 0: not, since it continues every"
                + " prefix")
        @Default("0")
        int extractionN,
    @Doc("Prefixes those look at: answer (that hold the whole prompt) or all (a text's own, Jang)")
        @Default("answer")
        Prefixes extractionPrefixes,
    @Doc(
            "Token of the vocabulary at the front of every prompt that is judged, such as the first"
                + " of quark.tokens after Quark; unset: none")
        Optional<String> controlToken) {

  /** Prefixes that are continued. */
  public enum Prefixes {
    ANSWER,
    ALL
  }

  /** Whose formulas the metrics follow. */
  public enum Definitions {
    LETHE,
    OPEN_UNLEARNING,
    CLOSER_LOOK
  }

  public EvaluateSection {
    Check.atLeast("max_new_tokens", 1, maxNewTokens);
    Check.atLeast("rows", 0, rows);
    Check.atLeast("batch_size", 1, batchSize);
    Check.part("min_k", minK);
    Check.atLeast("extraction_n", 0, extractionN);
  }
}
