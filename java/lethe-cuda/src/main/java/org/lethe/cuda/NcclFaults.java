package org.lethe.cuda;

import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.nccl;
import org.lethe.EnvironmentException;
import org.lethe.LetheException;
import org.lethe.NativeException;

/** Statuses of NCCL's and of CUDA's runtime as exceptions, with their text and a remedy. */
final class NcclFaults {
  // lethe.h's statuses.
  private static final int INVALID_ARGUMENT = 1;
  private static final int OUT_OF_MEMORY = 5;
  private static final int INTERNAL = 10;
  private static final int DEVICE_LOST = 11;

  private final NcclCalls calls;

  NcclFaults(NcclCalls calls) {
    this.calls = calls;
  }

  /** Throws unless NCCL answered success. */
  void checkNccl(String who, String call, int status) {
    if (status != nccl.ncclSuccess) {
      throw ofNccl(who, call, status);
    }
  }

  /** Throws unless the runtime answered success. */
  void checkCuda(String who, String call, int status) {
    if (status != cudart.cudaSuccess) {
      throw ofCuda(who, call, status);
    }
  }

  LetheException ofNccl(String who, String call, int status) {
    String what = who + ": " + call + ": " + calls.ncclText(status);
    return switch (status) {
      case nccl.ncclInvalidArgument, nccl.ncclInvalidUsage ->
          new NativeException(
              INVALID_ARGUMENT,
              "LETHE_INVALID_ARGUMENT",
              what
                  + "; give a communicator that was neither destroyed nor aborted, and a stream of"
                  + " its device; NCCL_DEBUG=WARN shows which");
      case nccl.ncclInternalError ->
          new NativeException(
              INTERNAL, "LETHE_INTERNAL", what + "; run with NCCL_DEBUG=WARN, which says more");
      case nccl.ncclRemoteError ->
          new EnvironmentException(
              what + "; another rank ended: see what it reported, then start all ranks again");
      case nccl.ncclSystemError ->
          new EnvironmentException(
              what
                  + "; look at the network between the ranks and at /dev/shm, with"
                  + " NCCL_DEBUG=WARN");
      default ->
          new EnvironmentException(
              what + "; look at the devices with nvidia-smi, and run with NCCL_DEBUG=WARN");
    };
  }

  LetheException ofCuda(String who, String call, int status) {
    String what = who + ": " + call + ": " + calls.cudaText(status);
    return switch (status) {
      case cudart.cudaErrorMemoryAllocation ->
          new NativeException(
              OUT_OF_MEMORY,
              "LETHE_OUT_OF_MEMORY",
              what + "; free memory, or let fewer ranks share a step");
      case cudart.cudaErrorInsufficientDriver, cudart.cudaErrorNoDevice ->
          new EnvironmentException(
              what + "; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or update the driver");
      default ->
          new NativeException(
              DEVICE_LOST,
              "LETHE_DEVICE_LOST",
              what + "; start all ranks again; compute-sanitizer finds what spoilt the device");
    };
  }
}
