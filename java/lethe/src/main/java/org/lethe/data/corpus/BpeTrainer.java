package org.lethe.data.corpus;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.lethe.UserException;

/**
 * Trains a byte-level BPE: texts are cut by GPT-2's pattern, spelt in its byte alphabet, and the
 * most frequent neighbouring pair is merged again and again. Of pairs equally frequent the one with
 * the smaller ids (left first) wins, so the result depends on nothing but the texts.
 */
public final class BpeTrainer {
  /** A vocabulary that suits a corpus of some tens of people. */
  public static final int DEFAULT_VOCABULARY = 2048;

  /** A pair met once only saves nothing elsewhere. */
  private static final int FEWEST_OCCURRENCES = 2;

  private static final int BYTES = 256;

  /** As the ByteLevel pre-tokenizer cuts, without a space put before the text. */
  private static final Pattern WORDS =
      Pattern.compile(
          "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
          Pattern.UNICODE_CHARACTER_CLASS);

  /** A distinct word of the texts: its tokens so far, and how often it occurs. */
  private static final class Word {
    private int[] tokens;
    private final int count;

    Word(int[] tokens, int count) {
      this.tokens = tokens;
      this.count = count;
    }
  }

  private final ByteAlphabet alphabet = new ByteAlphabet();
  private final List<String> vocabulary = new ArrayList<>();
  private final List<BpeTokenizer.Merge> merges = new ArrayList<>();
  private final Map<String, Integer> ids = new HashMap<>();
  private final List<Word> words = new ArrayList<>();
  private final Map<Long, Integer> pairCounts = new HashMap<>();
  private final Map<Long, Set<Integer>> pairWords = new HashMap<>();

  private BpeTrainer() {}

  /**
   * Trains a tokenizer.
   *
   * @param texts what it is to spell compactly; any other text can be spelt too
   * @param vocabulary the most tokens it may have, the special ones and the 256 bytes included; it
   *     has fewer when the texts run out of pairs that occur twice
   */
  public static BpeTokenizer train(List<String> texts, int vocabulary) {
    int least = BpeTokenizer.SPECIAL_TOKENS.size() + BYTES;
    if (vocabulary < least) {
      throw new UserException(
          "A vocabulary of " + vocabulary + " is too small; a byte-level one needs " + least + ".");
    }
    BpeTrainer trainer = new BpeTrainer();
    trainer.prepare(texts);
    while (trainer.vocabulary.size() < vocabulary && trainer.mergeOnce()) {}
    return new BpeTokenizer(trainer.vocabulary, trainer.merges);
  }

  private void prepare(List<String> texts) {
    BpeTokenizer.SPECIAL_TOKENS.forEach(this::token);
    for (int b = 0; b < BYTES; b++) {
      token(alphabet.symbol(b));
    }
    Map<String, Integer> counts = new TreeMap<>();
    for (String text : texts) {
      Matcher matcher = WORDS.matcher(text);
      while (matcher.find()) {
        counts.merge(alphabet.spell(matcher.group()), 1, Integer::sum);
      }
    }
    counts.forEach(
        (spelling, count) ->
            words.add(
                new Word(
                    spelling.chars().map(c -> ids.get(String.valueOf((char) c))).toArray(),
                    count)));
    for (int w = 0; w < words.size(); w++) {
      count(w, 1);
    }
  }

  private int token(String spelling) {
    return ids.computeIfAbsent(
        spelling,
        s -> {
          vocabulary.add(s);
          return vocabulary.size() - 1;
        });
  }

  private boolean mergeOnce() {
    long best = -1;
    int most = FEWEST_OCCURRENCES - 1;
    for (Map.Entry<Long, Integer> entry : pairCounts.entrySet()) {
      int count = entry.getValue();
      // Packed pairs are ordered as their ids are: left first, then right.
      if (count > most || (count == most && best >= 0 && entry.getKey() < best)) {
        best = entry.getKey();
        most = count;
      }
    }
    if (best < 0) {
      return false;
    }
    int left = (int) (best >>> 32);
    int right = (int) best;
    int merged = token(vocabulary.get(left) + vocabulary.get(right));
    merges.add(new BpeTokenizer.Merge(vocabulary.get(left), vocabulary.get(right)));
    for (int w : new HashSet<>(pairWords.get(best))) {
      count(w, -1);
      words.get(w).tokens = replace(words.get(w).tokens, left, right, merged);
      count(w, 1);
    }
    return true;
  }

  /** Adds a word's pairs to the counts, or takes them out. */
  private void count(int word, int sign) {
    Word entry = words.get(word);
    for (int i = 0; i + 1 < entry.tokens.length; i++) {
      long pair = ((long) entry.tokens[i] << 32) | entry.tokens[i + 1];
      if (pairCounts.merge(pair, sign * entry.count, Integer::sum) == 0) {
        pairCounts.remove(pair);
      }
      Set<Integer> where = pairWords.computeIfAbsent(pair, p -> new HashSet<>());
      if (sign > 0) {
        where.add(word);
      } else {
        where.remove(word);
      }
    }
  }

  private static int[] replace(int[] tokens, int left, int right, int merged) {
    int[] out = new int[tokens.length];
    int length = 0;
    int next = 0;
    while (next < tokens.length) {
      boolean pair = tokens[next] == left && next + 1 < tokens.length && tokens[next + 1] == right;
      out[length++] = pair ? merged : tokens[next];
      next += pair ? 2 : 1;
    }
    return Arrays.copyOf(out, length);
  }
}
