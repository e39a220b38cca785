// A host shim for CUDA kernels: blocks run one after the other, a block's threads are fibers that switch at barriers
// and where a warp's lanes meet; the blocks of a cluster take turns at the cluster's barriers. With it a .cu file
// compiles as C++ and runs under a debugger, a sanitizer, or in a test without a GPU. cuda_runtime_host.h is the
// runtime that goes with it.
//
// What it finds beyond wrong results: a barrier, of a block or a cluster, or a warp's meeting that only part of the
// threads reaches (ShimError); another block's shared memory used before it has begun or after it may have ended;
// asynchronous copies that nobody waited for, mbarriers that nobody ends, and what else tensor_host.h names; reads of
// shared memory that nobody wrote (it starts as NaN); with a sanitizer, accesses outside of shared and device memory.
// What it does not: races between barriers, which on fibers have one outcome.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __restrict__ __restrict
#define __grid_constant__
#define __launch_bounds__(...)
// One block at a time, so that one copy serves; static storage has a sanitizer's red zones at its ends. A cluster's
// blocks share the copy: what lives across a barrier of the cluster belongs into dynamic shared memory.
#define __shared__ static

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

namespace lethe::cuda::shim {

struct ShimError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr unsigned kLanes = 32;
constexpr unsigned kGroupLanes = 128;  // threads of a warpgroup
// What a block may have on sm_86, sm_89 and sm_120, the devices with the least, and on sm_90.
constexpr size_t kMostSharedBytes = size_t{99} << 10, kMostSharedBytes90 = size_t{227} << 10;
constexpr unsigned kMostCluster = 8;  // blocks that every device with clusters takes

struct Indices {
  Dim3 thread, block, block_size, grid;
  unsigned cluster_rank = 0, cluster_size = 1;
};
extern Indices current;  // of the fiber that runs

void barrier();
// The same, and whether any thread of the block brought true.
bool barrier_or(bool mine);

// All threads of the cluster's blocks.
void cluster_barrier();
// Where the same place of the block's dynamic shared memory lies in that of another block of the cluster. From the
// first barrier of the cluster to the last: no block's memory is sure to be there before or behind them.
void *cluster_shared(void *mine, unsigned rank);

// All lanes of a warp bring something; `meet` sees what each brought and may write to it, then all go on.
using Meeting = void (*)(void *(&brought)[kLanes]);
void warp_meet(void *mine, Meeting meet);
// The same of a warpgroup's threads.
using GroupMeeting = void (*)(void *(&brought)[kGroupLanes]);
void group_meet(void *mine, GroupMeeting meet);

// Registers were written that a product of a warpgroup may read: it needs a fence (tensor_host.h).
void registers_written();

// Copies 16 bytes (zeros where `from` is null) when the group it belongs to is waited for; until then they are NaN.
void copy_async(void *to, const void *from, int bytes);
void copy_commit();
void copy_wait(int groups_left);

// The block's dynamic shared memory.
void *dynamic_shared();

// Ends the launch from inside a kernel: ShimError, with the thread.
[[noreturn]] void fault(std::string &&what);

// Throws ShimError where a real launch would hang or be undefined. `cluster`: blocks of one, neighbours in x.
void launch(Dim3 grid, unsigned threads, size_t dynamic_shared_bytes, size_t most_shared_bytes, unsigned cluster,
            const std::function<void()> &kernel);

// What a lane brings to a shuffle: its bits, and the lane it wants to hear from.
struct Shuffle {
  uint32_t bits;
  unsigned from;
};
void shuffle(void *(&brought)[kLanes]);
inline unsigned lane() { return current.thread.x % kLanes; }

}  // namespace lethe::cuda::shim

#define threadIdx (::lethe::cuda::shim::current.thread)
#define blockIdx (::lethe::cuda::shim::current.block)
#define blockDim (::lethe::cuda::shim::current.block_size)
#define gridDim (::lethe::cuda::shim::current.grid)

inline void __syncthreads() { ::lethe::cuda::shim::barrier(); }
inline int __syncthreads_or(int mine) { return ::lethe::cuda::shim::barrier_or(mine != 0); }
inline void __syncwarp(unsigned = 0xffffffffu) {
  ::lethe::cuda::shim::warp_meet(nullptr, [](void *(&)[::lethe::cuda::shim::kLanes]) {});
}

template <class T>
T __shfl_sync(unsigned, T value, unsigned from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "four or eight bytes at a time");
  uint32_t words[2];
  std::memcpy(words, &value, sizeof(T));
  for (size_t i = 0; i < sizeof(T) / 4; ++i) {
    ::lethe::cuda::shim::Shuffle s = {words[i], from};
    ::lethe::cuda::shim::warp_meet(&s, ::lethe::cuda::shim::shuffle);
    words[i] = s.bits;
  }
  std::memcpy(&value, words, sizeof(T));
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned lanes) {
  return __shfl_sync(mask, value, ::lethe::cuda::shim::lane() ^ lanes);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes) {
  const unsigned from = ::lethe::cuda::shim::lane() + lanes;
  return __shfl_sync(mask, value, from < ::lethe::cuda::shim::kLanes ? from : ::lethe::cuda::shim::lane());
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes) {
  const unsigned lane = ::lethe::cuda::shim::lane();
  return __shfl_sync(mask, value, lane >= lanes ? lane - lanes : lane);
}

// The lanes that brought the same value.
inline unsigned __match_any_sync(unsigned, unsigned value) {
  namespace shim = ::lethe::cuda::shim;
  shim::warp_meet(&value, [](void *(&brought)[shim::kLanes]) {
    unsigned values[shim::kLanes], masks[shim::kLanes] = {};
    for (unsigned i = 0; i < shim::kLanes; ++i) std::memcpy(&values[i], brought[i], sizeof values[i]);
    for (unsigned i = 0; i < shim::kLanes; ++i) {
      for (unsigned j = 0; j < shim::kLanes; ++j) masks[i] |= values[i] == values[j] ? 1u << j : 0u;
    }
    for (unsigned i = 0; i < shim::kLanes; ++i) std::memcpy(brought[i], &masks[i], sizeof masks[i]);
  });
  return value;
}

// Blocks run one after the other, and threads switch at barriers alone: plain steps are atomic.
template <class T>
T atomicCAS(T *at, T expected, T wanted) {
  const T old = *at;
  if (old == expected) *at = wanted;
  return old;
}
template <class T>
T atomicAdd(T *at, T more) {
  static_assert(std::is_integral_v<T>, "floating-point atomics have no order: results would not repeat");
  const T old = *at;
  *at = old + more;
  return old;
}
template <class T>
T atomicMin(T *at, T x) {
  const T old = *at;
  if (x < old) *at = x;
  return old;
}
template <class T>
T atomicMax(T *at, T x) {
  const T old = *at;
  if (x > old) *at = x;
  return old;
}
inline void __threadfence() {}
inline void __threadfence_system() {}

template <class T>
T __ldg(const T *p) {
  return *p;
}

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline void sincospif(float x, float *sine, float *cosine) {
  const double angle = 3.141592653589793 * static_cast<double>(x);
  *sine = static_cast<float>(std::sin(angle));
  *cosine = static_cast<float>(std::cos(angle));
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }
inline float __int_as_float(int bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline int __float_as_int(float f) {
  int bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}
inline float __uint_as_float(uint32_t bits) { return __int_as_float(static_cast<int>(bits)); }
inline uint32_t __float_as_uint(float f) { return static_cast<uint32_t>(__float_as_int(f)); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (std::isnan(x)) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
  return {__float2bfloat16_rn(a), __float2bfloat16_rn(b)};
}
