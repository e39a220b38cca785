package org.lethe.cuda;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.lethe.UserException;
import org.lethe.kernels.Backend;

/**
 * The stream a CUDA backend works on, as the presets hold one. What two sides put on one stream
 * runs in the order in which they put it there.
 *
 * <p>Only the backend's thread may call it. A backend without streams, as the CPU's, answers with a
 * {@link org.lethe.NativeException}, LETHE_UNSUPPORTED.
 */
public final class CudaStreams {
  private CudaStreams() {}

  /**
   * The stream the backend works on at this moment.
   *
   * @return without a deallocator, and not to be destroyed: it is the backend's, or that of whoever
   *     made it. The backend's own is valid until the backend closes
   */
  public static CUstream_st of(Backend backend) {
    return new CUstream_st(backend.stream());
  }

  /**
   * Lets the backend work on a stream of the caller's from now on, after what it was asked before;
   * nobody waits for that. The stream is not destroyed before another one is given or the backend
   * closes.
   *
   * @param stream of the backend's device. The default stream, whose handle is 0, is given as
   *     {@code cudart.CU_STREAM_LEGACY}
   */
  public static void use(Backend backend, CUstream_st stream) {
    if (stream == null || stream.isNull()) {
      throw new UserException(
          "the stream is null; make one with cudaStreamCreate, or give CU_STREAM_LEGACY for the"
              + " default stream");
    }
    backend.useStream(stream);
  }

  /** Lets the backend work on its own stream again, after what it was asked before. */
  public static void useOwn(Backend backend) {
    backend.useStream(null);
  }
}
