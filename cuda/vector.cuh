// Rows in pieces of 16 bytes: one access where a piece is whole and aligned, number by number where it is not. Which
// thread holds which numbers is the same either way, and so are the bits that come out.
#pragma once

#include <cstring>
#include <initializer_list>
#include <type_traits>

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

// The first `n` of a piece's numbers (all, where n is larger); the others are 0. kWhole: `from` is aligned, and pieces
// are not cut: n is 0 or less, or all.
template <bool kWhole, class T>
__device__ Vector<T> load_vector(const T *from, int n) {
  [[maybe_unused]] constexpr int kInWord = kVector<T> / 4;
  Vector<T> v = {};
  if constexpr (kWhole) {
    const void *piece = from;
    if (n > 0) std::memcpy(&v, __builtin_assume_aligned(piece, 16), sizeof v);
  } else {
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) {
      if (i < n) v.words[i / kInWord] |= stored_bits(from[i]) << (16 * (i % kInWord));
    }
  }
  return v;
}

template <bool kWhole, class T>
__device__ void store_vector(const Vector<T> &v, T *to, int n) {
  [[maybe_unused]] constexpr int kInWord = kVector<T> / 4;
  if constexpr (kWhole) {
    void *piece = to;
    if (n > 0) std::memcpy(__builtin_assume_aligned(piece, 16), &v, sizeof v);
  } else {
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) {
      if (i < n) from_bits(v.words[i / kInWord] >> (16 * (i % kInWord)), to + i);
    }
  }
}

// a / b for a >= 0, b > 0: divisions of 64 bits are slow.
__device__ inline int64_t quotient(int64_t a, int64_t b) {
  if (a > 0xffffffff || b > 0xffffffff) return a / b;
  return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
}

// The same where only the call knows whether `from` is aligned, and pieces may be cut.
template <class T>
__device__ Vector<T> load_vector(const T *from, int n, bool aligned) {
  return aligned && n >= kVector<T> ? load_vector<true>(from, n) : load_vector<false>(from, n);
}
template <class T>
__device__ void store_vector(const Vector<T> &v, T *to, int n, bool aligned) {
  if (aligned && n >= kVector<T>) {
    store_vector<true>(v, to, n);
  } else {
    store_vector<false>(v, to, n);
  }
}

// Whether rows of T consist of whole pieces: all pointers are aligned, and widths and strides keep to it.
template <class T>
bool whole_rows(std::initializer_list<const void *> pointers, std::initializer_list<int64_t> strides) {
  for (const void *p : pointers) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  }
  for (const int64_t stride : strides) {
    if (stride % kVector<T> != 0) return false;
  }
  return true;
}

// Calls body(std::bool_constant of `value`): what a kernel is made for.
template <class Body>
auto with_bool(bool value, Body &&body) {
  return value ? body(std::true_type{}) : body(std::false_type{});
}

}  // namespace lethe::cuda
