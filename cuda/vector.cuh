// Rows in pieces of 16 bytes: one access where the piece is whole and aligned, number by number where it is not. Which
// thread holds which numbers is the same either way, and so are the bits that come out.
#pragma once

#include <cstring>
#include <initializer_list>

#include "number.cuh"

namespace lethe::cuda {

// A piece's numbers as they are stored: in registers, bf16 takes half of what single numbers would.
template <class T>
struct alignas(16) Vector {
  uint32_t words[4];

  __device__ float at(int i) const {
    if constexpr (sizeof(T) == 4) return __uint_as_float(words[i]);
    return __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
  }
};

__device__ inline uint32_t stored_bits(float x) { return __float_as_uint(x); }
__device__ inline uint32_t stored_bits(bf16 x) { return x.bits; }
__device__ inline void from_bits(uint32_t bits, float *to) { *to = __uint_as_float(bits); }
__device__ inline void from_bits(uint32_t bits, bf16 *to) { to->bits = static_cast<uint16_t>(bits); }

// Rounds numbers to storage.
template <class T>
__device__ Vector<T> packed(const float (&x)[kVector<T>]) {
  Vector<T> v;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      v.words[i] = __float_as_uint(x[i]);
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(x[2 * i], x[2 * i + 1]);
      std::memcpy(&v.words[i], &pair, sizeof pair);
    }
  }
  return v;
}

// How many of a piece's numbers lie in front of the end, which is `left` numbers away: none to all.
template <class T>
__device__ int in_piece(int64_t left) {
  return left >= kVector<T> ? kVector<T> : left > 0 ? static_cast<int>(left) : 0;
}

// The first `n` of a piece's numbers (all, where n is larger); the others are 0. `aligned`: `from` is.
template <class T>
__device__ Vector<T> load_vector(const T *from, int n, bool aligned) {
  constexpr int kInWord = kVector<T> / 4;
  Vector<T> v = {};
  if (aligned && n >= kVector<T>) {
    std::memcpy(&v, __builtin_assume_aligned(from, 16), sizeof v);
    return v;
  }
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) {
    if (i < n) v.words[i / kInWord] |= stored_bits(from[i]) << (16 * (i % kInWord));
  }
  return v;
}

template <class T>
__device__ void store_vector(const Vector<T> &v, T *to, int n, bool aligned) {
  constexpr int kInWord = kVector<T> / 4;
  if (aligned && n >= kVector<T>) {
    std::memcpy(__builtin_assume_aligned(to, 16), &v, sizeof v);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) {
    if (i < n) from_bits(v.words[i / kInWord] >> (16 * (i % kInWord)), to + i);
  }
}

// Whether every row of matrices of T starts on 16 bytes: all pointers do, and strides keep to it.
template <class T>
bool rows_aligned(std::initializer_list<const void *> pointers, std::initializer_list<int64_t> strides) {
  for (const void *p : pointers) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  for (const int64_t stride : strides) {
    if (stride % kVector<T> != 0) return false;
  }
  return true;
}

}  // namespace lethe::cuda
