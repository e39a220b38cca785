package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.model.Goldens;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

/** An adapter knows the weights it was trained on. */
class BaseMarkTest {
  private static final Path BASE = Goldens.path("llama-tiny");

  @TempDir Path directory;
  private Path adapter;
  private Path other;

  /** An adapter of the golden model, and a model of the same shapes with one weight changed. */
  @BeforeEach
  void write() throws IOException {
    adapter = directory.resolve("adapter");
    other = Files.createDirectories(directory.resolve("other"));
    try (Backend backend = Backend.open("cpu", 1);
        Model model = ModelDirectory.load(new Ops(backend, Dtype.F32), BASE, 64)) {
      model.addLora(LoraConfig.all(2, 4), 3);
      AdapterDirectory.save(model.lora(), model, "base", adapter, false);
    }
    Files.copy(BASE.resolve("config.json"), other.resolve("config.json"));
    byte[] bytes = Files.readAllBytes(BASE.resolve("model.safetensors"));
    bytes[bytes.length - 1] ^= 1;
    Files.write(other.resolve("model.safetensors"), bytes);
  }

  private static void load(Path base, Path adapter) {
    try (Backend backend = Backend.open("cpu", 1);
        Model model = ModelDirectory.load(new Ops(backend, Dtype.F32), base, 64)) {
      AdapterDirectory.load(model, adapter, false);
    }
  }

  private void merge(Path base, Path output) {
    ModelExport.write(
        new ModelExport.Request(
            base, Optional.of(adapter), output, false, Optional.empty(), Long.MAX_VALUE));
  }

  @Test
  void theOwnBaseIsTakenAndAnotherIsRefused() throws IOException {
    load(BASE, adapter);
    merge(BASE, directory.resolve("merged"));
    assertRefused(() -> load(other, adapter));
    assertRefused(() -> merge(other, directory.resolve("refused")));
    assertFalse(Files.exists(directory.resolve("refused")));
    Files.delete(adapter.resolve(BaseMark.FILE));
    load(other, adapter);
  }

  @Test
  void itGoesAlongWhenTheAdapterIsWrittenAgainOrAddedUp() {
    Path again = directory.resolve("again");
    AdapterFiles.rewrite(adapter, again, Optional.of(StoredDtype.BF16), false);
    assertRefused(() -> load(other, again));
    Path sum = directory.resolve("sum");
    AdapterArithmetic.write(
        List.of(
            new AdapterArithmetic.Summand(Goldens.path("peft/patterns"), 1),
            new AdapterArithmetic.Summand(again, 0.5)),
        "llama-tiny",
        sum,
        false);
    load(BASE, sum);
    assertRefused(() -> load(other, sum));
  }

  @Test
  void shardsDoNotShowAndOtherTypesDo() {
    Path sharded = directory.resolve("sharded");
    Path half = directory.resolve("half");
    ModelExport.write(
        new ModelExport.Request(BASE, Optional.empty(), sharded, false, Optional.empty(), 20_000));
    ModelExport.write(
        new ModelExport.Request(
            BASE, Optional.empty(), half, false, Optional.of(StoredDtype.BF16), Long.MAX_VALUE));
    try (ShardedSafetensors one = ShardedSafetensors.open(BASE);
        ShardedSafetensors many = ShardedSafetensors.open(sharded);
        ShardedSafetensors halves = ShardedSafetensors.open(half)) {
      assertEquals(BaseMark.of(one), BaseMark.of(many));
      assertNotEquals(BaseMark.of(one), BaseMark.of(halves));
    }
  }

  private static void assertRefused(Executable action) {
    String message = assertThrows(UserException.class, action).getMessage();
    assertTrue(message.contains(BaseMark.FILE + ": key 'base_sha256'"), message);
    assertTrue(message.contains("was trained on other weights"), message);
    assertTrue(message.contains("delete this file"), message);
  }
}
