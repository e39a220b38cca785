package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.kernels.Dtype;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;

class BenchTest {
  // Odd sizes: grouped heads, a vocabulary that is no multiple of anything.
  private static final ModelConfig TINY =
      ModelConfig.llama(new ModelConfig.Sizes(509, 48, 2, 4, 2, 12, 72, 64), 1e-5f, 10000, false);

  private static Bench.Options tiny(Dtype storage, String method) {
    return new Bench.Options(TINY, storage, "cpu", 1, method, 2, 12, 0);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void everyTimingIsThereAfterItsCheck(Dtype storage) {
    List<String> progress = new ArrayList<>();
    Bench.Result result = Bench.run(tiny(storage, "NPO+KL"), progress::add);
    assertEquals(
        List.of("gemm", "attention forward", "attention backward", "head", "step"),
        result.timings().stream().map(Bench.Timing::name).toList());
    assertEquals(List.of("matrix product", "attention", "head", "training step"), progress);
    assertEquals(storage, result.storage());
    assertTrue(result.backend().contains("\"threads\":1"), result.backend());
    for (Bench.Timing t : result.timings()) {
      assertTrue(t.leastMs() > 0 && t.leastMs() <= t.medianMs(), t.toString());
      assertEquals(3, t.calls());
    }
    // 4NdV with N = 2 roles of 2 sequences of 12 tokens.
    assertEquals(4.0 * 48 * 48 * 509 / 1e9, result.timings().get(3).gflop(), 1e-12);
    // The reference twins of NPO and KL are not counted as tokens of a step.
    assertEquals(48, result.timings().get(4).tokens());
    Bench.Timing step = result.timings().get(4);
    assertEquals(48 / step.medianMs() * 1e3, step.tokensPerSecond(), 1e-6);
  }

  @Test
  void aWrongNumberIsAFaultAndSoIsNoNumber() {
    Bench.check("a sum", 1.0, 1.0 + 1e-7, 1e-6);
    InternalFaultException wrong =
        assertThrows(InternalFaultException.class, () -> Bench.check("a sum", 1.0, 1.1, 1e-6));
    assertTrue(wrong.getMessage().startsWith("bench: a sum is 1.0, must be 1.1"));
    assertThrows(InternalFaultException.class, () -> Bench.check("a sum", Double.NaN, 1.0, 1e-6));
  }

  @Test
  void valuesOfOperandsAreExactInEitherStorage() {
    float[] values = Operands.exact(4096, 1, 2);
    boolean[] seen = new boolean[256];
    for (float value : values) {
      assertEquals(Math.rint(value * 128), value * 128, 0);
      // The lower 16 bits of a float are what bf16 drops.
      assertEquals(0, Float.floatToRawIntBits(value) & 0xffff);
      seen[(int) (value * 128) + 128] = true;
    }
    for (boolean one : seen) {
      assertTrue(one, "all 256 values occur");
    }
  }

  @Test
  void sizesAreOfTheirNames() {
    long[] millions =
        Bench.sizes().values().stream()
            .mapToLong(c -> Model.layout(c).count() / 1_000_000)
            .toArray();
    assertEquals(List.of("4M", "45M", "134M"), List.copyOf(Bench.sizes().keySet()));
    assertEquals(List.of(3L, 45L, 134L), Arrays.stream(millions).boxed().toList());
    UserException unknown = assertThrows(UserException.class, () -> Bench.size("7B"));
    assertTrue(unknown.getMessage().contains("4M, 45M, 134M"), unknown.getMessage());
  }

  @Test
  void optionsThatCannotBeAreRefused() {
    for (Runnable bad :
        List.<Runnable>of(
            () -> new Bench.Options(TINY, Dtype.I32, "cpu", 1, "ME", 1, 8, 0),
            () -> new Bench.Options(TINY, Dtype.F32, "cpu", -1, "ME", 1, 8, 0),
            () -> new Bench.Options(TINY, Dtype.F32, "cpu", 1, "ME", 0, 8, 0),
            () -> new Bench.Options(TINY, Dtype.F32, "cpu", 1, "ME", 1, 3, 0),
            () -> new Bench.Options(TINY, Dtype.F32, "cpu", 1, "ME", 1, 65, 0),
            () -> new Bench.Options(TINY, Dtype.F32, "cpu", 1, "ME", 1, 8, Double.NaN))) {
      UserException e = assertThrows(UserException.class, bad::run);
      assertTrue(e.getMessage().matches("bench: \\w+ is .*, must be .*"), e.getMessage());
    }
    UserException e =
        assertThrows(UserException.class, () -> Bench.run(tiny(Dtype.F32, "XX"), what -> {}));
    assertTrue(e.getMessage().contains("XX"), e.getMessage());
  }
}
