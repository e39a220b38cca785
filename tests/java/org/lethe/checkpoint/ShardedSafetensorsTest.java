package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;

class ShardedSafetensorsTest {
  @TempDir Path dir;

  private void shard(String file, String... names) throws IOException {
    StringBuilder header = new StringBuilder("{");
    for (int i = 0; i < names.length; i++) {
      header
          .append(i == 0 ? "" : ",")
          .append("\"")
          .append(names[i])
          .append("\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[")
          .append(i)
          .append(",")
          .append(i + 1)
          .append("]}");
    }
    byte[] bytes = Bytes.file(header.append("}").toString(), names.length);
    bytes[bytes.length - 1] = 42;
    Files.write(dir.resolve(file), bytes);
  }

  private void index(String map) throws IOException {
    Files.writeString(dir.resolve(ShardedSafetensors.INDEX), "{\"weight_map\":" + map + "}");
  }

  private String refusal() {
    return assertThrows(UserException.class, () -> ShardedSafetensors.open(dir).close())
        .getMessage();
  }

  @Test
  void readsOneFile() throws IOException {
    shard("model.safetensors", "a", "b");
    try (ShardedSafetensors model = ShardedSafetensors.open(dir)) {
      assertEquals(Set.of("a", "b"), model.names());
      assertEquals(42, model.slices("b").get(0).get());
      assertTrue(
          assertThrows(UserException.class, () -> model.info("c")).getMessage().contains("'c'"));
    }
  }

  @Test
  void readsShards() throws IOException {
    shard("s1.safetensors", "a", "b");
    shard("s2.safetensors", "c");
    index("{\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\",\"c\":\"s2.safetensors\"}");
    try (ShardedSafetensors model = ShardedSafetensors.open(dir)) {
      assertEquals(Set.of("a", "b", "c"), model.names());
      assertEquals(dir.resolve("s2.safetensors"), model.file("c"));
      ByteBuffer into = ByteBuffer.allocateDirect(1);
      assertEquals(1, model.readInto("c", 0, into));
      assertEquals(42, into.get(0));
    }
  }

  @Test
  void refusesIndexAndShardsThatDisagree() throws IOException {
    assertTrue(refusal().contains("neither"));
    index("{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}");
    shard("s1.safetensors", "a");
    assertTrue(refusal().contains("'s2.safetensors', which is missing"));
    shard("s2.safetensors", "a");
    assertTrue(refusal().contains("is also in"));
    shard("s2.safetensors", "c");
    assertTrue(refusal().contains("'b' in 's2.safetensors', which does not hold it"));
    shard("s2.safetensors", "b", "c");
    assertTrue(refusal().contains("'c', which the index does not name"));
    shard("model.safetensors", "a");
    assertTrue(refusal().contains("both"));
  }

  @Test
  void refusesBadIndexes() throws IOException {
    for (String map :
        new String[] {
          "{}",
          "[]",
          "{\"a\":1}",
          "{\"a\":\"../s1.safetensors\"}",
          "{\"a\":\"weights.bin\"}",
          "{\"a\":\"s1.safetensors\",\"a\":\"s1.safetensors\"}",
          "{",
          "{\"a\":\"/s1.safetensors\"}"
        }) {
      index(map);
      shard("s1.safetensors", "a");
      assertTrue(refusal().contains(ShardedSafetensors.INDEX), map);
    }
  }
}
