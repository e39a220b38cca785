// Rotary position embedding in the half-split layout: (a, b) -> (a c - b s, b c + a s); the inverse turns by -s.
#include "device.h"
#include "number.h"

namespace lethe::cpu {
namespace {

template <class T>
void turn_head(T *low, T *high, const float *cos, const float *sin, float sign, int64_t half) {
  int64_t j = 0;
  for (; j + kLanes <= half; j += kLanes) {
    const f32x16 a = load(low + j), b = load(high + j), c = load(cos + j), s = load(sin + j) * sign;
    store(low + j, a * c - b * s);
    store(high + j, b * c + a * s);
  }
  for (; j < half; ++j) {
    const float a = to_float(low[j]), b = to_float(high[j]), c = cos[j], s = sin[j] * sign;
    from_float(a * c - b * s, low + j);
    from_float(b * c + a * s, high + j);
  }
}

template <class T>
void turn(const lethe_rotary_args &a) {
  const int64_t half = a.rotary_dim / 2;
  const float sign = a.inverse != 0 ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < a.T; ++t) {
    T *x = static_cast<T *>(a.x) + t * a.stride;
    const float *cos = a.cos + a.positions[t] * half;
    const float *sin = a.sin + a.positions[t] * half;
    for (int64_t h = 0; h < a.heads; ++h) {
      T *head = x + h * a.head_dim;
      turn_head(head, head + half, cos, sin, sign, half);
    }
  }
}

}  // namespace

int rotary(Device *device, const lethe_rotary_args *args) {
  return run(device, __func__, [&] {
    for (int64_t t = 0; t < args->T; ++t) {
      const int32_t position = args->positions[t];
      if (position < 0 || position >= args->P) {
        return LETHE_CPU_FAIL(device, LETHE_OUT_OF_BOUNDS,
                              "token " + std::to_string(t) + " has position " + std::to_string(position) +
                                  ", the cosine table has " + std::to_string(args->P) + " rows");
      }
    }
    args->dtype == LETHE_BF16 ? turn<bf16>(*args) : turn<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
