package org.lethe.data;

import java.util.Arrays;
import java.util.BitSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;
import org.lethe.UserException;

/**
 * Turns rows into token sequences: {@code [bos] prompt answer end}. What is learnt or unlearnt
 * begins exactly at the answer; {@link Border} says what that means where a tokenizer would merge
 * the prompt's last characters with the answer's first (a prompt that ends in {@code ]} and an
 * answer that starts with a quotation mark; {@code "Answer: "} and the space that a byte-level
 * tokenizer puts in front of a word).
 *
 * <p>bos: a chat template prints it or does without, and nothing is added. Before a plain template
 * it is added when the tokenizer's own post-processing would add it. The end is the token that
 * closes an answer, as {@link PromptTemplate} says.
 *
 * <p>Any thread may call.
 */
public final class ExampleEncoder {
  /** What becomes of a sequence longer than the context. */
  public enum LongSequence {
    /** The end of the answer, its end token included, is cut off, and counted. */
    TRUNCATE,
    /** A {@link UserException} names the row. */
    REFUSE
  }

  /** How prompt and answer meet. */
  public enum Border {
    /**
     * Tokenised apart and joined as ids: no token straddles the border, and the labels are the
     * answer's own ids. A model that generates continues from the prompt's own ids, which only this
     * gives. A tokenizer that puts a space marker before every text (Llama 2) begins the answer
     * with it.
     */
    SEPARATE,
    /**
     * Tokenised in one go, with what the chat template writes between them, and split by character
     * offsets: a token is a label if and only if it holds a character of the answer. So a token
     * that straddles the border is the first label, and no character of the answer goes unlearnt.
     */
    JOINT,
    /**
     * Tokenised in one go, and as many tokens are no labels as the prompt has on its own, as in the
     * code of TOFU ({@code data_module.py}), open-unlearning ({@code src/data/utils.py}) and
     * closer-look. A straddling token that takes the place of the prompt's last one is no label
     * (the answer's first characters are lost); where the prompt alone has more tokens than it
     * takes up in the whole, labels are lost, too. For comparisons with that code.
     */
    JOINT_PREFIX
  }

  /**
   * Prompt and answer without the end token.
   *
   * @param located finds the tokens behind {@code before} others, and their places in a text whose
   *     character {@code border} is the answer's first
   */
  // Read once and copied where it goes on; copies here would guard nothing.
  @SuppressWarnings("ArrayRecordComponent")
  private record Open(
      int[] ids, int answerStart, Supplier<Tokenizer.Located> located, int before, int border) {}

  private final Tokenizer tokenizer;
  private final PromptTemplate template;
  private final int contextLength;
  private final LongSequence longSequence;
  private final Border border;
  private final boolean addsBos;
  private final OptionalInt control;
  private final TokenMemo memo;
  private final AtomicInteger truncated = new AtomicInteger();

  /** An encoder that tokenises prompt and answer apart. */
  public ExampleEncoder(
      Tokenizer tokenizer, PromptTemplate template, int contextLength, LongSequence longSequence) {
    this(tokenizer, template, contextLength, longSequence, Border.SEPARATE);
  }

  /**
   * @param contextLength the most tokens a sequence may have, at least 2
   * @throws UserException when the template writes a control token that the tokenizer lacks
   */
  public ExampleEncoder(
      Tokenizer tokenizer,
      PromptTemplate template,
      int contextLength,
      LongSequence longSequence,
      Border border) {
    this(tokenizer, template, contextLength, longSequence, border, OptionalInt.empty(), null);
  }

  /**
   * With the context that is left beside the control token, where there is one.
   *
   * @param memo null: nothing is remembered
   */
  private ExampleEncoder(
      Tokenizer tokenizer,
      PromptTemplate template,
      int contextLength,
      LongSequence longSequence,
      Border border,
      OptionalInt control,
      TokenMemo memo) {
    if (contextLength < 2) {
      throw new UserException(
          "A context of "
              + contextLength
              + " tokens holds no prompt and answer; it must be at least 2.");
    }
    template.requireTokens(tokenizer);
    this.tokenizer = tokenizer;
    this.template = template;
    this.contextLength = contextLength;
    this.longSequence = longSequence;
    this.border = border;
    this.addsBos = !template.writesSpecialTokens() && tokenizer.addsBos();
    this.control = control;
    this.memo = memo;
  }

