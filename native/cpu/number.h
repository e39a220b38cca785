// fp32 and bf16 storage behind one set of loads and stores, sixteen numbers at a time.
#pragma once

#include <cstdint>
#include <cstring>

namespace lethe::cpu {

struct bf16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

inline void from_float(float x, float *out) { *out = x; }
// Round to nearest even; a NaN keeps a quiet payload rather than rounding into infinity.
inline void from_float(float x, bf16 *out) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  out->bits = static_cast<uint16_t>((is_nan ? bits | 0x00400000u : rounded) >> 16);
}

// One register on AVX-512, two on AVX2. Sums run in sixteen lanes and are folded in a fixed order.
inline constexpr int64_t kLanes = 16;
typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));

inline f32x16 splat(float x) { return f32x16{} + x; }

inline f32x16 load(const float *p) {
  f32x16 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline f32x16 load(const bf16 *p) {
  u16x16 half;
  std::memcpy(&half, p, sizeof half);
  const u32x16 bits = __builtin_convertvector(half, u32x16) << 16;
  f32x16 v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
inline void store(float *p, f32x16 v) { std::memcpy(p, &v, sizeof v); }
inline void store(bf16 *p, f32x16 v) {
  u32x16 bits;
  std::memcpy(&bits, &v, sizeof bits);
  const u32x16 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const u32x16 nan = (u32x16)((bits & 0x7fffffffu) > 0x7f800000u);
  const u32x16 chosen = ((nan & (bits | 0x00400000u)) | (~nan & rounded)) >> 16;
  const u16x16 half = __builtin_convertvector(chosen, u16x16);
  std::memcpy(p, &half, sizeof half);
}

// Partial vectors: lanes from `n` on read as `fill`, and are not written.
template <class T>
f32x16 load_tail(const T *p, int64_t n, float fill = 0.0f) {
  f32x16 v = splat(fill);
  for (int64_t i = 0; i < n; ++i) v[i] = to_float(p[i]);
  return v;
}
template <class T>
void store_tail(T *p, f32x16 v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) from_float(v[i], p + i);
}

inline float sum(f32x16 v) {
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = v[i] + v[i + 8];
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

}  // namespace lethe::cpu
