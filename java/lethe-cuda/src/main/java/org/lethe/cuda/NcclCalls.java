package org.lethe.cuda;

import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.nccl.ncclComm;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;

/**
 * What sums need of NCCL and CUDA's runtime, each with the status it answers. {@code asyncError}
 * and {@code abort} may be called beside another thread's call.
 */
interface NcclCalls {
  /** {@code ncclCommCount}. */
  int count(ncclComm communicator, int[] count);

  /** {@code ncclCommUserRank}. */
  int userRank(ncclComm communicator, int[] rank);

  /** {@code ncclCommCuDevice}. */
  int device(ncclComm communicator, int[] device);

  /** {@code ncclAllGather} of bytes. */
  int allGather(
      Pointer send, Pointer receive, long bytes, ncclComm communicator, CUstream_st stream);

  /** {@code ncclCommGetAsyncError}. */
  int asyncError(ncclComm communicator, int[] error);

  /** {@code ncclCommAbort}. */
  int abort(ncclComm communicator);

  /** The text of a status of NCCL's, with its number. */
  String ncclText(int status);

  /** {@code cudaGetDevice}. */
  int currentDevice(int[] device);

  /** {@code cudaSetDevice}. */
  int select(int device);

  /** {@code cudaMalloc}. */
  int allocate(long bytes, BytePointer[] memory);

  /** {@code cudaFree}. */
  int free(BytePointer memory);

  /** {@code cudaHostAlloc}. */
  int allocatePinned(long bytes, BytePointer[] memory);

  /** {@code cudaFreeHost}. */
  int freePinned(BytePointer memory);

  /** {@code cudaMemcpyAsync}, between host and device as the addresses say. */
  int copy(Pointer to, Pointer from, long bytes, CUstream_st stream);

  /** {@code cudaStreamSynchronize}. */
  int synchronize(CUstream_st stream);

  /** The text of a status of the runtime's, with its number. */
  String cudaText(int status);
}