  /**
   * The same with a control token in every sequence and prompt, which conditions a model that was
   * trained with it: at the beginning, but behind the bos token where there is one.
   *
   * @param token id in the vocabulary
   */
  public ExampleEncoder behind(int token) {
    return new ExampleEncoder(
        tokenizer, template, contextLength - 1, longSequence, border, OptionalInt.of(token), memo);
  }

  /**
   * The same for rows that come again and again: it keeps the tokens of each question and each
   * answer, and where both are tokenised in one go up to 64 MB of those of pairs. What it gives is
   * the same, and it counts what it cuts by itself.
   */
  public ExampleEncoder remembering() {
    return new ExampleEncoder(
        tokenizer,
        template,
        contextLength,
        longSequence,
        border,
        control,
        new TokenMemo(TokenMemo.PAIR_TOKENS));
  }

  /** Where in a prompt's ids a control token goes: index 1 behind a bos token, else 0. */
  public int controlPlace(int[] ids) {
    OptionalInt bos = tokenizer.bosId();
    return bos.isPresent() && ids[0] == bos.getAsInt() ? 1 : 0;
  }

  /** The sequence of a row, with the tokens marked that hold a sensitive character. */
  public TokenSequence encode(Example row) {
    return encode(row.question(), row.answer(), row.sensitive(), row.source());
  }

  /** The sequence of a question with any answer; nothing is marked. */
  public TokenSequence encode(String question, String answer, String where) {
    return encode(question, answer, List.of(), where);
  }

  /**
   * The sequence of a row.
   *
   * @param passages of the answer that are marked: a token is if and only if it holds a character
   *     of one, as with labels
   * @param where the row's source, for messages
   * @throws UserException when the row is too long: the prompt alone fills the context, or the
   *     whole does and is to be refused; or when no token of the answer is a label
   */
  private TokenSequence encode(
      String question, String answer, List<Passage> passages, String where) {
    Open open =
        switch (border) {
          case SEPARATE -> apart(question, answer, where);
          case JOINT -> joint(question, answer, where);
          case JOINT_PREFIX -> byPrefix(question, answer, where);
        };
    TokenSequence sequence = closed(open.ids(), open.answerStart(), where);
    return controlled(
        passages.isEmpty() ? sequence : sequence.withSpans(spans(open, passages, sequence)));
  }

  private TokenSequence controlled(TokenSequence sequence) {
    return control.isEmpty()
        ? sequence
        : new TokenSequence(
            controlled(sequence.ids()),
            sequence.answerStart() + 1,
            sequence.spans().stream()
                .map(s -> new TokenSequence.Span(s.from() + 1, s.to() + 1))
                .toList());
  }

  private int[] controlled(int[] ids) {
    if (control.isEmpty()) {
      return ids;
    }
    int place = controlPlace(ids);
    int[] all = new int[ids.length + 1];
    System.arraycopy(ids, 0, all, 0, place);
    all[place] = control.getAsInt();
    System.arraycopy(ids, place, all, place + 1, ids.length - place);
    return all;
  }

  /** The ids that generation of an answer starts from: {@code [bos] prompt}; at least one. */
  public int[] encodePrompt(String question) {
    return controlled(promptIds(question, "question \"" + question + "\"").clone());
  }

  /** The id of the token that closes an answer. */
  public int endId() {
    return template.end().isPresent()
        ? tokenizer.tokenId(template.end().get()).orElseThrow()
        : tokenizer.eosId();
  }

  /** The ids at which generation of an answer stops: the closing token and eos. */
  public Set<Integer> stopIds() {
    Set<Integer> ids = new LinkedHashSet<>();
    ids.add(endId());
    if (tokenizer.hasEos()) {
      ids.add(tokenizer.eosId());
    }
    return ids;
  }

  /** How many sequences have been cut so far; each call of {@link #encode} counts. */
  public int truncatedCount() {
    return truncated.get();
  }

