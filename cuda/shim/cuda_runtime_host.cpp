#include "cuda_runtime_host.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <string>

#include "runtime_state.h"

using lethe::cuda::shim::state;

namespace {

// The stream that this thread captures from, and whether a call has made the capture void.
thread_local cudaStream_t capturing = nullptr;
thread_local bool capture_void = false;

// What waits or allocates may not come between a capture's begin and its end.
cudaError_t unless_capturing() {
  if (capturing == nullptr) return cudaSuccess;
  capture_void = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t allocate(void **address, size_t bytes) {
  const cudaError_t refused = unless_capturing();
  if (refused != cudaSuccess) return refused;
  if (state.lost != cudaSuccess) return state.lost;
  if (bytes > state.total - state.used) return cudaErrorMemoryAllocation;
  // Freed memory and fresh memory alike: all bits set, NaN. Its size is kept to the byte for the sanitizer.
  constexpr size_t kAlignment = 256;
  if (posix_memalign(address, kAlignment, bytes == 0 ? 1 : bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*address, 0xff, bytes);
  state.used += bytes;
  state.allocations[*address] = bytes;
  return cudaSuccess;
}

// The streams that were made here, with their late copies.
struct Stream {
  std::deque<std::function<cudaError_t()>> late;
  size_t done = 0;  // of all that were ever late
  bool computes = false;
};
std::mutex streams_mutex;
std::map<cudaStream_t, Stream> streams;

Stream *stream_of(cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(streams_mutex);
  const auto at = streams.find(stream);
  return at == streams.end() ? nullptr : &at->second;
}

size_t all_late(cudaStream_t stream) {
  const Stream *s = stream_of(stream);
  return s == nullptr ? 0 : s->done + s->late.size();
}

// Does a stream's late copies, up to so many of all that it ever had.
cudaError_t catch_up(cudaStream_t stream, size_t count) {
  Stream *s = stream_of(stream);
  for (; s != nullptr && s->done < count && !s->late.empty(); ++s->done) {
    const cudaError_t error = s->late.front()();
    s->late.pop_front();
    if (error != cudaSuccess) return error;
  }
  return state.lost;
}
cudaError_t catch_up(cudaStream_t stream) { return catch_up(stream, all_late(stream)); }

bool is_pinned(const void *address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto next = state.pinned.upper_bound(at);
  if (next == state.pinned.begin()) return false;
  const auto &[from, bytes] = *std::prev(next);
  return at < from + bytes;
}

// A direction that the addresses do not have is undefined. Of memory that was not pinned here it may be the device's.
cudaError_t check_direction(const void *to, const void *from, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if ((!to_device || !is_pinned(to)) && (!from_device || !is_pinned(from))) return cudaSuccess;
  state.message = "a copy whose direction its addresses do not have";
  return cudaErrorInvalidValue;
}

cudaError_t release(void *address) {
  const cudaError_t refused = unless_capturing();
  if (address == nullptr || refused != cudaSuccess) return refused;
  const auto at = state.allocations.find(address);
  if (at == state.allocations.end()) return cudaErrorInvalidValue;
  state.used -= at->second;
  state.allocations.erase(at);
  std::free(address);
  return cudaSuccess;
}

// A wait gives back what was freed before it.
cudaError_t waited(cudaError_t error) {
  if (error != cudaSuccess) return error;
  state.used -= state.pooled;
  state.pooled = 0;
  return cudaSuccess;
}

}  // namespace

namespace lethe::cuda::shim {

State state;

void computes(cudaStream_t stream) {
  Stream *s = stream_of(stream);
  if (s == nullptr || s->computes) return;
  catch_up(stream);  // what came before the kernel
  s->computes = true;
}

void set_error(cudaError_t error, const char *what) {
  state.lost = error;
  state.message = what;
}

cudaError_t lost() {
  if (state.lost == cudaSuccess && state.launches_left >= 0 && state.launches_left-- == 0) {
    state.lost = state.launch_error;
  }
  return state.lost;
}

}  // namespace lethe::cuda::shim

extern "C" {

void lethe_shim_set_memory(int64_t bytes) { state.total = static_cast<size_t>(bytes); }
void lethe_shim_fail_launch(int launches, int error) {
  state.launches_left = launches;
  state.launch_error = error;
  if (error == cudaSuccess) state.lost = cudaSuccess;
}
void lethe_shim_pass_time(double milliseconds) { state.passed += milliseconds; }
const char *lethe_shim_message(void) { return state.message.c_str(); }

}  // extern "C"

const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return state.message.empty() ? "unspecified launch failure" : state.message.c_str();
    case cudaErrorIllegalState:
      return "the operation cannot be performed in the present state";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    default:
      return "an error of the shim";
  }
}
// Every call has given its own error; of what other libraries' runtimes met, this one knows nothing.
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  *free_bytes = state.total - state.used;
  *total_bytes = state.total;
  return state.lost;
}
// All of the host's memory is this device's.
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *) {
  *attributes = {cudaMemoryTypeDevice, 0};
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  *stream = new CUstream_st();
  const std::lock_guard<std::mutex> lock(streams_mutex);
  streams[*stream];
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  catch_up(stream);
  const std::lock_guard<std::mutex> lock(streams_mutex);
  if (streams.erase(stream) > 0) delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const cudaError_t refused = unless_capturing();
  return refused == cudaSuccess ? waited(catch_up(stream)) : refused;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
  return catch_up(event->stream, event->behind);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = new CUevent_st();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  event->milliseconds = std::chrono::duration<double, std::milli>(now).count() + state.passed;
  event->stream = stream;
  event->behind = all_late(stream);
  return state.lost;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>(end->milliseconds - begin->milliseconds);
  return state.lost;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const cudaError_t refused = unless_capturing();
  return refused == cudaSuccess ? waited(catch_up(event->stream, event->behind)) : refused;
}

