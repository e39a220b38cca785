// Logits from what the head's GEMM gives: the bias added, the soft cap put on.
#pragma once

#include <algorithm>
#include <cstdint>

#include "number.h"
#include "vector_math.h"

namespace lethe::cpu {

struct SoftCap {
  float cap;  // 0: none
  float inverse;
  explicit SoftCap(float soft_cap) : cap(soft_cap), inverse(soft_cap > 0 ? 1.0f / soft_cap : 0.0f) {}
  bool caps() const { return cap > 0; }

  f32x16 operator()(f32x16 u) const { return tanh(u * inverse) * cap; }
  // The slope where the capped logit is z.
  f32x16 slope(f32x16 z) const {
    const f32x16 t = z * inverse;
    return (1.0f - t) * (t + 1.0f);
  }

  // capped(u + delta) - capped(u). With t = tanh(u/cap) and s = tanh(delta/cap) it is cap s (1 - t^2) / (1 + t s),
  // which keeps all digits of a small delta; of a large one the plain difference loses none that count, and 1 + t s
  // might be 0.
  f32x16 difference(f32x16 u, f32x16 delta) const {
    const f32x16 b = delta * inverse;
    const f32x16 t = tanh(u * inverse), s = tanh(b);
    const f32x16 near = cap * s * ((1.0f - t) * (t + 1.0f)) / (t * s + 1.0f);
    const f32x16 far = cap * (tanh((u + delta) * inverse) - t);
    return vector_math::select<f32x16>((b < 0.5f) & (b > -0.5f), near, far);
  }
};

// u[V] -> capped(u + bias), in place.
inline void finish_logits(float *u, const float *bias, SoftCap cap, int64_t V) {
  for (int64_t v = 0; v < V; v += kLanes) {
    const int64_t n = std::min(kLanes, V - v);
    f32x16 z = n == kLanes ? load(u + v) : load_tail(u + v, n);
    if (bias != nullptr) z += n == kLanes ? load(bias + v) : load_tail(bias + v, n);
    if (cap.caps()) z = cap(z);
    n == kLanes ? store(u + v, z) : store_tail(u + v, z, n);
  }
}

}  // namespace lethe::cpu
