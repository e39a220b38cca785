package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.BiFunction;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.data.ExampleEncoder.Border;
import org.lethe.data.ExampleEncoder.LongSequence;
import org.lethe.data.corpus.BpeTrainer;

class ExampleEncoderTest {
  @TempDir static Path directory;
  private static Tokenizer tokenizer;

  @BeforeAll
  static void train() {
    // ']"' becomes one token, so that a joint tokenisation would straddle the border.
    BpeTrainer.train(List.of("x]\"", "y]\"", "z]\""), 262).write(directory);
    tokenizer = Tokenizer.load(directory);
  }

  @AfterAll
  static void close() {
    tokenizer.close();
  }

  private static int[] answer(TokenSequence sequence) {
    return Arrays.copyOfRange(sequence.ids(), sequence.answerStart(), sequence.ids().length);
  }

  @Test
  void theAnswerStartsAtItsOwnFirstTokenAndEndsWithEos() {
    ExampleEncoder encoder =
        new ExampleEncoder(
            tokenizer, PromptTemplate.plain("[{question}]"), 32, LongSequence.REFUSE);
    assertEquals(1, tokenizer.encode("]\"").length);
    TokenSequence sequence = encoder.encode("q", "\"a\"", "row");
    assertEquals("[q]", tokenizer.decode(Arrays.copyOf(sequence.ids(), sequence.answerStart())));
    assertEquals("\"a\"", tokenizer.decode(answer(sequence)));
    assertEquals(4, sequence.answerTokens());
    assertEquals(tokenizer.eosId(), sequence.ids()[sequence.ids().length - 1]);
    assertArrayEquals(
        encoder.encodePrompt("q"), Arrays.copyOf(sequence.ids(), sequence.answerStart()));
  }

  @Test
  void bosComesOnce() throws IOException {
    int bos = tokenizer.bosId().orElseThrow();
    for (PromptTemplate template :
        List.of(PromptTemplate.plain("{question}"), PromptTemplate.chat(tokenizer))) {
      ExampleEncoder encoder = new ExampleEncoder(tokenizer, template, 32, LongSequence.REFUSE);
      int[] ids = encoder.encodePrompt("q");
      assertEquals(bos, ids[0]);
      assertEquals(1, Arrays.stream(ids).filter(id -> id == bos).count());
    }
  }

  @Test
  void withoutBosAnEmptyPromptIsRefused(@TempDir Path plain) throws IOException {
    Files.copy(directory.resolve("tokenizer.json"), plain.resolve("tokenizer.json"));
    Files.writeString(plain.resolve("tokenizer_config.json"), "{\"eos_token\":\"<|eos|>\"}");
    try (Tokenizer bare = Tokenizer.load(plain)) {
      ExampleEncoder encoder =
          new ExampleEncoder(bare, PromptTemplate.plain("{question}"), 32, LongSequence.REFUSE);
      assertEquals(1, encoder.encodePrompt("q").length);
      assertTrue(
          assertThrows(UserException.class, () -> encoder.encode("", "a", "f:3"))
              .getMessage()
              .startsWith("f:3: the prompt has no tokens"));
    }
  }

  /** Whichever way a question and an answer meet again, and behind a control token, too. */
  @Test
  void whatIsRememberedIsTheSameAndTokenisedOnce() {
    List<String> questions = List.of("x]", "y", "z: ");
    List<String> answers = List.of("\"a\"", " b", "x]\"y]\"");
    for (Border border : Border.values()) {
      List<TokenSequence> plain = new ArrayList<>();
      List<TokenSequence> again = new ArrayList<>();
      ExampleEncoder remembering;
      try (Tokenizer own = Tokenizer.load(directory)) {
        ExampleEncoder encoder =
            new ExampleEncoder(
                    own, PromptTemplate.plain("[{question}"), 9, LongSequence.TRUNCATE, border)
                .behind(5);
        remembering = encoder.remembering();
        for (String question : questions) {
          for (String answer : answers) {
            plain.add(encoder.encode(question, answer, "row"));
            remembering.encode(question, answer, "row");
          }
        }
        assertTrue(encoder.truncatedCount() > 0, border.name());
        assertEquals(encoder.truncatedCount(), remembering.truncatedCount(), border.name());
      }
      for (String question : questions) {
        for (String answer : answers) {
          again.add(remembering.encode(question, answer, "row"));
        }
      }
      assertEquals(plain, again, border.name());
    }
  }

  /** Of pairs there may be more than the heap has room for. */
  @Test
  void pairsAreRememberedWhileThereIsRoom() {
    TokenMemo memo = new TokenMemo(5);
    List<String> tokenised = new ArrayList<>();
    BiFunction<String, String, TokenMemo.Pair> tokenise =
        (question, answer) -> {
          tokenised.add(question + answer);
          return new TokenMemo.Pair(new int[] {1, 2, tokenised.size()}, 1, 1);
        };
    for (int i = 0; i < 2; i++) {
      assertEquals(1, memo.pair("q", "a", tokenise).ids()[2]);
      assertEquals(2 + i, memo.pair("q", "b", tokenise).ids()[2]);
    }
    assertEquals(List.of("qa", "qb", "qb"), tokenised);
  }

  @Test
  void longRowsAreCutAndCountedOrRefused() {
    PromptTemplate template = PromptTemplate.plain("{question}");
    // bos q q, a a a a, eos: eight tokens.
    ExampleEncoder exact = new ExampleEncoder(tokenizer, template, 8, LongSequence.REFUSE);
    assertEquals(8, exact.encode("qq", "abcd", "row").ids().length);
    ExampleEncoder refuse = new ExampleEncoder(tokenizer, template, 7, LongSequence.REFUSE);
    String message =
        assertThrows(UserException.class, () -> refuse.encode("qq", "abcd", "rows.jsonl:12"))
            .getMessage();
    assertTrue(message.startsWith("rows.jsonl:12: prompt and answer have 8 tokens"), message);
    assertEquals(0, refuse.truncatedCount());

    ExampleEncoder cut = new ExampleEncoder(tokenizer, template, 5, LongSequence.TRUNCATE);
    TokenSequence sequence = cut.encode("qq", "abcd", "row");
    assertEquals(5, sequence.ids().length);
    assertEquals(3, sequence.answerStart());
    assertEquals("ab", tokenizer.decode(answer(sequence)));
    assertEquals(1, cut.truncatedCount());
    cut.encode("q", "a", "row");
    assertEquals(1, cut.truncatedCount());
    String full =
        assertThrows(UserException.class, () -> cut.encode("qqqq", "a", "f:9")).getMessage();
    assertTrue(full.startsWith("f:9: the prompt has 5 tokens and leaves no room"), full);
    assertThrows(
        UserException.class, () -> new ExampleEncoder(tokenizer, template, 1, LongSequence.REFUSE));
  }

  @Test
  void sequencesCompareByContent() {
    assertEquals(new TokenSequence(new int[] {1, 2}, 1), new TokenSequence(new int[] {1, 2}, 1));
    assertThrows(IllegalArgumentException.class, () -> new TokenSequence(new int[] {1, 2}, 0));
    assertThrows(IllegalArgumentException.class, () -> new TokenSequence(new int[] {1, 2}, 2));
  }
}
