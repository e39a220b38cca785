package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.function.Supplier;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

@SuppressWarnings("try") // Scopes work by being open.
class TorchTensorsTest {
  private Backend backend;
  private PointerScope scope;

  @BeforeEach
  void open() {
    backend = Backend.open("cpu", 1);
    scope = new PointerScope();
  }

  @AfterEach
  void close() {
    scope.close();
    backend.close();
  }

  private static Tensor floats(float... values) {
    return TorchWeights.of(values, values.length);
  }

  @Test
  void eitherSideSeesWhatTheOtherWrites() {
    Tensor tensor = floats(1, 2, 3, 4);
    try (SharedTensor shared = TorchTensors.share(backend, tensor)) {
      assertEquals(16, shared.buffer().bytes());
      assertTrue(shared.buffer().isLent());
      new Ops(backend, Dtype.F32).copy(shared.ref() + 8, shared.ref(), 8);
      assertArrayEquals(new double[] {1, 2, 1, 2}, Oracle.doubles(tensor));
      tensor.mul_(new Scalar(3.0));
      try (SharedTensor copy = TorchTensors.allocate(backend, ScalarType.Float, 2, 2)) {
        assertArrayEquals(new double[4], Oracle.doubles(copy.tensor()));
        new Ops(backend, Dtype.F32).copy(copy.ref(), shared.ref(), 16);
        assertArrayEquals(new double[] {3, 6, 3, 6}, Oracle.doubles(copy.tensor()));
        assertArrayEquals(new long[] {2, 2}, TorchTensors.shape(copy.tensor()));
      }
    }
  }

  @Test
  void aViewIsSharedFromItsFirstElement() {
    Tensor tensor = floats(1, 2, 3, 4, 5, 6).view(3, 2);
    try (SharedTensor shared = TorchTensors.share(backend, tensor.narrow(0, 1, 2))) {
      new Ops(backend, Dtype.F32).zero(shared.ref(), 4);
      assertEquals(16, shared.buffer().bytes());
    }
    assertArrayEquals(new double[] {1, 2, 0, 4, 5, 6}, Oracle.doubles(tensor));
  }

  @ParameterizedTest
  @EnumSource(
      value = ScalarType.class,
      names = {"Float", "BFloat16", "Int", "Long"})
  void everyTypeBothSidesKnowIsShared(ScalarType type) {
    Tensor tensor = floats(1, -2, 3).to(type);
    try (SharedTensor shared = TorchTensors.share(backend, tensor)) {
      assertEquals(tensor.nbytes(), shared.buffer().bytes());
      new Ops(backend, Dtype.F32).zero(shared.ref(), shared.buffer().bytes() / 3);
    }
    assertArrayEquals(new double[] {0, -2, 3}, Oracle.doubles(tensor));
  }

  @Test
  void theMemoryOutlivesTheTensorItCameFrom() {
    SharedTensor shared;
    try (PointerScope inner = new PointerScope()) {
      Tensor tensor = floats(7, 8);
      assertEquals(1, tensor.use_count());
      shared = TorchTensors.share(backend, tensor);
      assertEquals(2, tensor.use_count());
    }
    assertEquals(1, shared.tensor().use_count());
    assertArrayEquals(new double[] {7, 8}, Oracle.doubles(shared.tensor()));
    Tensor kept = new Tensor(shared.tensor());
    shared.close();
    shared.close();
    assertEquals(1, kept.use_count());
    assertThrows(UserException.class, shared::tensor);
    assertThrows(UserException.class, shared::ref);
  }

  @Test
  void hostMemoryBecomesATensorFromItsPositionOn() {
    FloatPointer memory = new FloatPointer(1, 2, 3, 4, 5);
    memory.position(1);
    Tensor tensor = TorchTensors.tensor(memory, ScalarType.Float, 2, 2);
    assertArrayEquals(new double[] {2, 3, 4, 5}, Oracle.doubles(tensor));
    tensor.fill_(new Scalar(9.0));
    assertEquals(9, memory.get(3));
    memory.position(0);
    assertEquals(1, memory.get(0));
    memory.position(2);
    refused("16 bytes", () -> TorchTensors.tensor(memory, ScalarType.Float, 4));
    refused("at least 1", () -> TorchTensors.tensor(memory, ScalarType.Float, 3, 0));
    Pointer bare = new BytePointer(64);
    assertEquals(16, TorchTensors.tensor(bare, ScalarType.Int, 4, 4).numel());
  }

  @Test
  void whatCannotBeSharedIsRefusedWithTheCallThatHelps() {
    Tensor square = floats(1, 2, 3, 4).view(2, 2);
    refused("contiguous()", () -> TorchTensors.share(backend, square.t()));
    refused("to(ScalarType.Float)", () -> TorchTensors.share(backend, square.to(ScalarType.Half)));
    refused("no elements", () -> TorchTensors.share(backend, square.narrow(0, 0, 0)));
    refused("undefined", () -> TorchTensors.share(backend, new Tensor()));
    refused("to_dense()", () -> TorchTensors.share(backend, square.to_sparse()));
    refused("resolve_neg()", () -> TorchTensors.share(backend, square._neg_view()));
    Tensor nowhere = torch.empty(new long[] {2}, meta(), null);
    refused("cpu()", () -> TorchTensors.share(backend, nowhere));
    refused("at least 1", () -> TorchTensors.allocate(backend, ScalarType.Float, 0));
    refused("Float", () -> TorchTensors.allocate(backend, ScalarType.Double, 2));
    refused("to(ScalarType.Int)", () -> TorchTensors.dtype(square.to(ScalarType.Long)));
    assertEquals(Dtype.BF16, TorchTensors.dtype(square.to(ScalarType.BFloat16)));
  }

  private static TensorOptions meta() {
    return new TensorOptions(new org.bytedeco.pytorch.Device("meta"));
  }

  private static void refused(String remedy, Supplier<?> call) {
    UserException e = assertThrows(UserException.class, call::get);
    assertTrue(e.getMessage().contains(remedy), e.getMessage());
  }
}
