package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

class OperandsTest {
  // More than what is copied at a time, and no multiple of it.
  private static final int LARGE = (2 << 20) + 17;

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void whatIsLargerThanACopyComesBackWhole(Dtype storage) {
    float[] values = Operands.exact(LARGE, 1, 1);
    try (Backend backend = Backend.open("cpu", 1);
        Operands operands = new Operands(new Ops(backend, storage))) {
      assertArrayEquals(values, operands.readStorage(operands.storage(values), LARGE));
    }
  }
}