cudaError_t cudaMalloc(void **address, size_t bytes) { return allocate(address, bytes); }
cudaError_t cudaFree(void *address) { return release(address); }
cudaError_t cudaMallocAsync(void **address, size_t bytes, cudaStream_t) { return allocate(address, bytes); }
cudaError_t cudaFreeAsync(void *address, cudaStream_t) {
  const size_t before = state.used;
  const cudaError_t error = release(address);
  state.pooled += before - state.used;
  state.used = before;
  return error;
}
cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned) {
  const cudaError_t refused = unless_capturing();
  if (refused != cudaSuccess) return refused;
  *address = std::calloc(bytes, 1);
  if (*address == nullptr) return cudaErrorMemoryAllocation;
  state.pinned[reinterpret_cast<uintptr_t>(*address)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned) {
  *device = host;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void *address) {
  state.pinned.erase(reinterpret_cast<uintptr_t>(address));
  std::free(address);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const cudaError_t undefined = check_direction(to, from, kind);
  if (undefined != cudaSuccess) return undefined;
  const auto work = [=] {
    if (state.lost == cudaSuccess) std::memcpy(to, from, bytes);
    return state.lost;
  };
  Stream *beside = lethe::cuda::shim::captures(stream) ? nullptr : stream_of(stream);
  if (beside == nullptr || beside->computes) return lethe::cuda::shim::put(stream, work);
  beside->late.emplace_back(work);
  return state.lost;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
  return lethe::cuda::shim::put(stream, [=] {
    if (state.lost == cudaSuccess) std::memset(to, value, bytes);
    return state.lost;
  });
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
  const cudaError_t undefined = check_direction(to, from, kind);
  if (undefined != cudaSuccess) return undefined;
  return lethe::cuda::shim::put(stream, [=] {
    for (size_t r = 0; state.lost == cudaSuccess && r < rows; ++r) {
      std::memcpy(static_cast<char *>(to) + r * to_pitch, static_cast<const char *>(from) + r * from_pitch, width);
    }
    return state.lost;
  });
}
cudaError_t cudaMemset2DAsync(void *to, size_t pitch, int value, size_t width, size_t rows, cudaStream_t stream) {
  if (width > pitch) return cudaErrorInvalidValue;
  return lethe::cuda::shim::put(stream, [=] {
    for (size_t r = 0; state.lost == cudaSuccess && r < rows; ++r) {
      std::memset(static_cast<char *>(to) + r * pitch, value, width);
    }
    return state.lost;
  });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (capturing != nullptr || stream == nullptr) return cudaErrorIllegalState;
  stream->captured = new CUgraph_st();
  capturing = stream;
  capture_void = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  if (capturing == nullptr || capturing != stream) return cudaErrorIllegalState;
  *graph = stream->captured;
  stream->captured = nullptr;
  capturing = nullptr;
  if (!capture_void) return cudaSuccess;
  delete *graph;
  *graph = nullptr;
  return cudaErrorStreamCaptureInvalidated;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void **, size_t *count) {
  *count = graph->work.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraph_st(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  for (const auto &work : exec->work) {
    const cudaError_t error = work();
    if (error != cudaSuccess) return error;
  }
  return state.lost;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
