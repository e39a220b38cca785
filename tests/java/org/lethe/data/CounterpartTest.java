package org.lethe.data;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.data.corpus.BpeTrainer;

class CounterpartTest {
  private static final AnchorDictionary ANCHORS =
      AnchorDictionary.of(
          Map.of("Harry", "Jon", "Harry Potter", "Jon Smithson", "Hogwarts", "Mystic Academy"));

  @TempDir Path directory;
  private Tokenizer tokenizer;

  @BeforeEach
  void train() {
    BpeTrainer.train(
            List.of(
                "Harry Potter went to Hogwarts with Harry and Jon Smithson",
                "Jon went to Mystic Academy, Hogwarts and back to Harry"),
            330)
        .write(directory);
    tokenizer = Tokenizer.load(directory);
  }

  @AfterEach
  void close() {
    tokenizer.close();
  }

  @Test
  void anchorsAreReplacedWhereTheyStandAlone() {
    AnchorDictionary.Translation t =
        ANCHORS.translate("Harry Potter's Harry, Harrying HogwartsX at Hogwarts. Harry");
    assertEquals("Jon Smithson's Jon, Harrying HogwartsX at Mystic Academy. Jon", t.text());
    assertEquals(
        List.of(false, false, false, true),
        t.replaced().stream().map(AnchorDictionary.Replaced::repeated).toList());
    AnchorDictionary.Replaced first = t.replaced().get(0);
    assertEquals(0, first.start());
    assertEquals("Harry Potter".length(), first.end());
    assertEquals("Jon Smithson".length(), first.genericEnd());
    assertEquals("nothing", ANCHORS.translate("nothing").text());
    assertEquals("", ANCHORS.translate("").text());
  }

  private Counterpart counterpart(String text) {
    int[] ids = tokenizer.encode(text);
    int[] translated = tokenizer.encode(ANCHORS.translate(text).text());
    return Counterpart.translated(tokenizer, ANCHORS, ids, translated, "row 1");
  }

  private String upTo(int[] ids, int token) {
    return tokenizer.decode(Arrays.copyOf(ids, token + 1));
  }

  @Test
  void rowsGoWithTheRowsThatHaveTheTranslationOfTheirPast() {
    String text = "Harry Potter went to Hogwarts with Harry and back to Hogwarts then";
    int[] ids = tokenizer.encode(text);
    Counterpart c = counterpart(text);
    int mapped = 0;
    int left = 0;
    for (int t = 0; t < ids.length; t++) {
      String past = upTo(ids, t);
      if (c.rows()[t] == Counterpart.NONE) {
        left++;
        continue;
      }
      mapped++;
      assertEquals(ANCHORS.translate(past).text(), upTo(c.ids(), c.rows()[t]), "row " + t);
    }
    // The second Hogwarts is not predicted, and of anchors of several tokens the inside has none.
    int known = upTo(ids, ids.length - 1).lastIndexOf(" Hogwarts");
    for (int t = 0; t < ids.length - 1; t++) {
      int border = upTo(ids, t).length();
      if (border >= known && border < known + " Hogwarts".length()) {
        assertEquals(Counterpart.NONE, c.rows()[t], "row " + t);
      }
    }
    assertTrue(mapped >= 8 && left >= 1, mapped + " and " + left);
  }

  @Test
  void aTextWithoutAnchorsIsItsOwnCounterpart() {
    int[] ids = tokenizer.encode("went to and back");
    Counterpart c = counterpart("went to and back");
    assertArrayEquals(ids, c.ids());
    for (int t = 0; t < ids.length; t++) {
      assertEquals(t, c.rows()[t]);
    }
  }

  @Test
  void whatTheReferenceIsNotToSeeIsLeftOut() {
    Counterpart c = Counterpart.without(new int[] {1, 77, 5, 9}, 1);
    assertArrayEquals(new int[] {1, 5, 9}, c.ids());
    assertArrayEquals(new int[] {0, 0, 1, 2}, c.rows());
    assertEquals(c, Counterpart.without(new int[] {1, 77, 5, 9}, 1));
  }

  @Test
  void whatIsNoTranslationIsRefused() throws IOException {
    int[] ids = tokenizer.encode("Harry went");
    UserException e =
        assertThrows(
            UserException.class,
            () -> Counterpart.translated(tokenizer, ANCHORS, ids, ids, "forget.jsonl:3"));
    assertTrue(e.getMessage().startsWith("forget.jsonl:3: "), e.getMessage());
    assertRefused("[]", "no JSON object");
    assertRefused("{}", "no JSON object");
    assertRefused("{\"Harry\": 3}", "\"Harry\" stands for 3");
    assertRefused("{\"\": \"Jon\"}", "must be texts");
    assertRefused("{\"Harry", "cannot be read as JSON");
    Path file = Files.writeString(directory.resolve("good.json"), "{\"Harry\": \"Jon\"}");
    assertEquals("Jon!", AnchorDictionary.read(file).translate("Harry!").text());
  }

  private void assertRefused(String json, String message) throws IOException {
    Path file = Files.writeString(directory.resolve("anchors.json"), json);
    UserException e = assertThrows(UserException.class, () -> AnchorDictionary.read(file));
    assertTrue(e.getMessage().contains(message), e.getMessage());
    assertTrue(e.getMessage().contains(file.toString()), e.getMessage());
  }
}
