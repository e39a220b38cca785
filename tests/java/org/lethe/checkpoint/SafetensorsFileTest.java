package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;

class SafetensorsFileTest {
  @TempDir Path dir;

  private Path write(byte[] bytes) throws IOException {
    return Files.write(dir.resolve("x.safetensors"), bytes);
  }

  private String refusal(byte[] bytes) throws IOException {
    Path path = write(bytes);
    String message =
        assertThrows(UserException.class, () -> SafetensorsFile.open(path).close()).getMessage();
    assertTrue(message.startsWith(path.toString()), message);
    return message;
  }

  private static String tensor(String name, String dtype, String shape, long begin, long end) {
    return "\""
        + name
        + "\":{\"dtype\":\""
        + dtype
        + "\",\"shape\":"
        + shape
        + ",\"data_offsets\":["
        + begin
        + ","
        + end
        + "]}";
  }

  @Test
  void readsTensorsInTheOrderOfTheirData() throws IOException {
    String header =
        "{\"__metadata__\":{\"format\":\"pt\",\"ü\":\"\\u00e9\"},"
            + tensor("b", "F32", "[2,1]", 3, 11)
            + ","
            + tensor("empty", "F32", "[0,5]", 3, 3)
            + ","
            + tensor("a", "U8", "[3]", 0, 3)
            + ","
            + tensor("scalar", "BF16", "[]", 11, 13)
            + "}   ";
    byte[] bytes = Bytes.file(header, 13);
    int data = bytes.length - 13;
    for (int i = 0; i < 13; i++) {
      bytes[data + i] = (byte) (i + 1);
    }
    try (SafetensorsFile file = SafetensorsFile.open(write(bytes))) {
      assertEquals(List.of("a", "empty", "b", "scalar"), List.copyOf(file.names()));
      assertEquals(Map.of("format", "pt", "ü", "é"), file.metadata());
      assertEquals(new TensorInfo("b", StoredDtype.F32, List.of(2L, 1L), 3, 11), file.info("b"));
      assertEquals(1, file.info("scalar").elements());
      assertEquals(0, file.info("empty").elements());
      assertEquals(List.of(), file.slices("empty"));
      ByteBuffer slice = file.slices("b").get(0);
      assertEquals(0x07060504, slice.getInt());
      assertTrue(slice.isReadOnly());
      ByteBuffer into = ByteBuffer.allocateDirect(5);
      assertEquals(3, file.readInto("b", 5, into));
      assertEquals(3, into.position());
      assertEquals(5, into.limit());
      assertEquals(9, into.get(0));
      assertEquals(0, file.readInto("b", 8, into));
      assertThrows(UserException.class, () -> file.readInto("b", 9, into));
      assertThrows(UserException.class, () -> file.readInto("b", -1, into));
      assertThrows(UserException.class, () -> file.info("nowhere"));
    }
  }

  @Test
  void slicesCoverATensorLargerThanTheWindow() throws IOException {
    byte[] bytes = Bytes.file("{" + tensor("a", "U8", "[10]", 0, 10) + "}", 10);
    for (int i = 0; i < 10; i++) {
      bytes[bytes.length - 10 + i] = (byte) i;
    }
    try (SafetensorsFile file = SafetensorsFile.open(write(bytes))) {
      List<ByteBuffer> slices = file.slices("a", 4);
      assertEquals(List.of(4, 4, 2), slices.stream().map(ByteBuffer::remaining).toList());
      byte[] joined = new byte[10];
      int at = 0;
      for (ByteBuffer slice : slices) {
        assertEquals(ByteOrder.LITTLE_ENDIAN, slice.order());
        int count = slice.remaining();
        slice.get(joined, at, count);
        at += count;
      }
      assertArrayEquals(new byte[] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, joined);
    }
  }

