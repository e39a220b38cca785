// One AdamW step. Each rounding is written out: every op and backend, and every place in a vector, gives the same bits.
#pragma once

#include <cmath>

#include "lethe_backend.h"
#include "number.h"

namespace lethe::cpu {

// What a step's updates share.
struct AdamwStep {
  float clip, beta1, beta2, eps;
  float step_size;        // lr / (1 - beta1^t)
  float correction_root;  // 1 / sqrt(1 - beta2^t)
};

// The step that a state of `steps` updates so far comes to.
inline AdamwStep adamw_step(float clip, float steps, float lr, float beta1, float beta2, float eps) {
  const double t = static_cast<double>(steps) + 1.0;
  return {clip,
          beta1,
          beta2,
          eps,
          static_cast<float>(lr / (1.0 - std::pow(static_cast<double>(beta1), t))),
          static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(static_cast<double>(beta2), t)))};
}

// What becomes of p, and in their places of m and v. A compiler makes vectors of a loop over it: no sum of products is
// left to contract one way or the other.
inline float adamw_moved(const AdamwStep &s, float decay, float p, float g, float *m, float *v) {
  const float clipped = g * s.clip;
  const float first = clipped * (1.0f - s.beta1), square = clipped * clipped, second = square * (1.0f - s.beta2);
  *m = __builtin_fmaf(*m, s.beta1, first);
  *v = __builtin_fmaf(*v, s.beta2, second);
  const float denominator = __builtin_fmaf(std::sqrt(*v), s.correction_root, s.eps);
  const float stepped = __builtin_fmaf(-(*m / denominator), s.step_size, p);
  return __builtin_fmaf(-p, decay, stepped);
}

// n parameters; decay: lr * weight_decay.
inline void adamw_all(const AdamwStep &s, float decay, int64_t n, float *p, const float *g, float *m, float *v) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) p[i] = adamw_moved(s, decay, p[i], g[i], m + i, v + i);
}

template <class T>
inline void store_all(const float *x, int64_t n, T *to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(x + i));
  for (; i < n; ++i) from_float(x[i], to + i);
}

}  // namespace lethe::cpu
