package org.lethe.data;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BiFunction;
import java.util.function.Function;

/**
 * Tokens of texts that come again and again, so that each is tokenised once. Prompts and answers
 * are kept without a bound of their own: whoever repeats them holds the texts, which take more. Of
 * pairs there may be as many as prompts times answers; they are kept until there are {@link
 * #pairTokens} tokens of them, and what comes later is tokenised each time. Any thread may call.
 */
final class TokenMemo {
  /** 64 MB of them. */
  static final long PAIR_TOKENS = 16L << 20;

  private final Map<String, int[]> prompts = new ConcurrentHashMap<>();
  private final Map<String, int[]> answers = new ConcurrentHashMap<>();
  private final Map<Texts, Pair> pairs = new ConcurrentHashMap<>();
  private final AtomicLong kept = new AtomicLong();
  private final long pairTokens;

  /** A question and an answer. */
  private record Texts(String question, String answer) {}

  /**
   * The tokens of both in one text.
   *
   * @param start index of the first one that holds a character of the answer
   * @param border the answer's first character in the text, in code points
   */
  // Read by whoever copies them.
  @SuppressWarnings("ArrayRecordComponent")
  record Pair(int[] ids, int start, int border) {}

  TokenMemo(long pairTokens) {
    this.pairTokens = pairTokens;
  }

  int[] prompt(String question, Function<String, int[]> tokenise) {
    return prompts.computeIfAbsent(question, tokenise);
  }

  int[] answer(String answer, Function<String, int[]> tokenise) {
    return answers.computeIfAbsent(answer, tokenise);
  }

  Pair pair(String question, String answer, BiFunction<String, String, Pair> tokenise) {
    Texts texts = new Texts(question, answer);
    Pair known = pairs.get(texts);
    if (known != null) {
      return known;
    }
    Pair pair = tokenise.apply(question, answer);
    if (kept.addAndGet(pair.ids().length) <= pairTokens) {
      pairs.put(texts, pair);
    }
    return pair;
  }
}
