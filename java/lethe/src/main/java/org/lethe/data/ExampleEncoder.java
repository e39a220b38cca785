package org.lethe.data;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;
import org.lethe.UserException;

/**
 * Turns rows into token sequences: {@code [bos] prompt answer eos}.
 *
 * <p>Prompt and answer are tokenised apart and joined as ids. Tokenised together, a token could
 * straddle the border (a prompt that ends in {@code ]} and an answer that starts with a quotation
 * mark merge into one), and the label mask would lose the answer's first characters; and a model
 * that generates continues from the prompt's own ids, which only separate tokenisation gives. A
 * tokenizer that puts a space marker before every text (Llama 2) thus begins the answer with it.
 *
 * <p>bos: a chat template prints it or does without, and nothing is added. Before a plain template
 * it is added when the tokenizer's own post-processing would add it.
 *
 * <p>Any thread may call.
 */
public final class ExampleEncoder {
  /** What becomes of a sequence longer than the context. */
  public enum LongSequence {
    /** The end of the answer, eos included, is cut off, and counted. */
    TRUNCATE,
    /** A {@link UserException} names the row. */
    REFUSE
  }

  private final Tokenizer tokenizer;
  private final PromptTemplate template;
  private final int contextLength;
  private final LongSequence longSequence;
  private final boolean addsBos;
  private final AtomicInteger truncated = new AtomicInteger();

  /**
   * @param contextLength the most tokens a sequence may have, at least 2
   */
  public ExampleEncoder(
      Tokenizer tokenizer, PromptTemplate template, int contextLength, LongSequence longSequence) {
    if (contextLength < 2) {
      throw new UserException(
          "A context of "
              + contextLength
              + " tokens holds no prompt and answer; it must be at least 2.");
    }
    this.tokenizer = tokenizer;
    this.template = template;
    this.contextLength = contextLength;
    this.longSequence = longSequence;
    this.addsBos = !template.writesSpecialTokens() && tokenizer.addsBos();
  }

  /**
   * The sequence of a row.
   *
   * @param where the row's source, for messages
   * @throws UserException when the row is too long: the prompt alone fills the context, or the
   *     whole does and is to be refused
   */
  public TokenSequence encode(String question, String answer, String where) {
    int[] prompt = promptIds(question, where);
    if (prompt.length >= contextLength) {
      throw new UserException(
          where
              + ": the prompt has "
              + prompt.length
              + " tokens and leaves no room for an answer in a context of "
              + contextLength
              + "; raise the context length or shorten the question.");
    }
    int[] tail = tokenizer.encode(answer);
    int length = prompt.length + tail.length + 1;
    if (length > contextLength && longSequence == LongSequence.REFUSE) {
      throw new UserException(
          where
              + ": prompt and answer have "
              + length
              + " tokens, more than the context of "
              + contextLength
              + "; raise the context length, shorten the row, or let long rows be truncated.");
    }
    int[] ids = Arrays.copyOf(prompt, length);
    System.arraycopy(tail, 0, ids, prompt.length, tail.length);
    ids[length - 1] = tokenizer.eosId();
    if (length > contextLength) {
      truncated.incrementAndGet();
      ids = Arrays.copyOf(ids, contextLength);
    }
    return new TokenSequence(ids, prompt.length);
  }

  /** The ids that generation of an answer starts from: {@code [bos] prompt}; at least one. */
  public int[] encodePrompt(String question) {
    return promptIds(question, "question \"" + question + "\"");
  }

  /** How many sequences have been cut so far; each call of {@link #encode} counts. */
  public int truncatedCount() {
    return truncated.get();
  }

  private int[] promptIds(String question, String where) {
    int[] body = tokenizer.encode(template.prompt(question));
    if (!addsBos) {
      if (body.length == 0) {
        throw new UserException(
            where + ": the prompt has no tokens, so nothing predicts the answer; fill it in.");
      }
      return body;
    }
    int[] ids = new int[body.length + 1];
    ids[0] = tokenizer.bosId().orElseThrow();
    System.arraycopy(body, 0, ids, 1, body.length);
    return ids;
  }
}
