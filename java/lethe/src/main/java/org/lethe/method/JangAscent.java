package org.lethe.method;

/**
 * Jang et al.'s gradient ascent: GA over whole sequences, mean over all rows of the step, see
 * {@link GradientAscent}.
 *
 * <p>Source: Jang et al., "Knowledge Unlearning for Mitigating Privacy Risks in Language Models"
 * (arXiv 2210.01504); code joeljang/knowledge-unlearning, which takes the whole forget set as one
 * batch.
 */
final class JangAscent {
  static final LossSpec SPEC =
      LossSpec.of(
              Side.FORGET,
              "Jang",
              "gradient ascent on whole sequences",
              o -> new GradientAscent("Jang", Reduction.TOKEN_MEAN, Positions.ALL))
          .formula("-mean nll", "mean over all rows of the step, question and answer")
          .source(
              "Jang et al., arXiv 2210.01504; code joeljang/knowledge-unlearning",
              "set train.batch_size to the size of the forget set, as the code demands");

  private JangAscent() {}
}
