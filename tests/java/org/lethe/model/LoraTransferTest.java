package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.run.Bench;

/** Adapters of more values than go at a time. */
class LoraTransferTest {
  private static final LoraConfig WIDE = LoraConfig.all(64, 8);

  private static float rounded(float value) {
    int bits = Float.floatToRawIntBits(value);
    return Float.intBitsToFloat((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void whatGoesInPiecesComesBack(Dtype dtype) {
    ModelConfig sizes = Bench.size("4M");
    try (Backend backend = Backend.open("cpu", 2)) {
      Ops ops = new Ops(backend, dtype);
      long before = backend.allocatedBytes();
      int n = Math.toIntExact(Lora.layout(sizes, WIDE).elements());
      assertTrue(n > (3 << 18), "more than three pieces: " + n);
      float[] values = new float[n];
      for (int i = 0; i < n; i++) {
        values[i] = (float) StrictMath.sin(i);
      }
      Lora.Values inThirds =
          sink -> {
            for (int third = 2; third >= 0; third--) {
              int from = (int) ((long) n * third / 3);
              int to = (int) ((long) n * (third + 1) / 3);
              sink.put(from, FloatBuffer.wrap(values, from, to - from));
            }
          };
      try (Lora trains = Lora.of(ops, sizes, WIDE, inThirds, OptimizerConfig.DEFAULT)) {
        // A master keeps what storage rounds.
        assertArrayEquals(values, trains.values());
      }
      try (Lora frozen = Lora.of(ops, sizes, WIDE, inThirds, null)) {
        float[] stored = frozen.values();
        for (int i = 0; i < n; i++) {
          assertEquals(dtype == Dtype.F32 ? values[i] : rounded(values[i]), stored[i]);
        }
        float[] some = new float[1000];
        frozen.read(n - 1000, FloatBuffer.wrap(some));
        assertEquals(stored[n - 1], some[999]);
      }
      assertEquals(before, backend.allocatedBytes());
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void whatIsNotGivenIsZero(Dtype dtype) {
    ModelConfig sizes = Bench.size("4M");
    try (Backend backend = Backend.open("cpu", 2);
        Lora lora = Lora.fresh(new Ops(backend, dtype), sizes, WIDE, 3, OptimizerConfig.DEFAULT)) {
      float[] values = lora.values();
      List<Parameter> drawn = new ArrayList<>();
      for (Parameter p : lora.layout().parameters().values()) {
        boolean a = p.name().endsWith("lora_A.weight");
        double bound = a ? 1 / Math.sqrt((double) p.columns()) : 0;
        double most = 0;
        for (long i = p.offset(); i < p.offset() + p.elements(); i++) {
          most = Math.max(most, Math.abs(values[(int) i]));
        }
        assertTrue(most <= bound && most >= 0.9 * bound, p.name() + " " + most);
        drawn.add(p);
      }
      assertEquals(2 * 7 * sizes.layers(), drawn.size());
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void aSourceThatFailsLeavesNothing(Dtype dtype) {
    try (Backend backend = Backend.open("cpu", 2)) {
      Ops ops = new Ops(backend, dtype);
      long before = backend.allocatedBytes();
      Lora.Values broken =
          sink -> {
            throw new UserException("unreadable");
          };
      assertThrows(
          UserException.class,
          () -> Lora.of(ops, Bench.size("4M"), WIDE, broken, OptimizerConfig.DEFAULT));
      assertEquals(before, backend.allocatedBytes());
    }
  }
}
