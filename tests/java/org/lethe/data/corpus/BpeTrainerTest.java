package org.lethe.data.corpus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.data.CounterRng;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.PromptTemplate;
import org.lethe.data.Tokenizer;

class BpeTrainerTest {
  private static final Pattern WORDS =
      Pattern.compile(
          "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
          Pattern.UNICODE_CHARACTER_CLASS);

  @TempDir static Path directory;
  private static Corpus corpus;
  private static BpeTokenizer trained;
  private static Tokenizer tokenizer;

  @BeforeAll
  static void train() {
    corpus = Corpus.generate(1, 40);
    trained = BpeTrainer.train(corpus.texts(), BpeTrainer.DEFAULT_VOCABULARY);
    trained.write(directory);
    tokenizer = Tokenizer.load(directory);
  }

  @AfterAll
  static void close() {
    tokenizer.close();
  }

  /** The textbook way: apply the earliest merge present, anywhere, until none is left. */
  private static int[] expected(String text) {
    Map<BpeTokenizer.Merge, Integer> ranks = new HashMap<>();
    trained.merges().forEach(merge -> ranks.put(merge, ranks.size()));
    List<Integer> ids = new ArrayList<>();
    Matcher matcher = WORDS.matcher(text);
    ByteAlphabet alphabet = new ByteAlphabet();
    while (matcher.find()) {
      List<String> parts = new ArrayList<>();
      alphabet.spell(matcher.group()).chars().forEach(c -> parts.add(String.valueOf((char) c)));
      while (true) {
        int at = -1;
        int best = Integer.MAX_VALUE;
        for (int i = 0; i + 1 < parts.size(); i++) {
          int rank =
              ranks.getOrDefault(
                  new BpeTokenizer.Merge(parts.get(i), parts.get(i + 1)), Integer.MAX_VALUE);
          if (rank < best) {
            best = rank;
            at = i;
          }
        }
        if (at < 0) {
          break;
        }
        parts.set(at, parts.get(at) + parts.remove(at + 1));
      }
      parts.forEach(part -> ids.add(trained.vocabulary().indexOf(part)));
    }
    return ids.stream().mapToInt(Integer::intValue).toArray();
  }

  @Test
  void merges() {
    // The words are "abc", " ab" and " abc". "ab" occurs 3 times; then both " ab" and "abc" occur
    // twice, and the space has the smaller id; then no pair occurs twice.
    BpeTokenizer small = BpeTrainer.train(List.of("abc ab", " abc"), 2048);
    assertEquals(
        List.of(new BpeTokenizer.Merge("a", "b"), new BpeTokenizer.Merge("\u0120", "ab")),
        small.merges());
    assertEquals(List.of("ab", "\u0120ab"), small.vocabulary().subList(261, 263));
  }

  @Test
  void theVocabularyIsBoundedAndEndsWhereNothingRepeats() {
    assertTrue(trained.vocabulary().size() <= BpeTrainer.DEFAULT_VOCABULARY);
    assertEquals(261 + trained.merges().size(), trained.vocabulary().size());
    assertEquals(trained.vocabulary().size(), trained.vocabulary().stream().distinct().count());
    assertEquals(300, BpeTrainer.train(corpus.texts(), 300).vocabulary().size());
    assertEquals(261, BpeTrainer.train(List.of(), 2048).vocabulary().size());
    assertEquals(261, BpeTrainer.train(List.of("abc"), 2048).vocabulary().size());
    assertThrows(UserException.class, () -> BpeTrainer.train(List.of(), 260));
  }

  @Test
  void aRepeatedLetterMerges() {
    BpeTokenizer small = BpeTrainer.train(List.of("aaaa", "aaa"), 2048);
    assertEquals(new BpeTokenizer.Merge("a", "a"), small.merges().get(0));
    assertTrue(small.vocabulary().contains("aa"));
  }

  @Test
  void trainingAgainWritesTheSameBytes(@TempDir Path again) throws Exception {
    BpeTrainer.train(Corpus.generate(1, 40).texts(), BpeTrainer.DEFAULT_VOCABULARY).write(again);
    for (String name : List.of("tokenizer.json", "tokenizer_config.json")) {
      assertArrayEquals(
          Files.readAllBytes(directory.resolve(name)),
          Files.readAllBytes(again.resolve(name)),
          name);
    }
  }

  @Test
  void idsAreWhatTheMergesSay() {
    List<String> texts = new ArrayList<>(corpus.texts().subList(0, 60));
    texts.addAll(
        List.of(
            "",
            " ",
            "  two  spaces ",
            "it's we'll I'd",
            "caf\u00e9 na\u00efve",
            "x\n\n y\t",
            "3.14159, 2024!",
            "\u65e5\u672c\u8a9e",
            "\ud83d\ude00\ud83c\udffd",
            "\u00a0\u3000 z"));
    for (String text : texts) {
      assertArrayEquals(expected(text), tokenizer.encode(text), text);
    }
  }

  @Test
  void anyTextComesBack() {
    for (int i = 0; i < 500; i++) {
      StringBuilder text = new StringBuilder();
      int length = CounterRng.below(20, 3, i);
      for (int j = 0; j < length; j++) {
        int plane = CounterRng.below(3, 4, i, j);
        int c = CounterRng.below(new int[] {0x80, 0x3000, 0x110000}[plane], 5, i, j);
        text.appendCodePoint(c >= 0xD800 && c < 0xE000 ? '?' : c);
      }
      String written = text.toString();
      assertEquals(written, tokenizer.decode(tokenizer.encode(written)));
    }
  }

  @Test
  void rowsAreShort() {
    ExampleEncoder encoder =
        new ExampleEncoder(
            tokenizer, PromptTemplate.chat(tokenizer), 64, ExampleEncoder.LongSequence.REFUSE);
    double mean =
        corpus.full().stream()
            .mapToInt(row -> encoder.encode(row.question(), row.answer(), "row").ids().length)
            .average()
            .orElseThrow();
    assertTrue(mean <= 40, "mean length " + mean);
  }
}
