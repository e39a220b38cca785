package org.lethe.config;

import java.util.List;

/** How Quark samples the answers it learns from; unused by every other method. */
public record QuarkSection(
    @Doc("Steps between two rounds of sampling; 500 in Quark's code") @Default("500") int every,
    @Doc("Quantiles of the reward that the pool is cut into; 5 in the paper") @Default("5")
        int quantiles,
    @Doc(
            "Control tokens, one a quantile and the best one's first: tokens that the vocabulary"
                + " has and the texts do not use, since embeddings do not train")
        @Default("[]")
        List<String> tokens,
    @Doc(
            "What an answer earns: unlike (1 - ROUGE-L recall of what is to be forgotten) or"
                + " refusal (1 for a refusal, else 0)")
        @Default("unlike")
        String reward,
    @Doc("Whether retain questions are answered, too; they earn 1 - reward") @Default("false")
        boolean retainPrompts,
    @Doc("The most tokens of a sampled answer; 20 in the paper") @Default("20") int maxNewTokens,
    @Doc("Temperature of sampling; 1 in the paper") @Default("1") double temperature,
    @Doc("Least probability of the likeliest tokens that are drawn from; 1 in the paper: all")
        @Default("1")
        double topP) {

  public QuarkSection {
    tokens = List.copyOf(tokens);
    Check.atLeast("every", 1, every);
    Check.atLeast("quantiles", 1, quantiles);
    Check.atLeast("max_new_tokens", 1, maxNewTokens);
    Check.positive("temperature", temperature);
    Check.positive("top_p", topP);
    if (topP > 1) {
      throw new IllegalArgumentException("top_p must be above 0 and at most 1, but is " + topP);
    }
    if (!Double.isFinite(temperature)) {
      throw new IllegalArgumentException("temperature must be finite, but is " + temperature);
    }
  }
}
