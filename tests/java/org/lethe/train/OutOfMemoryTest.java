package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.sun.jna.NativeLibrary;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledIfSystemProperty;
import org.junit.jupiter.api.function.Executable;
import org.lethe.EnvironmentException;
import org.lethe.TestDevice;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;

/**
 * A device that runs out of memory says what was asked, what is free, what is planned and what
 * helps; whatever else lives on it goes on. A host promises more memory than it has, so this is for
 * devices.
 */
@DisabledIfSystemProperty(named = "lethe.test.device", matches = "cpu.*")
class OutOfMemoryTest {
  private static final ModelConfig TINY =
      ModelConfig.llama(new ModelConfig.Sizes(64, 32, 2, 2, 2, 16, 48, 64), 1e-5f, 10000, true);
  private static final TrainSettings SETTINGS = TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0);
  private static final List<TokenSequence> ROWS =
      List.of(new TokenSequence(new int[] {1, 2, 3, 4, 5}, 1));

  private static Model load(Backend backend, Dtype dtype) {
    Model model = Model.load(new Ops(backend, dtype), TINY, new RandomWeights(TINY, 1));
    model.addLora(LoraConfig.all(4, 8), 1);
    return model;
  }

  private static double score(Model model) {
    try (Scorer scorer = Scorer.forSequences(model, ROWS, true)) {
      return scorer.score(ROWS, Positions.ALL).get(0).nll();
    }
  }

  /** So many tokens a step that no device has the memory for it. */
  private static int tooMany(Backend backend, Model model) {
    long each = org.lethe.model.Decoder.bytes(model, 1024, true) / 1024;
    return Math.toIntExact(Math.min(1 << 26, backend.memory().total() / each + 1));
  }

  @Test
  void aStepThatDoesNotFitSaysWhatWasPlannedAndWhatHelps() {
    try (Backend backend = TestDevice.open(1);
        Model other = load(backend, Dtype.F32);
        Model model = load(backend, Dtype.F32)) {
      double before = score(other);
      long held = backend.allocatedBytes();
      int tokens = tooMany(backend, model);
      long staged = Staging.allBytes();
      EnvironmentException e =
          assertThrows(
              EnvironmentException.class,
              () -> new Step(model, Methods.fineTuning(), SETTINGS, null, tokens));
      assertTrue(e.isOutOfMemory());
      assertNothingStaged(staged);
      for (String part :
          List.of(
              "out of memory: activations asked for",
              "free are",
              "held by weights",
              "held by adapters",
              "held by optimizer and gradients",
              "planned: activations of " + tokens + " tokens",
              ", head ",
              "train.tokens_per_micro_batch=" + tokens / 2 + " frees",
              "dtype=bf16 frees",
              "device=cpu")) {
        assertTrue(e.getMessage().contains(part), part + " in: " + e.getMessage());
      }
      assertEquals(held, backend.allocatedBytes());
      assertEquals(before, score(other));
      assertEquals(before, score(model));
    }
  }

  @Test
  void aModelThatDoesNotFitLeavesOthersAlone() {
    try (Backend backend = TestDevice.open(1);
        Model other = load(backend, Dtype.F32)) {
      double before = score(other);
      // Layers of 3 * 2^30 bytes each, of which nothing is made before the memory is there.
      int layers = Math.toIntExact(backend.memory().total() / (3L << 30) + 2);
      ModelConfig large =
          ModelConfig.llama(
              new ModelConfig.Sizes(64, 16384, layers, 128, 1, 128, 16384, 64), 1e-5f, 10000, true);
      EnvironmentException e =
          assertThrows(
              EnvironmentException.class,
              () -> Model.load(new Ops(backend, Dtype.F32), large, new RandomWeights(large, 1)));
      assertTrue(e.getMessage().contains("out of memory: weights asked for"), e.getMessage());
      assertTrue(e.getMessage().contains("dtype=bf16 frees"), e.getMessage());
      assertEquals(before, score(other));
    }
  }

  /** Adapters in bf16 pass through memory of the device's own, which may be what is missing. */
  @Test
  void adaptersWithoutRoomToPassThroughLeaveNothing() {
    assumeTrue(TestDevice.NAME.equals("cuda_shim"), "only its memory can be set");
    try (Backend backend = TestDevice.open(1);
        Model model = load(backend, Dtype.BF16)) {
      LoraConfig lora = LoraConfig.all(16, 8);
      double before = score(model);
      float[] values = model.lora().values();
      long held = backend.allocatedBytes();
      long staged = Staging.allBytes();
      Backend.Memory memory = backend.memory();
      long used = memory.total() - memory.free();
      long stored = Lora.layout(TINY, lora).elements() * Dtype.BF16.bytes();
      try {
        // Room for what is stored, and for half of that in fp32 beside it.
        setMemory(used + 2 * stored);
        assertOutOfMemory(() -> model.addFrozen("frozen", lora, new float[0]));
        setMemory(used);
        assertOutOfMemory(() -> model.lora().values());
        assertEquals(held, backend.allocatedBytes());
        assertNothingStaged(staged);
      } finally {
        setMemory(memory.total());
      }
      assertEquals(memory, backend.memory());
      assertArrayEquals(values, model.lora().values());
      assertEquals(before, score(model));
      model.addFrozen("frozen", lora, new float[0]);
      assertEquals(before, score(model));
    }
  }

  // Less where the collector has meanwhile found what other tests left.
  private static void assertNothingStaged(long before) {
    long staged = Staging.allBytes();
    assertTrue(staged <= before, staged + " bytes of staging, before them " + before);
  }

  private static void assertOutOfMemory(Executable work) {
    EnvironmentException e = assertThrows(EnvironmentException.class, work);
    assertTrue(e.isOutOfMemory() && e.getMessage().contains("asked for"), e.getMessage());
  }

  private static void setMemory(long bytes) {
    String library = System.getProperty("lethe.plugins") + "/liblethe_cuda_shim.so";
    NativeLibrary.getInstance(library)
        .getFunction("lethe_shim_set_memory")
        .invokeVoid(new Object[] {bytes});
  }
}
