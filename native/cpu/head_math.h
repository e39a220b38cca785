// Vector exp and expm1 of the head's row kernel.
#pragma once

#include "number.h"

namespace lethe::cpu {

// Beyond any difference of two fp32 logits that matters, and small enough that its product with a probability of 0 is
// 0.
inline constexpr float kHuge = 1e30f;

// e^x, relative error below 2 ulp; 0 below -87.3 (no subnormal results), +inf above 88.7, NaN for NaN. Cody-Waite
// reduction by multiples of ln 2, Taylor's series on [-ln2/2, ln2/2].
inline f32x16 vector_exp(f32x16 x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const f32x16 n = (x * 1.44269504f + kRound) - kRound;
  const f32x16 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  f32x16 p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  // 2^n in two halves, so that n = 128 does not leave the exponent's range before the product is taken.
  const i32x16 whole = __builtin_convertvector(n, i32x16);
  const i32x16 half = whole >> 1;
  const u32x16 low = (u32x16)(half + 127) << 23, high = (u32x16)(whole - half + 127) << 23;
  f32x16 scale_low, scale_high;
  std::memcpy(&scale_low, &low, sizeof low);
  std::memcpy(&scale_high, &high, sizeof high);
  f32x16 y = p * scale_low * scale_high;
  y = x < -87.3365f ? f32x16{} : y;
  return x > 88.7228f ? splat(__builtin_inff()) : y;
}

// e^x - 1, relative error below 3 ulp: a series near 0, where the subtraction would cancel.
inline f32x16 vector_expm1(f32x16 x) {
  f32x16 p = x * (1.0f / 362880) + 1.0f / 40320;
  p = p * x + 1.0f / 5040;
  p = p * x + 1.0f / 720;
  p = p * x + 1.0f / 120;
  p = p * x + 1.0f / 24;
  p = p * x + 1.0f / 6;
  p = p * x + 0.5f;
  const f32x16 series = p * x * x + x;
  const i32x16 small = (x < 0.5f) & (x > -0.5f);
  return small ? series : vector_exp(x) - 1.0f;
}

}  // namespace lethe::cpu
