package org.lethe.config;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/** JSON Lines files by the part they play; a part's files are read one after the other. */
public record DataConfig(
    @Doc("Rows that finetune learns") @Default("[]") List<Path> train,
    @Doc("Rows to forget") @Default("[]") List<Path> forget,
    @Doc(
            "The part of the forget rows that is forgotten and judged: 2/4 is the second of four"
                + " consecutive chunks; unset: all")
        @Written("chunk/chunks, such as 2/4")
        Optional<String> forgetChunk,
    @Doc("Rows to keep, trained on beside the forget rows") @Default("[]") List<Path> retain,
    @Doc("Rows of general knowledge, evaluated as a set of their own") @Default("[]")
        List<Path> general,
    @Doc("Whether unlearning trains on general, too, as on retain") @Default("false")
        boolean trainOnGeneral,
    @Doc("Rows the model never saw, only evaluated") @Default("[]") List<Path> holdout,
    @Doc("Refusals that IDK, DPO and AP teach, one a line; unset: Lethe's own")
        Optional<Path> refusals,
    @Doc("Rows whose answers LLMU gives to forget questions; unset: the retain rows'")
        @Default("[]")
        List<Path> mismatch,
    @Doc("How many such answers a forget row gets in a step (Yao et al.: 5)") @Default("5")
        int mismatches,
    @Doc(
            "Sensitive tokens of forget rows (SeUL): given (the rows' sensitive_spans) or"
                + " low_probability (less likely than the answer's tokens on average, to the base)")
        @Default("given")
        Sensitive sensitive,
    @Doc("Rows the model never saw, which KGA's gap is measured on; unset: none") @Default("[]")
        List<Path> unseen,
    @Doc("Retain rows that go with a forget row in a step (KGA: 2 to 10)") @Default("1")
        int retainPerForget,
    @Doc("JSON object of names and what could stand in their place, for WHP; unset: none")
        Optional<Path> anchors,
    @Doc("Longest sequence, in tokens; 0: the model's context") @Default("0") int contextLength,
    @Doc("A row longer than that: truncate (counted in a warning) or refuse") @Default("truncate")
        Truncation onTooLong,
    @Doc(
            "Retain row of a forget row: fresh (drawn anew each epoch), fixed (by index) or"
                + " closer_look (by index, the very rows its code draws)")
        @Default("fresh")
        PairingMode pairing,
    @Doc("Prompt with {question} in it, such as [INST] {question} [/INST]; unset: chat template")
        Optional<String> prompt,
    @Doc("System message of the chat template, before the question; unset: none")
        Optional<String> systemPrompt,
    @Doc("Date that the chat template shows (its date_string); unset: the template's own")
        Optional<String> dateString,
    @Doc(
            "How prompt and answer become tokens: separate (apart), joint (in one go; a token with"
                + " a character of the answer is a label) or joint_prefix (as many tokens as the"
                + " prompt alone has are no labels, as in open-unlearning)")
        @Default("separate")
        Tokenization tokenization) {

  /** Which tokens of an answer are sensitive. */
  public enum Sensitive {
    GIVEN,
    LOW_PROBABILITY
  }

  /** How prompt and answer become tokens. */
  public enum Tokenization {
    SEPARATE,
    JOINT,
    JOINT_PREFIX
  }

  /** What happens to a row that exceeds the context. */
  public enum Truncation {
    TRUNCATE,
    REFUSE
  }

  /** How retain rows and refusal lines are chosen for forget rows. */
  public enum PairingMode {
    FRESH,
    FIXED,
    CLOSER_LOOK
  }

  public DataConfig {
    Check.atLeast("context_length", 0, contextLength);
    Check.atLeast("mismatches", 1, mismatches);
    forgetChunk.ifPresent(Chunk::parse);
    if (prompt.isPresent() && (systemPrompt.isPresent() || dateString.isPresent())) {
      throw new IllegalArgumentException(
          "system_prompt and date_string are for a chat template, but prompt replaces it; write"
              + " them into prompt, or unset it");
    }
  }
}
