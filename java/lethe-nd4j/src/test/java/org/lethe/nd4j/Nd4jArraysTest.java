package org.lethe.nd4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.function.Supplier;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.ShortPointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;

class Nd4jArraysTest {
  private static INDArray counting(long... shape) {
    return Nd4j.arange((double) product(shape)).castTo(DataType.FLOAT).reshape('c', shape);
  }

  private static long product(long... shape) {
    long product = 1;
    for (long extent : shape) {
      product *= extent;
    }
    return product;
  }

  private static float[] read(Backend backend, INDArray array) {
    float[] values = new float[(int) array.length()];
    try (Staging staging = new Staging(values.length * Float.BYTES);
        Buffer buffer = Nd4jArrays.buffer(backend, array)) {
      assertEquals(array.length() * Float.BYTES, buffer.bytes());
      assertTrue(buffer.isLent());
      staging.download(buffer, 0, values, values.length);
    }
    return values;
  }

  @Test
  void eachSideSeesWhatTheOtherWrites() {
    INDArray array = counting(3, 4);
    try (Backend backend = Backend.open("cpu", 1);
        Buffer buffer = Nd4jArrays.buffer(backend, array)) {
      new Ops(backend, Dtype.F32).zero(buffer.at(4 * Float.BYTES), 4 * Float.BYTES);
      assertArrayEquals(
          new float[] {0, 1, 2, 3, 0, 0, 0, 0, 8, 9, 10, 11}, array.ravel().toFloatVector());
      array.addi(1);
      float[] seen = new float[12];
      try (Staging staging = new Staging(48)) {
        staging.download(buffer, 0, seen, 12);
      }
      assertArrayEquals(new float[] {1, 2, 3, 4, 1, 1, 1, 1, 9, 10, 11, 12}, seen);
    }
    // Closing the buffer left the array alone.
    assertEquals(12, array.getFloat(2, 3));
  }

  @Test
  void viewsAreAddressedWhereTheyStand() {
    INDArray cube = counting(4, 3, 5);
    try (Backend backend = Backend.open("cpu", 1)) {
      INDArray rows = cube.get(NDArrayIndex.interval(1, 3), NDArrayIndex.all(), NDArrayIndex.all());
      INDArray row =
          cube.get(NDArrayIndex.point(2), NDArrayIndex.all(), NDArrayIndex.all()).getRow(2);
      assertArrayEquals(rows.dup('c').ravel().toFloatVector(), read(backend, rows));
      assertArrayEquals(new float[] {40, 41, 42, 43, 44}, read(backend, row));
      assertArrayEquals(new float[] {40, 41, 42, 43, 44}, read(backend, row.reshape('c', 5, 1, 1)));
      INDArray part = cube.reshape(60).get(NDArrayIndex.interval(7, 10));
      assertArrayEquals(new float[] {7, 8, 9}, read(backend, part));
      INDArray partOfPart = part.get(NDArrayIndex.interval(1, 3));
      assertArrayEquals(new float[] {8, 9}, read(backend, partOfPart));
      try (Buffer buffer = Nd4jArrays.buffer(backend, row)) {
        new Ops(backend, Dtype.F32).zero(buffer.at(0), buffer.bytes());
      }
    }
    assertEquals(39, cube.getFloat(2, 1, 4));
    assertEquals(0, cube.getFloat(2, 2, 0));
    assertEquals(0, cube.getFloat(2, 2, 4));
    assertEquals(45, cube.getFloat(3, 0, 0));
  }

  @Test
  void stridesAreRefusedWithTheRemedy() {
    INDArray matrix = counting(3, 4);
    Supplier<?>[] wrong = {
      matrix::transpose,
      () -> matrix.getColumn(1),
      () -> matrix.get(NDArrayIndex.all(), NDArrayIndex.interval(0, 2)),
      () -> matrix.get(NDArrayIndex.interval(0, 2, 3)),
      () -> matrix.dup('f'),
      () -> matrix.getRow(0).broadcast(2, 4).get(NDArrayIndex.all(), NDArrayIndex.interval(0, 3)),
    };
    try (Backend backend = Backend.open("cpu", 1)) {
      for (Supplier<?> supplier : wrong) {
        INDArray array = (INDArray) supplier.get();
        UserException e =
            assertThrows(UserException.class, () -> Nd4jArrays.buffer(backend, array));
        assertTrue(e.getMessage().contains("dup('c')"), e.getMessage());
        assertArrayEquals(array.dup('c').ravel().toFloatVector(), read(backend, array.dup('c')));
      }
      // Order 'f' in name only: one row, or one number.
      assertArrayEquals(new float[] {0, 1, 2, 3}, read(backend, matrix.getRow(0).dup('f')));
      assertArrayEquals(new float[] {7}, read(backend, Nd4j.scalar(7f)));
    }
  }

