// One AdamW step of one number. Each rounding is written out: every op and backend gives the same bits
// (native/cpu/adamw.h).
#pragma once

#include "common.cuh"

namespace lethe::cuda {

// What a step's updates share.
struct AdamwStep {
  float clip;
  float step_size;        // lr / (1 - beta1^t)
  float correction_root;  // 1 / sqrt(1 - beta2^t)
};

// The step that a state of `steps` updates so far comes to.
__device__ inline AdamwStep adamw_step(float clip, float steps, float lr, float beta1, float beta2) {
  const double t = static_cast<double>(steps) + 1.0;
  return {clip, static_cast<float>(lr / (1.0 - pow(static_cast<double>(beta1), t))),
          static_cast<float>(1.0 / sqrt(1.0 - pow(static_cast<double>(beta2), t)))};
}

// What becomes of p, and in their places of m and v. decay: lr * weight_decay.
__device__ inline float adamw_moved(const AdamwStep &s, float beta1, float beta2, float eps, float decay, float p,
                                    float g, float *m, float *v) {
  const float clipped = __fmul_rn(g, s.clip);
  *m = __fmaf_rn(*m, beta1, __fmul_rn(clipped, 1.0f - beta1));
  *v = __fmaf_rn(*v, beta2, __fmul_rn(__fmul_rn(clipped, clipped), 1.0f - beta2));
  const float denominator = __fmaf_rn(sqrtf(*v), s.correction_root, eps);
  const float stepped = __fmaf_rn(-(*m / denominator), s.step_size, p);
  return __fmaf_rn(-p, decay, stepped);
}

}  // namespace lethe::cuda
