// The host shim itself: what it must catch in kernels that are wrong. shim_test; built with a sanitizer it also sees
// accesses outside of shared and of device memory.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "launch.cuh"

namespace {

int checks = 0, failures = 0;

void expect(bool condition, const char *what) {
  ++checks;
  if (!condition && ++failures > 0) std::fprintf(stderr, "FAILED %s: %s\n", what, lethe_shim_message());
}

using lethe::cuda::launch_on;
using lethe::cuda::Shape;
constexpr unsigned kThreads = 64;

// Runs a kernel and says how it ended.
template <class... Parameters, class... Arguments>
cudaError_t run(size_t shared, void (*kernel)(Parameters...), Arguments... arguments) {
  const cudaError_t status = launch_on(nullptr, Shape{"kernel", {2}, kThreads, shared}, kernel, arguments...);
  return status;
}
template <class... Parameters, class... Arguments>
void caught(const char *what, const char *message, size_t shared, void (*kernel)(Parameters...),
            Arguments... arguments) {
  expect(run(shared, kernel, arguments...) == cudaErrorLaunchFailure, what);
  expect(std::strstr(lethe_shim_message(), message) != nullptr, what);
  lethe_shim_fail_launch(-1, cudaSuccess);
}

void sound_kernel(int *out) {
  __shared__ int sum[kThreads];
  sum[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  int total = sum[kThreads - 1 - threadIdx.x];
  for (unsigned step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
  if (threadIdx.x % 32 == 0) out[blockIdx.x * 2 + threadIdx.x / 32] = total;
}
void divergent_barrier_kernel() {
  if (threadIdx.x < 40) __syncthreads();
}
void barrier_of_some_warps_kernel() {
  if (threadIdx.x < 32) __syncthreads();
}
void divergent_shuffle_kernel() {
  if (threadIdx.x != 3) static_cast<void>(__shfl_xor_sync(0xffffffffu, 1, 1));
}
void two_meetings_kernel() {
  if (threadIdx.x % 2 == 0) {
    static_cast<void>(__shfl_xor_sync(0xffffffffu, 1, 1));
  } else {
    __syncwarp();
  }
}
void shuffle_outside_kernel() { static_cast<void>(__shfl_sync(0xffffffffu, 1, 40)); }
void copy_left_kernel(const int *from) {
  static int to[4];
  lethe::cuda::shim::copy_async(to, from, 16);
  lethe::cuda::shim::copy_commit();
}
void copy_waited_kernel(const int *from, int *out) {
  static int to[4];
  if (threadIdx.x == 0) {
    std::memset(to, 0, sizeof to);
    lethe::cuda::shim::copy_async(to, from, 16);
    lethe::cuda::shim::copy_commit();
    out[0] = to[1];  // not there yet
    lethe::cuda::shim::copy_wait(0);
    out[1] = to[1];
  }
}
void unwritten_kernel(float *out) {
  const auto *shared = static_cast<const float *>(lethe::cuda::shim::dynamic_shared());
  if (threadIdx.x == 0) out[0] = shared[5];
}
#if defined(__SANITIZE_ADDRESS__)
void shared_outside_kernel(int at) { static_cast<volatile char *>(lethe::cuda::shim::dynamic_shared())[at] = 1; }
void device_outside_kernel(float *data, int at, float *out) { *out = data[at]; }

// Whether the sanitizer ends a process that does this.
template <class Body>
bool ends(Body &&body) {
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    body();
    std::_Exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void accesses_outside() {
  expect(!ends([] { run(100, shared_outside_kernel, 99); }), "the last byte of shared memory");
  expect(ends([] { run(100, shared_outside_kernel, 100); }), "a byte behind shared memory");
  void *data = nullptr;
  float out = 0;
  expect(cudaMalloc(&data, 40) == cudaSuccess, "memory");
  auto *floats = static_cast<float *>(data);
  expect(!ends([&] { run(0, device_outside_kernel, floats, 9, &out); }), "the last float of device memory");
  expect(ends([&] { run(0, device_outside_kernel, floats, 10, &out); }), "a float behind device memory");
  expect(ends([&] { run(0, device_outside_kernel, floats, -1, &out); }), "a float in front of device memory");
  cudaFree(data);
}
#endif

void add_kernel(int *at, int more) {
  if (threadIdx.x == 0 && blockIdx.x == 0) *at += more;
}

// A capture runs nothing; a launch runs all, with the arguments of the capture; and what a device refuses makes the
// capture void.
void captures() {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  int sum = 1, copy = 0;
  void *memory = nullptr, *host = nullptr;
  expect(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess, "a stream");
  expect(cudaMalloc(&memory, 4) == cudaSuccess, "memory");
  const auto begin = [&] { return cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal); };
  expect(cudaStreamEndCapture(stream, &graph) == cudaErrorIllegalState, "an end alone");
  expect(begin() == cudaSuccess && begin() == cudaErrorIllegalState, "one capture at a time");
  int more = 5;
  expect(launch_on(stream, Shape{"add", {2}, kThreads}, add_kernel, &sum, more) == cudaSuccess, "a launch");
  expect(cudaMemcpyAsync(&copy, &sum, 4, cudaMemcpyDeviceToDevice, stream) == cudaSuccess, "a copy");
  more = 7;
  expect(cudaStreamEndCapture(stream, &graph) == cudaSuccess && sum == 1 && copy == 0, "nothing has run");
  expect(cudaGraphInstantiateWithFlags(&exec, graph, 0) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess,
         "a graph");
  expect(cudaGraphLaunch(exec, stream) == cudaSuccess && more == 7 && sum == 6 && copy == 6, "all has run");
  expect(cudaGraphLaunch(exec, stream) == cudaSuccess && sum == 11 && copy == 11, "and runs again");
  lethe_shim_fail_launch(0, cudaErrorLaunchFailure);
  expect(cudaGraphLaunch(exec, stream) == cudaErrorLaunchFailure, "a launch inside of it may fail");
  lethe_shim_fail_launch(-1, cudaSuccess);
  expect(cudaGraphExecDestroy(exec) == cudaSuccess, "destroy");
  const auto refused = [&](const char *what, cudaError_t error) {
    expect(error == cudaErrorStreamCaptureUnsupported, what);
    graph = nullptr;
    expect(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated && graph == nullptr, what);
    expect(begin() == cudaSuccess, what);
  };
  expect(begin() == cudaSuccess, "begin");
  refused("a wait for the stream", cudaStreamSynchronize(stream));
  refused("an allocation", cudaMalloc(&host, 4));
  refused("pinned memory", cudaHostAlloc(&host, 4, 0));
  refused("freeing", cudaFree(memory));
  expect(cudaStreamEndCapture(stream, &graph) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess, "an empty one");
  expect(cudaFree(memory) == cudaSuccess && cudaStreamDestroy(stream) == cudaSuccess, "the end");
}

}  // namespace

int main() {
  int sums[4] = {};
  expect(run(0, sound_kernel, &sums[0]) == cudaSuccess, "a sound kernel");
  expect(sums[0] == 1520 && sums[1] == 496 && sums[2] == 1520 && sums[3] == 496, "its sums");
  caught("a barrier that part of a warp reaches", "waits at a barrier", 0, divergent_barrier_kernel);
  caught("a barrier that one warp of two reaches", "has returned", 0, barrier_of_some_warps_kernel);
  caught("a shuffle that a lane leaves out", "waits for its warp", 0, divergent_shuffle_kernel);
  caught("lanes at different meetings", "meet for different things", 0, two_meetings_kernel);
  caught("a lane outside the warp", "lane outside", 0, shuffle_outside_kernel);
  const int from[4] = {1, 2, 3, 4};
  caught("a copy that is not waited for", "did not wait for", 0, copy_left_kernel, &from[0]);
  int arrived[2] = {};
  expect(run(0, copy_waited_kernel, &from[0], &arrived[0]) == cudaSuccess, "a copy that is waited for");
  expect(arrived[0] == 0 && arrived[1] == 2, "it is there after the wait, and not before");
  float unwritten = 0;
  expect(run(64, unwritten_kernel, &unwritten) == cudaSuccess && std::isnan(unwritten),
         "unwritten shared memory is NaN");
  caught("too much shared memory", "exceed", size_t{100} << 10, unwritten_kernel, &unwritten);
  expect(launch_on(nullptr, Shape{"kernel", {1}, 48}, divergent_barrier_kernel) == cudaErrorLaunchFailure,
         "half a warp is refused");
  lethe_shim_fail_launch(-1, cudaSuccess);
  captures();
#if defined(__SANITIZE_ADDRESS__)
  accesses_outside();
#endif
  std::printf("shim_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