  private Open apart(String question, String answer, String where) {
    int[] prompt = promptIds(question, where);
    int[] tail = memo == null ? tokenizer.encode(answer) : memo.answer(answer, tokenizer::encode);
    int[] ids = Arrays.copyOf(prompt, prompt.length + tail.length);
    System.arraycopy(tail, 0, ids, prompt.length, tail.length);
    return new Open(ids, prompt.length, () -> tokenizer.encodeLocated(answer), prompt.length, 0);
  }

  private Open joint(String question, String answer, String where) {
    TokenMemo.Pair pair =
        memo == null ? pair(question, answer) : memo.pair(question, answer, this::pair);
    if (pair.start() == 0) {
      throw noPrompt(where);
    }
    return new Open(
        pair.ids(),
        pair.start(),
        () -> tokenizer.encodeLocated(before(question) + answer),
        addsBos ? 1 : 0,
        pair.border());
  }

  /** What stands before an answer. */
  private String before(String question) {
    return template.prompt(question) + template.lead();
  }

  private TokenMemo.Pair pair(String question, String answer) {
    String before = before(question);
    Tokenizer.Located whole = tokenizer.encodeLocated(before + answer);
    int border = before.codePointCount(0, before.length());
    int start = 0;
    while (start < whole.ends().length && whole.ends()[start] <= border) {
      start++;
    }
    return addsBos
        ? new TokenMemo.Pair(withBos(whole.ids()), start + 1, border)
        : new TokenMemo.Pair(whole.ids(), start, border);
  }

  private Open byPrefix(String question, String answer, String where) {
    int masked = promptIds(question, where).length;
    Open joint = joint(question, answer, where);
    if (masked >= joint.ids().length) {
      throw new UserException(
          where
              + ": tokenised together, prompt and answer have "
              + joint.ids().length
              + " tokens, and the prompt alone has "
              + masked
              + ", so no token of the answer would be learnt; set data.tokenization to separate or"
              + " joint.");
    }
    return new Open(joint.ids(), masked, joint.located(), joint.before(), joint.border());
  }

  /** The labels that hold a character of a passage, as spans. */
  private static List<TokenSequence.Span> spans(
      Open open, List<Passage> passages, TokenSequence sequence) {
    BitSet marked = new BitSet();
    Tokenizer.Located located = open.located().get();
    for (int i = 0; i < located.ids().length; i++) {
      int from = located.starts()[i] - open.border();
      int to = located.ends()[i] - open.border();
      int token = i + open.before();
      boolean label = token >= sequence.answerStart() && token < sequence.ids().length;
      marked.set(token, label && passages.stream().anyMatch(p -> p.touches(from, to)));
    }
    return TokenSequence.spans(marked);
  }

  /** Adds the end, and sees to what is too long. */
  private TokenSequence closed(int[] open, int answerStart, String where) {
    if (answerStart >= contextLength) {
      throw new UserException(
          where
              + ": the prompt has "
              + answerStart
              + " tokens and leaves no room for an answer in a context of "
              + contextLength
              + "; raise the context length or shorten the question.");
    }
    int length = open.length + 1;
    if (length > contextLength && longSequence == LongSequence.REFUSE) {
      throw new UserException(
          where
              + ": prompt and answer have "
              + length
              + " tokens, more than the context of "
              + contextLength
              + "; raise the context length, shorten the row, or let long rows be truncated.");
    }
    int[] ids = Arrays.copyOf(open, length);
    ids[length - 1] = endId();
    if (length > contextLength) {
      truncated.incrementAndGet();
      ids = Arrays.copyOf(ids, contextLength);
    }
    return new TokenSequence(ids, answerStart);
  }

  private int[] promptIds(String question, String where) {
    int[] ids = memo == null ? promptIds(question) : memo.prompt(question, this::promptIds);
    if (ids.length == 0) {
      throw noPrompt(where);
    }
    return ids;
  }

  private int[] promptIds(String question) {
    int[] body = tokenizer.encode(template.prompt(question));
    return addsBos ? withBos(body) : body;
  }

  private int[] withBos(int[] body) {
    int[] ids = new int[body.length + 1];
    ids[0] = tokenizer.bosId().orElseThrow();
    System.arraycopy(body, 0, ids, 1, body.length);
    return ids;
  }

  private static UserException noPrompt(String where) {
    return new UserException(
        where + ": the prompt has no tokens, so nothing predicts the answer; fill it in.");
  }
}
