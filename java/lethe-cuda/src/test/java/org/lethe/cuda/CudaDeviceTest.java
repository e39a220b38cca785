package org.lethe.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.abort;

import java.time.Duration;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.lethe.EnvironmentException;
import org.lethe.NativeException;
import org.lethe.kernels.Activation;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/** The presets' own calls beside Lethe's on one device; skipped, with what lacks, without one. */
@Tag("device")
class CudaDeviceTest {
  private static final int N = 1025;

  private Backend backend;

  @BeforeEach
  void open() {
    try {
      CudaPresets.requireRuntime();
      backend = Backend.open("cuda", 1);
    } catch (EnvironmentException e) {
      abort(e.getMessage());
    }
  }

  @AfterEach
  void close() {
    if (backend != null) {
      backend.close();
    }
  }

  private static void cuda(int status) {
    assertEquals(cudart.cudaSuccess, status, () -> cudart.cudaGetErrorString(status).getString());
  }

  private static void nccl(int status) {
    assertEquals(nccl.ncclSuccess, status, () -> nccl.ncclGetErrorString(status).getString());
  }

  private static float[] numbers() {
    float[] numbers = new float[N];
    for (int i = 0; i < N; i++) {
      numbers[i] = (i % 7 - 3) * 0.25f + i * 1e-4f;
    }
    return numbers;
  }

  private static float[] relu(float[] of) {
    float[] out = of.clone();
    for (int i = 0; i < out.length; i++) {
      out[i] = Math.max(0f, out[i]);
    }
    return out;
  }

  private static CUstream_st stream() {
    CUstream_st stream = new CUstream_st();
    cuda(cudart.cudaStreamCreate(stream));
    return stream;
  }

  /** Copies in, an op and copies out on one stream, without a wait in between. */
  private void onOneStream(CUstream_st stream) {
    long bytes = (long) N * Float.BYTES;
    Pointer memory = new Pointer();
    cuda(cudart.cudaMalloc(memory, bytes));
    try (FloatPointer in = new FloatPointer(numbers());
        FloatPointer out = new FloatPointer((long) N)) {
      try (SharedMemory shared = CudaMemory.share(backend, memory, bytes);
          Buffer buffer = backend.allocate(bytes)) {
        int kind = cudart.cudaMemcpyDefault;
        cuda(cudart.cudaMemcpyAsync(memory, in, bytes, kind, stream));
        new Ops(backend, Dtype.F32)
            .activationForward(Activation.RELU, 1, N, shared.ref(), buffer.at(0));
        FloatPointer result = CudaMemory.floats(backend, buffer.at(0), N);
        assertEquals(N, result.limit());
        cuda(cudart.cudaMemcpyAsync(out, result, bytes, kind, stream));
        cuda(cudart.cudaStreamSynchronize(stream));
        float[] found = new float[N];
        out.get(found);
        assertArrayEquals(relu(numbers()), found);
        assertEquals(memory.address(), CudaMemory.bytes(backend, shared.ref(), bytes).address());
      }
    } finally {
      cuda(cudart.cudaFree(memory));
    }
  }

  @Test
  void memoryAndLethesStreamAreShared() {
    onOneStream(CudaStreams.of(backend));
  }

  @Test
  void letheWorksOnACallersStream() {
    CUstream_st own = CudaStreams.of(backend);
    CUstream_st theirs = stream();
    CudaStreams.use(backend, theirs);
    assertEquals(theirs.address(), CudaStreams.of(backend).address());
    onOneStream(theirs);
    CudaStreams.useOwn(backend);
    assertEquals(own.address(), CudaStreams.of(backend).address());
    backend.synchronize();
    cuda(cudart.cudaStreamDestroy(theirs));
    onOneStream(own);
  }

  @Test
  void hostMemoryIsRefused() {
    try (FloatPointer host = new FloatPointer(1, 2, 3, 4)) {
      NativeException e =
          assertThrows(NativeException.class, () -> CudaMemory.share(backend, host, 16));
      assertTrue(e.getMessage().contains("host memory"), e.getMessage());
    }
  }

  /** With one rank the sum is what was given, after its way over the device. */
  @Test
  void aSumPassesThroughNccl() {
    try {
      CudaPresets.requireNccl();
    } catch (EnvironmentException e) {
      abort(e.getMessage());
    }
    ncclComm communicator = new ncclComm();
    nccl(nccl.ncclCommInitAll(communicator, 1, new int[] {0}));
    CUstream_st stream = CudaStreams.of(backend);
    try (NcclCollective collective =
            NcclCollective.over(communicator, stream, Duration.ofSeconds(30));
        Staging staging = new Staging(N * Float.BYTES)) {
      assertEquals("rank 0 of 1", collective.toString());
      var floats = staging.bytes().asFloatBuffer().put(numbers()).flip();
      collective.sum(floats);
      float[] found = new float[N];
      floats.get(found);
      assertArrayEquals(numbers(), found);
      double[] doubles = {1 / 3.0, -0.0, 1e300};
      collective.sum(doubles);
      assertArrayEquals(new double[] {1 / 3.0, -0.0, 1e300}, doubles);
      collective.barrier();
      assertEquals(communicator, collective.communicator());
    }
    nccl(nccl.ncclCommDestroy(communicator));
  }
}
