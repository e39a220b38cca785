// The host shim itself: what it must catch in kernels that are wrong. shim_test; built with a sanitizer it also sees
// accesses outside of shared and of device memory.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cluster.cuh"
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
void expect_caught(cudaError_t status, const char *what, const char *message) {
  expect(status == cudaErrorLaunchFailure, what);
  expect(std::strstr(lethe_shim_message(), message) != nullptr, what);
  lethe_shim_fail_launch(-1, cudaSuccess);
}
template <class... Parameters, class... Arguments>
void caught(const char *what, const char *message, size_t shared, void (*kernel)(Parameters...),
            Arguments... arguments) {
  expect_caught(run(shared, kernel, arguments...), what, message);
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
// ---- clusters ----

using lethe::cuda::cluster_rank;
using lethe::cuda::cluster_shared;
using lethe::cuda::cluster_size;
using lethe::cuda::cluster_sync;
constexpr size_t kClusterShared = kThreads * sizeof(int);

// Each block sums what thread t of all blocks of its cluster wrote, in the order of ranks.
void sound_cluster_kernel(int *out) {
  int *mine = lethe::cuda::dynamic_shared<int>();
  mine[threadIdx.x] = static_cast<int>(blockIdx.x * 100 + threadIdx.x);
  __syncthreads();
  cluster_sync();
  int sum = 0;
  for (unsigned rank = 0; rank < cluster_size(); ++rank) sum = 3 * sum + cluster_shared(mine, rank)[threadIdx.x];
  cluster_sync();
  out[blockIdx.x * kThreads + threadIdx.x] = sum * 10 + static_cast<int>(cluster_rank());
}
void cluster_barrier_of_some_threads_kernel() {
  if (threadIdx.x < 40) cluster_sync();
}
void cluster_barrier_of_some_warps_kernel() {
  if (threadIdx.x < 32) {
    cluster_sync();
  } else {
    __syncthreads();
  }
}
void cluster_barrier_of_one_block_kernel() {
  if (cluster_rank() == 1) cluster_sync();
}
void cluster_barriers_unequal_kernel() {
  cluster_sync();
  if (cluster_rank() != 0) cluster_sync();
}
// The read may come before the write: what block `from` reads is not there yet, or nobody may know that it is.
void cluster_unmet_kernel(float *out) {
  auto *mine = lethe::cuda::dynamic_shared<float>();
  cluster_sync();
  mine[0] = 1;
  if (threadIdx.x == 0) out[blockIdx.x] = *cluster_shared(mine, 1 - cluster_rank());
  cluster_sync();
}
void cluster_read_at_once_kernel(float *out) {
  out[0] = *cluster_shared(lethe::cuda::dynamic_shared<float>(), 1 - cluster_rank());
  cluster_sync();
}
void cluster_read_last_kernel(float *out, unsigned reader) {
  auto *mine = lethe::cuda::dynamic_shared<float>();
  mine[0] = 1;
  cluster_sync();
  if (cluster_rank() == reader) out[0] = *cluster_shared(mine, 1 - reader);
}
// An address that was asked for in time, and used too late.
void cluster_read_late_kernel(float *out) {
  auto *mine = lethe::cuda::dynamic_shared<float>();
  mine[0] = 1;
  cluster_sync();
  const float *other = cluster_shared(mine, 1 - cluster_rank());
  cluster_sync();
  if (threadIdx.x == 0) out[blockIdx.x] = *other;
}
void cluster_rank_outside_kernel() {
  cluster_sync();
  cluster_shared(lethe::cuda::dynamic_shared<int>(), 2);
  cluster_sync();
}
void cluster_static_kernel() {
  __shared__ int own;
  cluster_sync();
  cluster_shared(&own, 1);
  cluster_sync();
}

template <class... Parameters, class... Arguments>
cudaError_t run_cluster(unsigned blocks, unsigned cluster, void (*kernel)(Parameters...), Arguments... arguments) {
  return launch_on(nullptr, Shape{"kernel", {blocks}, kThreads, kClusterShared, 0, cluster}, kernel, arguments...);
}
template <class... Parameters, class... Arguments>
void caught_in_cluster(const char *what, const char *message, void (*kernel)(Parameters...), Arguments... arguments) {
  expect_caught(run_cluster(4, 2, kernel, arguments...), what, message);
}

#if defined(__SANITIZE_ADDRESS__)
template <class Body>
bool ends(Body &&body);
#endif

void clusters() {
  for (const unsigned cluster : {1u, 2u, 4u, 8u}) {
    int out[16 * kThreads] = {};
    expect(run_cluster(16, cluster, sound_cluster_kernel, &out[0]) == cudaSuccess, "a sound kernel of clusters");
    bool right = true;
    for (unsigned b = 0; b < 16; ++b) {
      for (unsigned t = 0; t < kThreads; ++t) {
        int sum = 0;
        for (unsigned r = 0; r < cluster; ++r) sum = 3 * sum + static_cast<int>((b / cluster * cluster + r) * 100 + t);
        right = right && out[b * kThreads + t] == sum * 10 + static_cast<int>(b % cluster);
      }
    }
    expect(right, "its sums");
  }
  float out[4] = {};
  caught_in_cluster("a cluster's barrier that part of a warp reaches", "waits at a barrier of the cluster",
                    cluster_barrier_of_some_threads_kernel);
  caught_in_cluster("a cluster's barrier beside a block's", "waits at a barrier of the cluster, thread 32 waits at a",
                    cluster_barrier_of_some_warps_kernel);
  caught_in_cluster("a cluster's barrier that one block reaches", "block 0 has returned, another",
                    cluster_barrier_of_one_block_kernel);
  caught_in_cluster("a block with one barrier less", "block 0 has returned, another", cluster_barriers_unequal_kernel);
  caught_in_cluster("a read before all have begun", "may not have begun", cluster_read_at_once_kernel, &out[0]);
  caught_in_cluster("a read without a barrier behind it", "may have ended", cluster_read_last_kernel, &out[0], 1u);
  caught_in_cluster("a read of what has ended", "which has returned", cluster_read_last_kernel, &out[0], 0u);
  caught_in_cluster("a rank outside the cluster", "block 2 of 2", cluster_rank_outside_kernel);
  caught_in_cluster("memory that is not dynamic", "not the block's own", cluster_static_kernel);
  expect(run_cluster(2, 2, cluster_unmet_kernel, &out[0]) == cudaSuccess && std::isnan(out[0]) != std::isnan(out[1]),
         "a read that no barrier parts from the write sees what it may see at worst");
#if defined(__SANITIZE_ADDRESS__)
  expect(ends([&] { run_cluster(2, 2, cluster_read_late_kernel, &out[0]); }), "a read of a block that has ended");
#else
  expect(
      run_cluster(2, 2, cluster_read_late_kernel, &out[0]) == cudaSuccess && std::isnan(out[0]) != std::isnan(out[1]),
      "what a block leaves behind is NaN");
#endif
  expect_caught(run_cluster(3, 2, sound_kernel, nullptr), "a grid of no whole clusters", "clusters of 2 in 3 blocks");
  expect_caught(run_cluster(16, 16, sound_kernel, nullptr), "too large a cluster", "clusters of 16");
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
  expect(arrived[0] == -1 && arrived[1] == 2, "it is there after the wait, and nothing is before");
  float unwritten = 0;
  expect(run(64, unwritten_kernel, &unwritten) == cudaSuccess && std::isnan(unwritten),
         "unwritten shared memory is NaN");
  expect(run(size_t{99} << 10, unwritten_kernel, &unwritten) == cudaSuccess, "all shared memory that there is");
  expect(run(size_t{100} << 10, unwritten_kernel, &unwritten) == cudaErrorInvalidValue, "too much shared memory");
  expect(launch_on(nullptr, Shape{"kernel", {1}, 48}, divergent_barrier_kernel) == cudaErrorLaunchFailure,
         "half a warp is refused");
  lethe_shim_fail_launch(-1, cudaSuccess);
  clusters();
  captures();
#if defined(__SANITIZE_ADDRESS__)
  accesses_outside();
#endif
  std::printf("shim_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
