// A host shim for CUDA kernels: blocks run one after the other, a block's threads are fibers that switch at barriers
// and shuffles. With it a .cu file compiles as C++ and runs under a debugger, a sanitizer, or in a test without a GPU.
//
// What it finds beyond wrong results: a barrier or shuffle that only part of the threads reaches (ShimError). What it
// does not: races between barriers, which on fibers have one outcome.
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
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block at a time, so that one copy serves; static storage has a sanitizer's red zones at its ends.
#define __shared__ static

struct alignas(16) float4 {
  float x, y, z, w;
};
struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct __nv_bfloat16 {
  uint16_t bits;
};

namespace lethe::cuda::shim {

struct ShimError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Indices {
  Dim3 thread, block, block_size, grid;
};
extern Indices current;  // of the fiber that runs

void barrier();
// The bits that lane `lane ^ mask` brought to the same shuffle.
uint32_t shuffle_xor(uint32_t bits, unsigned mask);

// Throws ShimError where a real launch would hang or be undefined.
void launch(unsigned blocks, unsigned threads, const std::function<void()> &kernel);

}  // namespace lethe::cuda::shim

#define threadIdx (::lethe::cuda::shim::current.thread)
#define blockIdx (::lethe::cuda::shim::current.block)
#define blockDim (::lethe::cuda::shim::current.block_size)
#define gridDim (::lethe::cuda::shim::current.grid)

inline void __syncthreads() { ::lethe::cuda::shim::barrier(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, unsigned mask) {
  static_assert(sizeof(T) == 4, "four bytes at a time");
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits = ::lethe::cuda::shim::shuffle_xor(bits, mask);
  std::memcpy(&value, &bits, 4);
  return value;
}

inline float __expf(float x) { return std::exp(x); }
inline float __int_as_float(int bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (std::isnan(x)) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
