package org.lethe.kernels;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.EnvironmentException;
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
              NormShape.rms(1, 2, 0f),
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
    EnvironmentException e =
        assertThrows(EnvironmentException.class, () -> Backend.open("abacus", 1));
    assertTrue(e.getMessage().startsWith("LETHE_NO_DEVICE: "), e.getMessage());
    assertTrue(e.getMessage().contains("liblethe_abacus.so"), e.getMessage());
    NativeException cause = assertInstanceOf(NativeException.class, e.getCause());
    assertEquals(Abi.LETHE_NO_DEVICE, cause.status());
    assertTrue(e.getMessage().contains(cause.trace()), e.getMessage());
  }

  @Test
  void onlyCudaHasNumberedDevices() {
    for (String device : List.of("cpu:0", "cuda:first")) {
      UserException e = assertThrows(UserException.class, () -> Backend.open(device, 1));
      assertTrue(e.getMessage().contains("'" + device + "'"), e.getMessage());
    }
  }

  @Test
  void pluginsComeFromAnotherDirectoryOnRequest(@TempDir Path directory) throws IOException {
    File own = Natives.pluginDirectory();
    String before = System.getProperty("lethe.plugins");
    try {
      System.setProperty("lethe.plugins", directory.toString());
      for (String device : List.of("cuda", "cuda:1")) {
        EnvironmentException none =
            assertThrows(EnvironmentException.class, () -> Backend.open(device, 1));
        assertTrue(
            none.getMessage().startsWith("LETHE_NO_DEVICE: this build of Lethe brings no CUDA"),
            none.getMessage());
      }
      assertThrows(EnvironmentException.class, () -> Backend.open("cpu_avx2", 1));
      Files.copy(
          new File(own, "liblethe_cpu_avx2.so").toPath(),
          directory.resolve("liblethe_cpu_avx2.so"));
      Backend.open("cpu_avx2", 1).close();
      System.setProperty("lethe.plugins", directory.resolve("absent").toString());
      UserException absent = assertThrows(UserException.class, () -> Backend.open("cpu_avx2", 1));
      assertTrue(absent.getMessage().contains("lethe.plugins"), absent.getMessage());
    } finally {
      if (before == null) {
        System.clearProperty("lethe.plugins");
      } else {
        System.setProperty("lethe.plugins", before);
      }
    }
  }

  @Test
  void theCpuHasMemoryAndAddressesButNoStream() {
    try (Backend backend = Backend.open("cpu", 1);
        FloatPointer mine = new FloatPointer(1, 2, 3, 4);
        Buffer buffer = backend.wrap(mine, 16)) {
      backend.synchronize();
      Backend.Memory memory = backend.memory();
      assertTrue(memory.free() > 0 && memory.total() >= memory.free(), memory.toString());
      Pointer address = backend.address(buffer.at(8), 8);
      assertEquals(mine.address() + 8, address.address());
      assertEquals(8, address.capacity());
      assertEquals(Abi.LETHE_OUT_OF_BOUNDS, status(() -> backend.address(buffer.at(8), 9)));
      assertEquals(Abi.LETHE_UNSUPPORTED, status(backend::stream));
      assertEquals(Abi.LETHE_UNSUPPORTED, status(() -> backend.useStream(null)));
      assertEquals(Abi.LETHE_UNSUPPORTED, status(() -> backend.recordLaunches(true)));
      assertEquals(Abi.LETHE_UNSUPPORTED, status(backend::launches));
    }
  }

  private static int status(Executable call) {
    return assertThrows(NativeException.class, call).status();
  }

  @Test
  void normalNumbersDependOnTheirPlaceAlone() {
    try (Backend backend = Backend.open("cpu", 2);
        Staging staging = new Staging(4000);
        Buffer buffer = backend.allocate(4000)) {
      Ops ops = new Ops(backend, Dtype.F32);
      ops.randomNormal(1000, 7, 0, 0.5f, buffer.at(0));
      float[] all = new float[1000];
      staging.download(buffer, 0, all, 1000);
      double squares = 0;
      for (float x : all) {
        squares += (double) x * x / 1000;
      }
      // Four standard deviations of the variance of 1000 numbers.
      assertEquals(0.25, squares, 4 * 0.25 * Math.sqrt(2.0 / 1000));
      ops.randomNormal(100, 7, 333, 0.5f, buffer.at(0));
      float[] some = new float[100];
      staging.download(buffer, 0, some, 100);
      assertArrayEquals(Arrays.copyOfRange(all, 333, 433), some);
    }
  }
}
