// The part of the CUDA runtime that the backend calls, over host memory and with streams that have always caught up.
// While a graph is captured it refuses what a device would: waits and allocations end the capture. Its knobs let a test
// run out of memory and lose the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

using cudaError_t = int;
enum {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorIllegalState = 401,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
// While a graph is captured from a stream, work is written down here.
struct CUgraph_st {
  std::vector<std::function<cudaError_t()>> work;
};
using cudaGraph_t = CUgraph_st *;
using cudaGraphExec_t = CUgraph_st *;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
// A stream begins with where its work is written down, null where it is done; a caller's own has that, too. Copies on a
// stream that was made here and has no kernels are done as late as CUDA allows: when an event behind them is waited
// for. What does not wait then works with what stood there before.
struct CUstream_st {
  cudaGraph_t captured = nullptr;
};
using cudaStream_t = CUstream_st *;
struct CUevent_st {
  cudaStream_t stream = nullptr;
  size_t behind = 0;  // late copies that came before it
  double milliseconds = 0;
};
using cudaEvent_t = CUevent_st *;
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem, sharedMemPerBlockOptin, l2CacheSize;
};
enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};
enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost = 1, cudaMemoryTypeDevice = 2 };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
  int maxThreadsPerBlock, maxDynamicSharedSizeBytes;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
constexpr unsigned cudaEnableDefault = 0, cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2,
                   cudaHostAllocMapped = 2;

const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDevice(int *ordinal);
cudaError_t cudaSetDevice(int ordinal);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int ordinal);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int ordinal);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult *result);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *address);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end);

cudaError_t cudaMalloc(void **address, size_t bytes);
cudaError_t cudaFree(void *address);
cudaError_t cudaMallocAsync(void **address, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void *address, cudaStream_t stream);
cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags);
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags);
cudaError_t cudaFreeHost(void *address);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t rows, cudaStream_t stream);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void **nodes, size_t *count);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

namespace lethe::cuda::shim {

// A kernel is launched on the stream.
void computes(cudaStream_t stream);
// Whether a stream's work is written down and not done.
inline bool captures(cudaStream_t stream) { return stream != nullptr && stream->captured != nullptr; }
// Does the work, or writes it down.
template <class Work>
cudaError_t put(cudaStream_t stream, Work &&work) {
  if (!captures(stream)) return work();
  stream->captured->work.emplace_back(std::forward<Work>(work));
  return cudaSuccess;
}

// What a launch that throws a ShimError, or that a test wants to fail, leaves behind.
void set_error(cudaError_t error, const char *what);
// The error of everything from now on, as after an illegal access; 0: none.
cudaError_t lost();
// The device's.
int major_capability();
// How much dynamic shared memory a kernel's launches may have. What it has of static memory the shim cannot see, and
// takes a little for granted, as any kernel may have that.
size_t dynamic_limit(const void *kernel);
// Sets it; more than the device has is an error.
cudaError_t set_dynamic_limit(const void *kernel, int bytes);

}  // namespace lethe::cuda::shim

// Kernels are the host's, and for any device.
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, Kernel *kernel) {
  const size_t limit = lethe::cuda::shim::dynamic_limit(reinterpret_cast<const void *>(kernel));
  *attributes = {0, 1024, static_cast<int>(limit)};
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel *kernel, cudaFuncAttribute, int value) {
  return lethe::cuda::shim::set_dynamic_limit(reinterpret_cast<const void *>(kernel), value);
}

// Knobs of tests; the plug-in exports them.
extern "C" {
// The device has so many bytes in all.
__attribute__((visibility("default"))) void lethe_shim_set_memory(int64_t bytes);
// The launch after `launches` more ends in `error`, which is the context's end.
__attribute__((visibility("default"))) void lethe_shim_fail_launch(int launches, int error);
// cudaGetDeviceCount answers this error from now on (0: none), or finds no device of sm_80 or newer.
__attribute__((visibility("default"))) void lethe_shim_set_device(int error, int major, int minor);
// A device that is asked for its properties says that a block may have so many bytes of shared memory.
__attribute__((visibility("default"))) void lethe_shim_set_shared(int64_t bytes);
// The driver has functions for tensor maps, or is too old for them.
__attribute__((visibility("default"))) void lethe_shim_set_tensor_maps(int there);
// Events that are recorded from now on are so much later.
__attribute__((visibility("default"))) void lethe_shim_pass_time(double milliseconds);
// What the last ShimError said; "" when there was none.
__attribute__((visibility("default"))) const char *lethe_shim_message(void);
}
