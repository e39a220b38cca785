// exp, expm1, log1p and tanh on sixteen numbers at a time, and on the eight of an AVX2 register.
//
// Largest errors, over all of fp32's range and held by tests/native/vector_math_test.cpp: exp 1 ulp, expm1 and
// log1p 1.5 ulp, tanh 3 ulp. Infinities, NaN, subnormal results, underflow to 0 and overflow to infinity are those of
// libm. Results do not depend on the lane.
//
// GCC takes a selection apart lane by lane where a vector is wider than a register, so on AVX2 sixteen numbers are
// worked as two registers.
#pragma once

#include <cstdint>
#include <cstring>

#include "number.h"

namespace lethe::cpu {

typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));

namespace vector_math {

template <class F>
struct IntOf;
template <>
struct IntOf<f32x8> {
  using type = i32x8;
};
template <>
struct IntOf<f32x16> {
  using type = i32x16;
};
template <class F>
using Int = typename IntOf<F>::type;

#define LETHE_VECTOR inline __attribute__((always_inline))

template <class F>
LETHE_VECTOR F all(float x) {
  return F{} + x;
}
template <class F>
LETHE_VECTOR F select(Int<F> mask, F yes, F no) {
  return mask ? yes : no;
}
// 2^n for n in [-126, 127].
template <class F>
LETHE_VECTOR F power_of_two(Int<F> n) {
  return (F)((n + 127) << 23);
}

// Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
inline constexpr float kRound = 12582912.0f;
inline constexpr int32_t kRoundBits = 0x4b400000;
inline constexpr float kLog2e = 1.4426950408889634f;
// ln 2 in two parts (Cody & Waite 1980); n * kLn2High is exact for |n| < 2^15.
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;

// x = n ln2 + r, |r| <= ln2 / 2.
template <class F>
struct Reduced {
  Int<F> n;
  F r;
};
template <class F>
LETHE_VECTOR Reduced<F> reduce(F x) {
  const F shifted = x * kLog2e + kRound;
  const F n = shifted - kRound;
  return {(Int<F>)shifted - kRoundBits, (x - n * kLn2High) - n * kLn2Low};
}

// (e^r - 1 - r) / r^2 on |r| <= ln2 / 2: interpolation at Chebyshev points, 3e-10 of e^r.
template <class F>
LETHE_VECTOR F exp_tail(F r) {
  F p = r * 1.98910304e-4f + 1.39336858e-3f;
  p = p * r + 8.33331048e-3f;
  p = p * r + 4.16664630e-2f;
  p = p * r + 1.66666672e-1f;
  return p * r + 0.5f;
}

template <class F>
LETHE_VECTOR F clamp(F x, float low, float high) {
  // A NaN compares false and stays.
  x = select<F>(x < low, all<F>(low), x);
  return select<F>(x > high, all<F>(high), x);
}

template <class F>
LETHE_VECTOR F exp_of(F x) {
  // Beyond these bounds the scaling below gives 0 and infinity.
  const Reduced<F> t = reduce(clamp(x, -104.0f, 89.0f));
  const F p = exp_tail(t.r) * (t.r * t.r) + t.r + 1.0f;
  // In two halves, so that neither leaves the exponent's range.
  const Int<F> half = t.n >> 1;
  return p * power_of_two<F>(half) * power_of_two<F>(t.n - half);
}

// exp for softmax's arguments, below 88: results that would be subnormal are 0.
template <class F>
LETHE_VECTOR F exp_of_score(F x) {
  const Reduced<F> t = reduce(x);
  const F p = exp_tail(t.r) * (t.r * t.r) + t.r + 1.0f;
  return select<F>(x < -87.0f, F{}, p * power_of_two<F>(t.n));
}

template <class F>
LETHE_VECTOR F expm1_of(F x) {
  // Below, the result is -1; above, e^x's.
  const Reduced<F> t = reduce(clamp(x, -30.0f, 30.0f));
  const F p = exp_tail(t.r) * (t.r * t.r) + t.r;
  const F scale = power_of_two<F>(t.n);
  const F y = select<F>(t.n == 0, p, p * scale + (scale - 1.0f));
  return select<F>(x > 30.0f, exp_of(x), y);
}

template <class F>
LETHE_VECTOR F log1p_of(F x) {
  // u = 1 + x rounded, and what the rounding lost; u = 2^n m with m in [sqrt(1/2), sqrt(2)).
  const F u = x + 1.0f;
  const F lost = select<F>(x < 1.0f, x - (u - 1.0f), 1.0f - (u - x));
  const Int<F> bits = (Int<F>)u - 0x3f3504f3;
  const Int<F> n = bits >> 23;
  const F m = (F)((bits & 0x007fffff) + 0x3f3504f3);
  // The loss shrinks with m. Where 2^-n would leave the exponent's range it is nothing.
  const F carry = select<F>(n < 64, lost, F{}) * power_of_two<F>(-n & (n < 64));
  const F f = select<F>(n == 0, x, (m - 1.0f) + carry);
  // log(1 + f) = f - f^2/2 + s (f^2/2 + R), s = f / (2 + f), R = 2 atanh(s) / s - 2.
  const F s = f / (f + 2.0f);
  const F z = s * s;
  F r = z * 0.22222222f + 0.28571429f;
  r = r * z + 0.4f;
  r = r * z + 0.66666667f;
  r = r * z;
  const F half_square = f * f * 0.5f;
  const F whole = __builtin_convertvector(n, F);
  F y = whole * kLn2High - ((half_square - (s * (half_square + r) + whole * kLn2Low)) - f);
  y = select<F>(x == -1.0f, all<F>(-__builtin_inff()), y);
  y = select<F>(x < -1.0f, all<F>(__builtin_nanf("")), y);
  return select<F>((x != x) | (x == __builtin_inff()), x, y);
}

// With e = e^(-2|x|) - 1 in [-1, 0]: |tanh x| = -e / (e + 2), without cancellation.
template <class F>
LETHE_VECTOR F tanh_of(F x) {
  const F e = expm1_of(select<F>(x < 0.0f, x, -x) * 2.0f);
  const F y = e / (e + 2.0f);
  return select<F>(x < 0.0f, y, 0.0f - y);
}

// Applies `f` to sixteen numbers: one register on AVX-512, two on AVX2.
template <class Function>
LETHE_VECTOR f32x16 by_register(f32x16 x, Function &&f) {
#if defined(__AVX512F__)
  return f(x);
#else
  f32x8 half[2];
  std::memcpy(half, &x, sizeof x);
  half[0] = f(half[0]);
  half[1] = f(half[1]);
  std::memcpy(&x, half, sizeof x);
  return x;
#endif
}

}  // namespace vector_math

LETHE_VECTOR f32x8 exp(f32x8 x) { return vector_math::exp_of(x); }
LETHE_VECTOR f32x8 tanh(f32x8 x) { return vector_math::tanh_of(x); }
LETHE_VECTOR f32x16 exp(f32x16 x) {
  return vector_math::by_register(x, [](auto v) { return vector_math::exp_of(v); });
}
// e^x - 1, accurate near 0.
LETHE_VECTOR f32x16 expm1(f32x16 x) {
  return vector_math::by_register(x, [](auto v) { return vector_math::expm1_of(v); });
}
// log(1 + x), accurate near 0.
LETHE_VECTOR f32x16 log1p(f32x16 x) {
  return vector_math::by_register(x, [](auto v) { return vector_math::log1p_of(v); });
}

LETHE_VECTOR f32x16 tanh(f32x16 x) {
  return vector_math::by_register(x, [](auto v) { return vector_math::tanh_of(v); });
}

#undef LETHE_VECTOR

}  // namespace lethe::cpu
