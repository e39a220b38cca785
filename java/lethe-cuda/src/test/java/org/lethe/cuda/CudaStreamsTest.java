package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.junit.jupiter.api.Test;
import org.lethe.NativeException;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;

class CudaStreamsTest {
  @Test
  @SuppressWarnings("try") // The scope works by being open.
  void aStreamGoesInAndComesOut() {
    try (Backend backend = Shim.open();
        // The shim's streams begin with a pointer, null while nothing is captured.
        BytePointer place = new BytePointer(8L).zero();
        PointerScope scope = new PointerScope()) {
      CUstream_st own = CudaStreams.of(backend);
      assertFalse(own.isNull());
      assertEquals(-1, own.referenceCount(), "it has a deallocator");
      CUstream_st theirs = new CUstream_st(place);
      assertNotEquals(own.address(), theirs.address());
      CudaStreams.use(backend, theirs);
      assertEquals(theirs, CudaStreams.of(backend));
      try (Buffer buffer = backend.allocate(16)) {
        new Ops(backend, Dtype.F32).zero(buffer.at(0), 16);
        backend.synchronize();
      }
      CudaStreams.useOwn(backend);
      assertEquals(own, CudaStreams.of(backend));
    }
  }

  @Test
  void aStreamThatWasNotMadeIsRefused() {
    try (Backend backend = Shim.open()) {
      Pointer own = CudaStreams.of(backend);
      for (CUstream_st none : new CUstream_st[] {null, new CUstream_st()}) {
        UserException e = assertThrows(UserException.class, () -> CudaStreams.use(backend, none));
        assertTrue(e.getMessage().contains("cudaStreamCreate"), e.getMessage());
      }
      assertEquals(own, CudaStreams.of(backend));
    }
  }

  @Test
  void theProcessorHasNoStreams() {
    try (Backend backend = Backend.open("cpu", 1);
        BytePointer place = new BytePointer(1L)) {
      for (NativeException e :
          new NativeException[] {
            assertThrows(NativeException.class, () -> CudaStreams.of(backend)),
            assertThrows(
                NativeException.class, () -> CudaStreams.use(backend, new CUstream_st(place)))
          }) {
        assertTrue(e.getMessage().contains("LETHE_UNSUPPORTED"), e.getMessage());
      }
    }
  }
}