  @Test
  void closedEmptyAndForeignTypesAreRefused() {
    INDArray closed = Nd4j.create(DataType.FLOAT, 4, 4);
    INDArray viewOfClosed = closed.getRow(2);
    closed.close();
    try (Backend backend = Backend.open("cpu", 1)) {
      assertMessage("closed", () -> Nd4jArrays.buffer(backend, closed));
      assertMessage("closed", () -> Nd4jArrays.buffer(backend, viewOfClosed));
      assertMessage("no numbers", () -> Nd4jArrays.buffer(backend, Nd4j.empty(DataType.FLOAT)));
      assertMessage("castTo", () -> Nd4jArrays.buffer(backend, Nd4j.create(DataType.DOUBLE, 2, 2)));
      assertMessage("castTo", () -> Nd4jArrays.buffer(backend, Nd4j.create(DataType.FLOAT16, 2)));
      assertMessage("castTo", () -> Nd4jArrays.dtype(Nd4j.create(DataType.INT64, 2)));
    }
  }

  @Test
  void anArrayOfAnOpenWorkspaceIsSharedAndOneOfAnOverScopeIsNot() {
    try (Backend backend = Backend.open("cpu", 1)) {
      INDArray kept;
      try (MemoryWorkspace scope =
          Nd4j.getWorkspaceManager().getAndActivateWorkspace("Nd4jArraysTest")) {
        kept = Nd4j.createFromArray(1f, 2f, 3f);
        assertTrue(kept.isAttached());
        assertArrayEquals(new float[] {1, 2, 3}, read(backend, kept));
        assertEquals("Nd4jArraysTest", scope.getId());
      }
      INDArray over = kept;
      assertMessage("detach()", () -> Nd4jArrays.buffer(backend, over));
      try (MemoryWorkspace next =
          Nd4j.getWorkspaceManager().getAndActivateWorkspace("Nd4jArraysTest")) {
        // Open again, but for other arrays.
        assertMessage("detach()", () -> Nd4jArrays.buffer(backend, over));
        assertTrue(next.isScopeActive());
      }
    }
    Nd4j.getWorkspaceManager().destroyAllWorkspacesForCurrentThread();
  }

  @ParameterizedTest
  @EnumSource(Dtype.class)
  void typesMapBothWays(Dtype dtype) {
    INDArray array = Nd4j.createFromArray(1f, -2f, 3f).castTo(Nd4jArrays.dataType(dtype));
    assertEquals(dtype, Nd4jArrays.dtype(array));
    try (Backend backend = Backend.open("cpu", 1);
        Buffer buffer = Nd4jArrays.buffer(backend, array);
        Buffer copy = backend.allocate(buffer.bytes());
        Staging staging = new Staging(16)) {
      assertEquals(3L * dtype.bytes(), buffer.bytes());
      new Ops(backend, Dtype.F32).copy(copy.at(0), buffer.at(0), buffer.bytes());
      staging.read(copy, 0, buffer.bytes());
      INDArray back =
          Nd4jArrays.array(staging.bytes().clear(), Nd4jArrays.dataType(dtype), 3).dup();
      assertEquals(array, back);
      assertArrayEquals(new float[] {1, -2, 3}, back.castTo(DataType.FLOAT).toFloatVector());
    }
  }

