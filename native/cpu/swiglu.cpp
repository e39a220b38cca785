// SwiGLU, forward and backward: out = g s u with s = sigmoid(g).
// dg = dout u s (1 + g (1 - s)), du = dout g s.
#include "device.h"
#include "number.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

struct Gate {
  f32x16 sigmoid, complement;
};

// 1 - s is not taken as a difference where s is near 1.
inline Gate gate_of(f32x16 g) {
  const f32x16 e = exp(-g);
  const f32x16 s = 1.0f / (e + 1.0f);
  return {s, vector_math::select<f32x16>(g > 0.0f, e * s, 1.0f - s)};
}

// Calls body(offset, n) for blocks of up to sixteen of a row's f elements.
template <class Body>
void for_blocks(int64_t f, Body &&body) {
  int64_t i = 0;
  for (; i + kLanes <= f; i += kLanes) body(i, kLanes);
  if (i < f) body(i, f - i);
}

template <class T>
f32x16 load_up_to(const T *p, int64_t n) {
  return n == kLanes ? load(p) : load_tail(p, n);
}
template <class T>
void store_up_to(T *p, f32x16 v, int64_t n) {
  n == kLanes ? store(p, v) : store_tail(p, v, n);
}

template <class T>
void forward(const lethe_swiglu_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) {
    const T *gate = static_cast<const T *>(a.gate_up) + row * 2 * a.f;
    T *out = static_cast<T *>(a.out) + row * a.f;
    for_blocks(a.f, [&](int64_t i, int64_t n) {
      const f32x16 g = load_up_to(gate + i, n);
      store_up_to(out + i, g / (exp(-g) + 1.0f) * load_up_to(gate + a.f + i, n), n);
    });
  }
}

template <class T>
void backward(const lethe_swiglu_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) {
    const T *gate = static_cast<const T *>(a.gate_up) + row * 2 * a.f;
    const T *dout = static_cast<const T *>(a.dout) + row * a.f;
    T *dgate = static_cast<T *>(a.dgate_up) + row * 2 * a.f;
    for_blocks(a.f, [&](int64_t i, int64_t n) {
      const f32x16 g = load_up_to(gate + i, n);
      const f32x16 u = load_up_to(gate + a.f + i, n);
      const f32x16 d = load_up_to(dout + i, n);
      const Gate s = gate_of(g);
      store_up_to(dgate + i, d * u * s.sigmoid * (g * s.complement + 1.0f), n);
      store_up_to(dgate + a.f + i, d * (g * s.sigmoid), n);
    });
  }
}

}  // namespace

int swiglu_forward(Device *device, const lethe_swiglu_args *args) {
  return run(device, __func__, [&] {
    args->dtype == LETHE_BF16 ? forward<bf16>(*args) : forward<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

int swiglu_backward(Device *device, const lethe_swiglu_args *args) {
  return run(device, __func__, [&] {
    args->dtype == LETHE_BF16 ? backward<bf16>(*args) : backward<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
