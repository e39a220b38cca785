package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ChunkTest {
  @Test
  void chunksAreConsecutiveOfLikeSizeAndTogetherTheWhole() {
    for (int size = 0; size < 30; size++) {
      List<Integer> whole = IntStream.range(0, size).boxed().toList();
      for (int count = 1; count < 9; count++) {
        List<Integer> together = new ArrayList<>();
        for (int i = 1; i <= count; i++) {
          List<Integer> part = new Chunk(i, count).of(whole);
          assertEquals(size / count + (i <= size % count ? 1 : 0), part.size());
          together.addAll(part);
        }
        assertEquals(whole, together);
      }
    }
  }

  @Test
  void readsWhatItWrites() {
    assertEquals(new Chunk(2, 4), Chunk.parse(" 2/4 "));
    assertEquals("2/4", new Chunk(2, 4).toString());
  }

  @ParameterizedTest
  @ValueSource(strings = {"0/4", "5/4", "2", "a/b", "-1/2", "1/0", "1/2/3", ""})
  void refusesWhatIsNone(String text) {
    String message =
        assertThrows(IllegalArgumentException.class, () -> Chunk.parse(text)).getMessage();
    assertTrue(message.contains("chunk"), message);
  }
}
