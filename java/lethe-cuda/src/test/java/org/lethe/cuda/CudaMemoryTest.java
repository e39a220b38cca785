package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.atomic.AtomicInteger;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.lethe.NativeException;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

@SuppressWarnings("try") // Scopes work by being open.
class CudaMemoryTest {
  private Backend backend;
  private Ops ops;

  @BeforeEach
  void open() {
    backend = Shim.open();
    ops = new Ops(backend, Dtype.F32);
  }

  @AfterEach
  void close() {
    if (backend != null) {
      backend.close();
    }
  }

  private static float[] values(FloatPointer pointer) {
    float[] values = new float[(int) pointer.limit()];
    pointer.get(values);
    return values;
  }

  @Test
  void eitherSideSeesWhatTheOtherWrites() {
    try (FloatPointer theirs = new FloatPointer(1, 2, 3, 4);
        SharedMemory shared = CudaMemory.share(backend, theirs, 16)) {
      assertSame(theirs, shared.memory());
      assertEquals(16, shared.buffer().bytes());
      assertTrue(shared.buffer().isLent());
      assertEquals(0, backend.allocatedBytes());
      ops.copy(shared.ref() + 8, shared.ref(), 8);
      backend.synchronize();
      assertArrayEquals(new float[] {1, 2, 1, 2}, values(theirs));
      theirs.put(0, 9f);
      try (Staging staging = new Staging(16)) {
        float[] seen = new float[4];
        staging.download(shared.buffer(), 0, seen, 4);
        assertArrayEquals(new float[] {9, 2, 1, 2}, seen);
      }
      // What goes in comes out at the same address.
      assertEquals(theirs.address(), CudaMemory.bytes(backend, shared.ref(), 16).address());
    }
  }

  @Test
  void aPointerIsSharedFromItsPositionOn() {
    try (FloatPointer theirs = new FloatPointer(1, 2, 3, 4)) {
      theirs.position(2);
      try (SharedMemory shared = CudaMemory.share(backend, theirs, 4)) {
        ops.zero(shared.ref(), 4);
        backend.synchronize();
      }
      assertArrayEquals(new float[] {1, 2, 0, 4}, values(theirs.position(0)));
    }
  }

  /** As cudaMalloc fills one: an address and nothing else. */
  @Test
  void aBarePointerIsTakenAtTheCallersWord() {
    try (FloatPointer memory = new FloatPointer(1, 2, 3, 4)) {
      Pointer bare = new Pointer(memory).capacity(0);
      try (SharedMemory shared = CudaMemory.share(backend, bare, 16)) {
        ops.zero(shared.ref() + 4, 8);
        backend.synchronize();
      }
      assertArrayEquals(new float[] {1, 0, 0, 4}, values(memory));
    }
  }

  @Test
  void aBuffersMemoryIsAPointerOfItsSize() {
    try (Buffer buffer = backend.allocate(64)) {
      FloatPointer floats = CudaMemory.floats(backend, buffer.at(16), 3);
      assertEquals(3, floats.limit());
      assertEquals(0, floats.position());
      floats.put(0, 1f).put(1, 2f).put(2, 3f);
      ops.copy(buffer.at(0), buffer.at(16), 12);
      backend.synchronize();
      BytePointer bytes = CudaMemory.bytes(backend, buffer.at(0), 64);
      assertEquals(64, bytes.limit());
      assertEquals(bytes.address() + 16, floats.address());
      assertArrayEquals(
          new float[] {1, 2, 3, 0, 1, 2, 3, 0},
          values(CudaMemory.floats(backend, buffer.at(0), 8)));
      assertEquals(3f, bytes.getFloat(8));
    }
  }