  @Test
  void readsBeyondTwoGigabytes() throws IOException {
    long big = (1L << 31) + 8;
    byte[] head =
        Bytes.file(
            "{"
                + tensor("a", "U8", "[" + big + "]", 0, big)
                + ","
                + tensor("b", "U8", "[2]", big, big + 2)
                + "}",
            0);
    Path path = write(head);
    // A sparse file: only the last bytes take room.
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
      channel.write(ByteBuffer.wrap(new byte[] {5, 6, 7}), head.length + big - 1);
    }
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      List<ByteBuffer> slices = file.slices("a");
      assertEquals(3, slices.size());
      assertEquals(5, slices.get(2).get(7));
      ByteBuffer into = ByteBuffer.allocate(4);
      assertEquals(1, file.readInto("a", big - 1, into));
      assertEquals(5, into.get(0));
      assertEquals(7, file.slices("b").get(0).get(1));
    }
  }

  @Test
  void refusesWhatIsNotSafetensors() throws IOException {
    assertTrue(refusal(new byte[7]).contains("truncated"));
    assertTrue(refusal(new byte[8]).contains("does not begin with '{'"));
    assertTrue(refusal(Bytes.file("[]", 0)).contains("does not begin with '{'"));
    assertTrue(refusal(Bytes.file(" {}", 0)).contains("does not begin with '{'"));
    byte[] huge =
        ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(100_000_001).array();
    assertTrue(refusal(huge).contains("over the limit"));
    byte[] negative = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(-1).array();
    assertTrue(refusal(negative).contains("18446744073709551615"));
    byte[] cut = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(9).array();
    assertTrue(refusal(cut).contains("truncated"));
    byte[] latin1 = "{\"é\":1}".getBytes(StandardCharsets.ISO_8859_1);
    assertTrue(refusal(Bytes.file(latin1, 0)).contains("UTF-8"));
    assertThrows(UserException.class, () -> SafetensorsFile.open(dir.resolve("absent")));
    assertThrows(UserException.class, () -> SafetensorsFile.open(dir));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{} | 1 | belong to none",
        "{} 1 | 0 | behind its closing brace",
        "{}} | 0 | not valid JSON",
        "{\"a\":1} | 0 | tensor 'a' must be an object",
        "{\"a\": | 0 | not valid JSON",
        "{\"__metadata__\":{} | 0 | not valid JSON",
        "{\"a\":{}} | 0 | lacks dtype",
        "{\"\\ud800\":{}} | 0 | not valid",
        "{\"\\udc00\":{}} | 0 | not valid",
        "{\"__metadata__\":{\"a\":1}} | 0 | must be a string",
        "{\"__metadata__\":{\"a\":\"1\",\"a\":\"1\"}} | 0 | Duplicate",
        "{\"__metadata__\":{},\"__metadata__\":{}} | 0 | Duplicate",
        "{\"a\":{\"dtype\":\"F33\",\"shape\":[],\"data_offsets\":[0,4]}} | 4 | unknown dtype 'F33'",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"x\":1}} | 4 | field 'x'",
        "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}} | 4 |"
            + " Duplicate",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}} | 4 | negative",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}} | 4 | whole numbers",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}} | 4 | whole numbers",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}} | 4 | a list",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,4]}} | 4 |"
            + " more than a file",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}} | 0 |"
            + " overflow",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}} | 0 |"
            + " overflow",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}} | 4 | takes 8 bytes",
        "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}} | 2 | end on a byte",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}} | 4 | begin <= end",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}} | 4 | begin <= end",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} | 3 | truncated",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}} | 5 | leaves a hole",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            + "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}} | 6 | 'b' overlaps"
            + " tensor 'a'",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            + "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}} | 8 | Duplicate",
      })
  void refusesBadHeaders(String header, int dataBytes, String words) throws IOException {
    String message = refusal(Bytes.file(header, dataBytes));
    assertTrue(message.contains(words), message);
  }

  /** Whatever a byte is changed to, opening succeeds or is refused in words. */
  @Test
  void mutationsNeverEscapeAsOtherErrors() throws IOException {
    byte[] good =
        Bytes.file(
            "{\"__metadata__\":{\"format\":\"pt\"},"
                + tensor("a.weight", "F32", "[2,3]", 0, 24)
                + ","
                + tensor("b", "BF16", "[4]", 24, 32)
                + "} ",
            32);
    Random random = new Random(7);
    String grammar = "{}[]\",:0123456789-+.eE\\u \0\n\u00ff";
    int opened = 0;
    int refused = 0;
    for (int i = 0; i < 800; i++) {
      byte[] bytes = good.clone();
      int edits = 1 + random.nextInt(3);
      for (int e = 0; e < edits; e++) {
        int at = random.nextInt(bytes.length);
        switch (random.nextInt(4)) {
          case 0 -> bytes[at] = (byte) random.nextInt(256);
          case 1 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
          case 2 -> bytes[at] = (byte) grammar.charAt(random.nextInt(grammar.length()));
          default -> {
            byte[] moved = new byte[Math.max(0, bytes.length + random.nextInt(17) - 8)];
            System.arraycopy(bytes, 0, moved, 0, Math.min(bytes.length, moved.length));
            bytes = moved.length == 0 ? new byte[1] : moved;
          }
        }
      }
      Path path = write(bytes);
      try (SafetensorsFile file = SafetensorsFile.open(path)) {
        long total = 0;
        for (String name : file.names()) {
          assertEquals(file.info(name).begin(), total);
          total = file.info(name).end();
          file.readInto(name, 0, ByteBuffer.allocate(64));
          file.slices(name).forEach(ByteBuffer::hasRemaining);
        }
        opened++;
      } catch (UserException e) {
        assertTrue(e.getMessage().startsWith(path.toString()), e.getMessage());
        refused++;
      }
    }
    assertTrue(opened > 50 && refused > 300, opened + " opened, " + refused + " refused");
  }
}
