// What kernels share: the vocabulary of CUDA or of its host shim, reductions, exp, bf16.
#pragma once

#include <cstdint>

#if defined(LETHE_CUDA_SHIM)
#include "shim/cuda_host.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#endif

namespace lethe::cuda {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxWarps = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// The block's dynamic shared memory.
template <class T>
__device__ T *dynamic_shared() {
#if defined(LETHE_CUDA_SHIM)
  return static_cast<T *>(shim::dynamic_shared());
#else
  extern __shared__ uint4 lethe_dynamic_shared[];
  return reinterpret_cast<T *>(lethe_dynamic_shared);
#endif
}

// To nearest even.
__device__ inline uint16_t bf16_bits(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }

// e^x within 2 + 1.2 |x| ulp; 0 where it would be subnormal.
__device__ inline float fast_exp(float x) { return __expf(x); }

// e^x - 1 without cancellation near 0: Taylor's series there.
__device__ inline float fast_expm1(float x) {
  if (!(fabsf(x) < 0.5f)) return fast_exp(x) - 1.0f;
  float p = x * (1.0f / 362880) + 1.0f / 40320;
  p = p * x + 1.0f / 5040;
  p = p * x + 1.0f / 720;
  p = p * x + 1.0f / 120;
  p = p * x + 1.0f / 24;
  p = p * x + 1.0f / 6;
  p = p * x + 0.5f;
  return p * x * x + x;
}

// x e^x - expm1(x) and expm1(x) - x for |x| <= 1/2: sum over k >= 2 of (k-1) x^k / k!, and of x^k / k!.
__device__ inline float kl_term(float x) {
  float p = x * (9.0f / 3628800) + 8.0f / 362880;
  p = p * x + 7.0f / 40320;
  p = p * x + 6.0f / 5040;
  p = p * x + 5.0f / 720;
  p = p * x + 4.0f / 120;
  p = p * x + 3.0f / 24;
  p = p * x + 2.0f / 6;
  return (p * x + 0.5f) * x * x;
}
__device__ inline float reverse_kl_term(float x) {
  float p = x * (1.0f / 3628800) + 1.0f / 362880;
  p = p * x + 1.0f / 40320;
  p = p * x + 1.0f / 5040;
  p = p * x + 1.0f / 720;
  p = p * x + 1.0f / 120;
  p = p * x + 1.0f / 24;
  p = p * x + 1.0f / 6;
  return (p * x + 0.5f) * x * x;
}

// Sums each of values[N] over the block; every thread gets the totals. The order is fixed: lanes by butterfly, warps
// by butterfly. The block is a whole number of warps, kMaxWarps at most.
template <class Number, int N>
__device__ void block_sum(Number (&values)[N]) {
  __shared__ Number partial[N][kMaxWarps];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    for (unsigned step = kWarp / 2; step > 0; step /= 2) values[i] += __shfl_xor_sync(kAllLanes, values[i], step);
    if (lane == 0) partial[i][warp] = values[i];
  }
  __syncthreads();  // partial is written
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = lane < warps ? partial[i][lane] : Number{};
    for (unsigned step = kMaxWarps / 2; step > 0; step /= 2) values[i] += __shfl_xor_sync(kAllLanes, values[i], step);
  }
  __syncthreads();  // partial may be written again
}

// The larger value, and of equal ones the smaller index.
struct Largest {
  float value;
  int index;
};
__device__ inline Largest larger(Largest a, Largest b) {
  const bool take_b = b.value > a.value || (b.value == a.value && b.index < a.index);
  return take_b ? b : a;
}
__device__ inline Largest warp_largest(Largest x) {
  for (unsigned step = kWarp / 2; step > 0; step /= 2) {
    x = larger(x, Largest{__shfl_xor_sync(kAllLanes, x.value, step), __shfl_xor_sync(kAllLanes, x.index, step)});
  }
  return x;
}
__device__ inline Largest block_largest(Largest x) {
  __shared__ Largest largest[kMaxWarps];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  x = warp_largest(x);
  if (lane == 0) largest[warp] = x;
  __syncthreads();  // largest is written
  x = warp_largest(lane < warps ? largest[lane] : largest[0]);
  __syncthreads();  // largest may be written again
  return x;
}

}  // namespace lethe::cuda
