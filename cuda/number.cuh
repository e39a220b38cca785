// Storage on the device: fp32 or bf16, arithmetic in fp32.
#pragma once

#include "common.cuh"

namespace lethe::cuda {

struct bf16 {
  uint16_t bits;
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
__device__ inline void from_float(float x, float *to) { *to = x; }
__device__ inline void from_float(float x, bf16 *to) { to->bits = bf16_bits(x); }
// What storage makes of a number.
template <class T>
__device__ float rounded(float x) {
  T stored;
  from_float(x, &stored);
  return to_float(stored);
}

// N consecutive numbers in one access; `from` is aligned to all of them.
template <class T, int N>
struct alignas(sizeof(T) * N) Packed {
  T lanes[N];
};

// Numbers of 16 bytes.
template <class T>
constexpr int kVector = 16 / static_cast<int>(sizeof(T));

template <class T>
__device__ bool aligned16(const T *p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

}  // namespace lethe::cuda
