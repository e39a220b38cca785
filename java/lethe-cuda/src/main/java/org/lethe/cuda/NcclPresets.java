package org.lethe.cuda;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.nccl;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/** The calls as the presets make them; {@link CudaPresets#requireNccl} comes first. */
final class NcclPresets implements NcclCalls {
  @Override
  public int count(ncclComm communicator, int[] count) {
    return nccl.ncclCommCount(communicator, count);
  }

  @Override
  public int userRank(ncclComm communicator, int[] rank) {
    return nccl.ncclCommUserRank(communicator, rank);
  }

  @Override
  public int device(ncclComm communicator, int[] device) {
    return nccl.ncclCommCuDevice(communicator, device);
  }

  @Override
  public int allGather(
      Pointer send, Pointer receive, long bytes, ncclComm communicator, CUstream_st stream) {
    return nccl.ncclAllGather(send, receive, bytes, nccl.ncclUint8, communicator, stream);
  }

  @Override
  public int asyncError(ncclComm communicator, int[] error) {
    return nccl.ncclCommGetAsyncError(communicator, error);
  }

  @Override
  public int abort(ncclComm communicator) {
    return nccl.ncclCommAbort(communicator);
  }

  @Override
  public String ncclText(int status) {
    return text(nccl.ncclGetErrorString(status)) + " (NCCL error " + status + ")";
  }

  @Override
  public int currentDevice(int[] device) {
    return cudart.cudaGetDevice(device);
  }

  @Override
  public int select(int device) {
    return cudart.cudaSetDevice(device);
  }

  @Override
  public int allocate(long bytes, BytePointer[] memory) {
    memory[0] = new BytePointer();
    return cudart.cudaMalloc(memory[0], bytes);
  }

  @Override
  public int free(BytePointer memory) {
    return cudart.cudaFree(memory);
  }

  @Override
  public int allocatePinned(long bytes, BytePointer[] memory) {
    memory[0] = new BytePointer();
    return cudart.cudaHostAlloc(memory[0], bytes, cudart.cudaHostAllocDefault);
  }

  @Override
  public int freePinned(BytePointer memory) {
    return cudart.cudaFreeHost(memory);
  }

  @Override
  public int copy(Pointer to, Pointer from, long bytes, CUstream_st stream) {
    return cudart.cudaMemcpyAsync(to, from, bytes, cudart.cudaMemcpyDefault, stream);
  }

  @Override
  public int synchronize(CUstream_st stream) {
    return cudart.cudaStreamSynchronize(stream);
  }

  @Override
  public String cudaText(int status) {
    return text(cudart.cudaGetErrorString(status)) + " (CUDA error " + status + ")";
  }

  private static String text(BytePointer message) {
    return message == null ? "unknown" : message.getString();
  }
}