  @Test
  void aPointerToABufferFreesNothing() {
    try (Buffer buffer = backend.allocate(16)) {
      FloatPointer kept;
      try (PointerScope scope = new PointerScope()) {
        kept = CudaMemory.floats(backend, buffer.at(0), 4);
        BytePointer bytes = CudaMemory.bytes(backend, buffer.at(0), 16);
        assertEquals(-1, kept.referenceCount(), "it has a deallocator");
        bytes.close();
        bytes.deallocate();
      }
      assertFalse(kept.isNull());
      kept.put(3, 7f);
      ops.copy(buffer.at(0), buffer.at(12), 4);
      backend.synchronize();
      assertEquals(7f, kept.get(0));
    }
  }

  /** Memory of a scope, whose end is seen by its deallocator. */
  private static BytePointer counted(AtomicInteger freed) {
    return new BytePointer() {
      {
        Pointer owner = new BytePointer(16L).retainReference();
        address = owner.address();
        limit = 16;
        capacity = 16;
        deallocator(
            () -> {
              freed.incrementAndGet();
              owner.releaseReference();
            });
      }
    };
  }

  @Test
  void theMemoryOutlivesTheScopeItCameFrom() {
    AtomicInteger freed = new AtomicInteger();
    SharedMemory shared;
    try (PointerScope scope = new PointerScope()) {
      BytePointer theirs = counted(freed);
      assertEquals(1, theirs.referenceCount());
      shared = CudaMemory.share(backend, theirs, 16);
      assertEquals(2, theirs.referenceCount());
    }
    assertEquals(0, freed.get());
    Pointer theirs = shared.memory();
    assertEquals(1, theirs.referenceCount());
    ops.zero(shared.ref(), 16);
    backend.synchronize();
    shared.close();
    shared.close();
    assertEquals(1, freed.get());
    assertThrows(UserException.class, shared::memory);
    assertThrows(UserException.class, shared::ref);
  }

  @Test
  void memoryOfNoScopeRemainsTheCallers() {
    AtomicInteger freed = new AtomicInteger();
    BytePointer theirs = counted(freed);
    CudaMemory.share(backend, theirs, 16).close();
    assertEquals(0, freed.get());
    assertFalse(theirs.isNull());
    // A scope that goes on after the memory was shared.
    try (PointerScope scope = new PointerScope()) {
      BytePointer inner = counted(freed);
      CudaMemory.share(backend, inner, 16).close();
      assertEquals(0, freed.get());
    }
    assertEquals(1, freed.get());
    theirs.close();
    assertEquals(2, freed.get());
  }

  @Test
  void aBackendThatClosesFirstLeavesTheMemoryToItsOwner() {
    FloatPointer theirs = new FloatPointer(1, 2);
    SharedMemory shared = CudaMemory.share(backend, theirs, 8);
    backend.close();
    shared.close();
    assertEquals(2f, theirs.get(1));
    theirs.close();
  }

  private static void refused(String part, Executable call) {
    UserException e = assertThrows(UserException.class, call);
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }

  @Test
  void whatCannotBeSharedIsRefused() {
    refused("cudaMalloc", () -> CudaMemory.share(backend, new Pointer(), 4));
    refused("cudaMalloc", () -> CudaMemory.share(backend, null, 4));
    try (FloatPointer theirs = new FloatPointer(1, 2)) {
      refused("give fewer", () -> CudaMemory.share(backend, theirs, 9));
      assertThrows(NativeException.class, () -> CudaMemory.share(backend, theirs, 0));
    }
    Buffer buffer = backend.allocate(16);
    NativeException outside =
        assertThrows(NativeException.class, () -> CudaMemory.floats(backend, buffer.at(4), 4));
    assertTrue(outside.getMessage().contains("LETHE_OUT_OF_BOUNDS"), outside.getMessage());
    long stale = buffer.at(0);
    buffer.close();
    NativeException closed =
        assertThrows(NativeException.class, () -> CudaMemory.bytes(backend, stale, 16));
    assertTrue(closed.getMessage().contains("LETHE_CLOSED"), closed.getMessage());
  }
}
