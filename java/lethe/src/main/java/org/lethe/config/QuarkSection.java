package org.lethe.config;

import java.util.List;

/** How the method Quark samples and ranks the answers that it learns from (arXiv 2205.13636). */
public record QuarkSection(
    @Doc(
            "Tokens of the vocabulary that stand for quantiles of the reward, the best first; the"
                + " embedding is frozen, so they are existing ones that occur nowhere else")
        @Default("[]")
        List<String> controlTokens,
    @Doc(
            "What an answer earns: unlike (1 - ROUGE-L recall of the answer to be forgotten) or"
                + " refusal")
        @Default("unlike")
        String reward,
    @Doc("Updates between two rounds of sampling") @Default("500") int sampleEvery,
    @Doc("Answers sampled to each forget row in a round") @Default("1") int samples,
    @Doc("Temperature of the sampling") @Default("1.0") double temperature,
    @Doc("Share of the probability that is drawn from") @Default("1.0") double topP,
    @Doc("Longest sampled answer, in tokens") @Default("20") int maxNewTokens) {

  public QuarkSection {
    Check.atLeast("sample_every", 1, sampleEvery);
    Check.atLeast("samples", 1, samples);
    Check.positive("temperature", temperature);
    Check.positive("top_p", topP);
    Check.atLeast("max_new_tokens", 1, maxNewTokens);
    if (topP > 1) {
      throw new IllegalArgumentException("top_p must be at most 1, but is " + topP);
    }
    if (controlTokens.stream().distinct().count() != controlTokens.size()) {
      throw new IllegalArgumentException("control_tokens must differ from each other");
    }
  }
}
