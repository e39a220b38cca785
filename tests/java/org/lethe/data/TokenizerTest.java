package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalInt;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.data.corpus.BpeTrainer;

class TokenizerTest {
  @TempDir Path directory;

  @BeforeEach
  void write() {
    BpeTrainer.train(List.of("what is this", "this is that"), 300).write(directory);
  }

  private void config(String json) throws IOException {
    Files.writeString(directory.resolve("tokenizer_config.json"), json);
  }

  private String refusal() {
    return assertThrows(UserException.class, () -> Tokenizer.load(directory).close()).getMessage();
  }

  @Test
  void specialTokensAreStringsOrObjectsOrAbsent() throws IOException {
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      assertEquals(2, tokenizer.eosId());
      assertEquals(OptionalInt.of(1), tokenizer.bosId());
      assertEquals(OptionalInt.of(0), tokenizer.padId());
      assertEquals(OptionalInt.of(3), tokenizer.tokenId("<|user|>"));
      assertEquals(OptionalInt.empty(), tokenizer.tokenId("<|tool|>"));
      assertTrue(tokenizer.addsBos());
    }
    config("{\"eos_token\":{\"content\":\"<|eos|>\",\"lstrip\":false},\"bos_token\":null}");
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      assertEquals(2, tokenizer.eosId());
      assertEquals(OptionalInt.empty(), tokenizer.bosId());
      assertFalse(tokenizer.addsBos());
    }
    Files.delete(directory.resolve("tokenizer_config.json"));
    try (Tokenizer tokenizer = Tokenizer.load(directory.resolve("tokenizer.json"))) {
      String message = assertThrows(UserException.class, tokenizer::eosId).getMessage();
      assertTrue(message.contains("eos_token"), message);
    }
  }

  @Test
  void encodingAddsNothingAndDecodingSkipsSpecials() {
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      assertEquals(0, tokenizer.encode("").length);
      assertEquals("", tokenizer.decode(new int[0]));
      int[] ids = tokenizer.encode("<|bos|>this is that<|eos|>");
      assertEquals(1, ids[0]);
      assertEquals(2, ids[ids.length - 1]);
      assertEquals("this is that", tokenizer.decode(ids));
      assertThrows(UserException.class, () -> tokenizer.encode("half \ud83d of a pair"));
      assertThrows(IllegalArgumentException.class, () -> tokenizer.decode(new int[] {-1}));
    }
  }

  @Test
  void truncationAndPaddingOfTheFileAreIgnored() throws IOException {
    Path file = directory.resolve("tokenizer.json");
    String json = Files.readString(file);
    String cut =
        json.replaceFirst(
                "\"truncation\" : null",
                "\"truncation\" : {\"direction\":\"Right\",\"max_length\":2,"
                    + "\"strategy\":\"LongestFirst\",\"stride\":0}")
            .replaceFirst(
                "\"padding\" : null",
                "\"padding\" : {\"strategy\":{\"Fixed\":900},\"direction\":\"Right\","
                    + "\"pad_to_multiple_of\":null,\"pad_id\":0,\"pad_type_id\":0,"
                    + "\"pad_token\":\"<|pad|>\"}");
    assertFalse(cut.equals(json));
    String text = "this is that and something else ".repeat(60);
    int[] whole;
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      whole = tokenizer.encode(text);
    }
    Files.writeString(file, cut);
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      assertTrue(whole.length > 512, "longer than the library's own limit");
      assertArrayEquals(whole, tokenizer.encode(text));
      assertArrayEquals(new int[] {tokenizer.encode("x")[0]}, tokenizer.encode("x"));
    }
  }

  @Test
  void aModelWithFewerRowsIsRefused() {
    try (Tokenizer tokenizer = Tokenizer.load(directory)) {
      int size = tokenizer.vocabularySize();
      tokenizer.requireVocabulary(size);
      tokenizer.requireVocabulary(size + 64);
      String message =
          assertThrows(UserException.class, () -> tokenizer.requireVocabulary(size - 1))
              .getMessage();
      assertTrue(message.contains("up to " + (size - 1)), message);
    }
  }

  @Test
  void brokenFilesAreNamed() throws IOException {
    config("{\"eos_token\":\"<end>\"}");
    assertTrue(refusal().contains("\"<end>\" is not in the vocabulary"));
    config("{\"eos_token\":3}");
    assertTrue(refusal().contains("\"eos_token\" must be a string"));
    config("{\"eos_token\":");
    assertTrue(refusal().contains("tokenizer_config.json:1: not JSON"));
    Files.delete(directory.resolve("tokenizer_config.json"));
    Path file = directory.resolve("tokenizer.json");
    Files.writeString(file, "{\"model\":{\"vocab\":{\"a\":0}}}");
    assertTrue(refusal().contains("is not a tokenizer that can be read"));
    Files.writeString(file, "{}");
    assertTrue(refusal().contains("\"vocab\""));
    Files.writeString(file, "[]");
    assertTrue(refusal().contains("not a JSON object"));
    Files.delete(file);
    assertTrue(refusal().contains("does not exist"));
  }

  @Test
  void loadingLeavesTheSystemPropertiesAlone() {
    System.clearProperty("ai.djl.offline");
    Tokenizer.load(directory).close();
    assertNull(System.getProperty("ai.djl.offline"));
    assertNull(System.getProperty("org.slf4j.simpleLogger.log.ai.djl"));
  }
}
