package org.lethe.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.javacpp.FloatPointer;
import org.junit.jupiter.api.Test;
import org.lethe.NativeException;
import org.lethe.UserException;
import org.lethe.internal.abi.Abi;

class BackendTest {
  @Test
  void anOpReadsAndWritesItsBuffers() {
    try (Backend backend = Backend.open("cpu", 2);
        Staging staging = new Staging(64);
        Buffer arena = backend.allocate(64)) {
      staging.upload(new float[] {3, 4, 1, 1}, 4, arena, 0);
      new Ops(backend, Dtype.F32)
          .normForward(
              Ops.NormShape.rms(1, 2, 0f),
              arena.at(0),
              arena.at(8),
              0,
              0,
              arena.at(16),
              0,
              arena.at(32));
      float[] values = new float[5];
      staging.download(arena, 16, values, 5);
      double rstd = 1 / Math.sqrt(12.5);
      assertEquals(3 * rstd, values[0], 1e-6);
      assertEquals(4 * rstd, values[1], 1e-6);
      assertEquals(rstd, values[4], 1e-7);
      assertThrows(UserException.class, () -> staging.download(arena, 0, new float[17], 17));
    }
  }

  @Test
  void wrappedMemoryIsSharedFromItsPositionOn() {
    try (Backend backend = Backend.open("cpu", 1);
        Staging staging = new Staging(64);
        FloatPointer mine = new FloatPointer(1, 2, 3, 4)) {
      mine.position(1);
      float[] seen = new float[3];
      try (Buffer buffer = backend.wrap(mine, 12)) {
        assertTrue(buffer.isLent());
        staging.download(buffer, 0, seen, 3);
        assertArrayEquals(new float[] {2, 3, 4}, seen);
        new Ops(backend, Dtype.F32).zero(buffer.at(4), 4);
      }
      mine.position(0);
      assertEquals(2, mine.get(1));
      assertEquals(0, mine.get(2));
      assertEquals(4, mine.get(3));
      mine.position(1);
      assertThrows(UserException.class, () -> backend.wrap(mine, 13));
      // Still lent when the backend closes: not the backend's to free.
      backend.wrap(mine, 12);
    }
  }

  @Test
  void theDescriptionNamesWhatDeterminesTheBits() {
    try (Backend backend = Backend.open("cpu_avx2", 1)) {
      assertTrue(backend.description().contains("\"isa\":\"avx2\""), backend.description());
      assertTrue(backend.description().contains("\"threads\":1"), backend.description());
      // One line of JSON and nothing behind it: hashes of cached results contain it.
      assertTrue(backend.description().endsWith("}"), backend.description());
    }
  }

  @Test
  void useAfterCloseIsAnException() {
    Backend backend = Backend.open("cpu", 1);
    Buffer buffer = backend.allocate(64);
    long ref = buffer.at(0);
    buffer.close();
    assertThrows(UserException.class, () -> buffer.at(0));
    NativeException stale =
        assertThrows(NativeException.class, () -> new Ops(backend, Dtype.F32).zero(ref, 4));
    assertEquals(Abi.LETHE_CLOSED, stale.status());
    Buffer open = backend.allocate(64);
    backend.close();
    backend.close();
    assertThrows(UserException.class, () -> open.at(0));
    assertThrows(UserException.class, () -> backend.allocate(4));
  }

  @Test
  void anotherThreadIsRefused() throws InterruptedException {
    try (Backend backend = Backend.open("cpu", 1);
        Buffer buffer = backend.allocate(64)) {
      AtomicReference<Throwable> thrown = new AtomicReference<>();
      Thread other =
          new Thread(
              () -> {
                try {
                  new Ops(backend, Dtype.F32).zero(buffer.at(0), 4);
                } catch (NativeException e) {
                  thrown.set(e);
                }
              });
      other.start();
      other.join();
      NativeException refused = (NativeException) thrown.get();
      assertEquals(Abi.LETHE_WRONG_THREAD, refused.status());
    }
  }

  @Test
  void anUnknownDeviceSaysWhatIsMissing() {
    NativeException e = assertThrows(NativeException.class, () -> Backend.open("abacus", 1));
    assertEquals(Abi.LETHE_NO_DEVICE, e.status());
    assertTrue(e.getMessage().contains("liblethe_abacus.so"), e.getMessage());
  }
}
