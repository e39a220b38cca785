package org.lethe.config;

/** Quirks of published code, to compare methods and not bugs; see docs/parity.md. */
public record ParitySection(
    @Doc("Rows of a micro-batch whose losses are averaged apart; 0: the step has one denominator")
        @Default("0")
        int microBatchRows,
    @Doc(
            "Padding that losses over whole rows count: none, closer_look (to padded_length) or"
                + " open_unlearning (to the longest row, end tokens of prompts masked)")
        @Default("none")
        Padding padding,
    @Doc("Length that closer_look pads to: 500 in its TOFU runs, 300 in its real-people ones")
        @Default("0")
        int paddedLength,
    @Doc("Token that pads; -1: the end token, as both codes have it") @Default("-1")
        int paddingToken) {

  /** Whose padding. */
  public enum Padding {
    NONE,
    CLOSER_LOOK,
    OPEN_UNLEARNING
  }

  public ParitySection {
    Check.atLeast("micro_batch_rows", 0, microBatchRows);
    Check.atLeast("padded_length", 0, paddedLength);
    Check.atLeast("padding_token", -1, paddingToken);
    if (padding == Padding.CLOSER_LOOK && paddedLength < 2) {
      throw new IllegalArgumentException(
          "padded_length "
              + paddedLength
              + " is no length to pad to; with padding closer_look give 500 (its TOFU runs) or 300"
              + " (its real-people ones)");
    }
  }
}