  @Test
  void brainFloatsAreConvertedInPlace() {
    INDArray narrow = Nd4j.createFromArray(1.0078125f, -3f, 0.1f).castTo(DataType.BFLOAT16);
    INDArray wide = Nd4j.create(DataType.FLOAT, 3);
    try (Backend backend = Backend.open("cpu", 1);
        Buffer from = Nd4jArrays.buffer(backend, narrow);
        Buffer to = Nd4jArrays.buffer(backend, wide)) {
      new Ops(backend, Dtype.BF16).convert(3, Dtype.BF16, from.at(0), Dtype.F32, to.at(0));
    }
    assertArrayEquals(narrow.castTo(DataType.FLOAT).toFloatVector(), wide.toFloatVector());
    assertEquals(0.1, wide.getFloat(2), 0.1 / 256);
  }

  @Test
  void hostMemoryBecomesAnArrayFromItsPositionOn() {
    try (FloatPointer memory = new FloatPointer(0, 1, 2, 3, 4, 5, 6)) {
      memory.position(1);
      INDArray array = Nd4jArrays.array(memory, DataType.FLOAT, 2, 3);
      assertArrayEquals(new float[] {1, 2, 3, 4, 5, 6}, array.ravel().toFloatVector());
      array.putScalar(1, 2, -6f);
      array.getRow(0).muli(10);
      memory.position(0);
      assertEquals(0, memory.get(0));
      assertEquals(10, memory.get(1));
      assertEquals(-6, memory.get(6));
      memory.put(4, 44f);
      assertEquals(44, array.getFloat(1, 0));
      assertEquals(memory.address() + Float.BYTES, Nd4jArrays.memory(array).address());
      array.close();
      // Not the array's to free.
      assertEquals(44, memory.position(0).get(4));
    }
  }

  @Test
  void otherTypesStandOnHostMemoryToo() {
    try (LongPointer longs = new LongPointer(5, -7);
        ShortPointer brains = new ShortPointer((short) 0x3f80, (short) 0xc040)) {
      INDArray ints = Nd4jArrays.array(longs, DataType.INT64, 2);
      assertArrayEquals(new long[] {5, -7}, ints.toLongVector());
      INDArray narrow = Nd4jArrays.array(brains, DataType.BFLOAT16, 2);
      assertArrayEquals(new float[] {1, -3}, narrow.castTo(DataType.FLOAT).toFloatVector());
      narrow.addi(1);
      assertEquals((short) 0x4000, brains.get(0));
    }
    ByteBuffer direct = ByteBuffer.allocateDirect(16).order(ByteOrder.nativeOrder());
    direct.putInt(9).putInt(8).putInt(7).position(4);
    INDArray ints = Nd4jArrays.array(direct, DataType.INT32, 3);
    assertArrayEquals(new int[] {8, 7, 0}, ints.toIntVector());
  }

  @Test
  void hostMemoryThatDoesNotFitIsRefused() {
    try (BytePointer memory = new BytePointer(16)) {
      assertMessage("give fewer", () -> Nd4jArrays.array(memory, DataType.FLOAT, 5));
      memory.position(2);
      assertMessage("aligned", () -> Nd4jArrays.array(memory, DataType.FLOAT, 2));
      memory.position(0);
      assertMessage("extents", () -> Nd4jArrays.array(memory, DataType.FLOAT, 2, 0));
      assertMessage("castTo", () -> Nd4jArrays.array(memory, DataType.DOUBLE, 2));
      assertMessage("null", () -> Nd4jArrays.array(new Pointer(), DataType.FLOAT, 1));
      ByteBuffer heap = ByteBuffer.allocate(16);
      assertMessage("allocateDirect", () -> Nd4jArrays.array(heap, DataType.FLOAT, 4));
    }
  }

  @Test
  void anOpenBufferKeepsItsArrayFromTheCollector() {
    try (Backend backend = Backend.open("cpu", 1);
        Staging staging = new Staging(4096);
        Buffer buffer = Nd4jArrays.buffer(backend, Nd4j.valueArrayOf(new long[] {1024}, 5f))) {
      for (int round = 0; round < 20; round++) {
        System.gc();
        // Would be handed the memory that a collected array gave back.
        Nd4j.valueArrayOf(new long[] {1024}, -1f);
      }
      float[] values = new float[1024];
      staging.download(buffer, 0, values, 1024);
      for (float value : values) {
        assertEquals(5, value);
      }
    }
  }

  private static void assertMessage(String part, org.junit.jupiter.api.function.Executable call) {
    UserException e = assertThrows(UserException.class, call);
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }
}
