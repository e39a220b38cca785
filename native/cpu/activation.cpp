// Activations, alone and gated, forward and backward. Each gives its value and its slope as a product of two factors:
//   silu        x s,          s = sigmoid(x)                    slope s (1 + x (1 - s))
//   gelu, tanh  x s,          s = sigmoid(2 u(x))               slope s (1 + x (1 - s) 2 u'(x))
//   gelu, erf   x Phi(x)                                        slope Phi(x) + x phi(x)
//   relu        max(x, 0)                                       slope 1 above 0, else 0
// with u(x) = sqrt(2/pi) (x + 0.044715 x^3), for which (1 + tanh u) / 2 = sigmoid(2u).
#include <cmath>

#include "device.h"
#include "number.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

using vector_math::select;

// d out / d x = left * right.
struct Slope {
  f32x16 value, left, right;
};

struct Sigmoid {
  f32x16 s, complement;
};
// 1 - s is not taken as a difference where s is near 1.
inline Sigmoid sigmoid(f32x16 x) {
  const f32x16 e = exp(-x);
  const f32x16 s = 1.0f / (e + 1.0f);
  return {s, select<f32x16>(x > 0.0f, e * s, 1.0f - s)};
}

struct Silu {
  static f32x16 value(f32x16 x) { return x / (exp(-x) + 1.0f); }
  static Slope slope(f32x16 x) {
    const Sigmoid g = sigmoid(x);
    return {x * g.s, g.s, x * g.complement + 1.0f};
  }
};

struct GeluTanh {
  static constexpr float kTwice = 1.5957691216057308f;  // 2 sqrt(2/pi)
  static constexpr float kCubic = 0.044715f;
  // Beyond, the sigmoid is 0 or 1, and a cube could overflow.
  static f32x16 bounded(f32x16 x) { return vector_math::clamp(x, -20.0f, 20.0f); }
  static f32x16 value(f32x16 x) {
    const f32x16 c = bounded(x);
    return x / (exp(-kTwice * (c + kCubic * c * c * c)) + 1.0f);
  }
  static Slope slope(f32x16 x) {
    const f32x16 c = bounded(x);
    const Sigmoid g = sigmoid(kTwice * (c + kCubic * c * c * c));
    const f32x16 inner = kTwice * (3 * kCubic * c * c + 1.0f);
    return {x * g.s, g.s, c * g.complement * inner + 1.0f};
  }
};

struct GeluErf {
  // Phi(x) = erfc(-x / sqrt(2)) / 2: no cancellation in the left tail.
  static f32x16 normal_cdf(f32x16 x) {
    f32x16 phi;
    for (int i = 0; i < kLanes; ++i) phi[i] = static_cast<float>(0.5 * std::erfc(-0.7071067811865476 * x[i]));
    return phi;
  }
  static f32x16 value(f32x16 x) { return x * normal_cdf(x); }
  static Slope slope(f32x16 x) {
    constexpr float kDensity = 0.3989422804014327f;  // 1 / sqrt(2 pi)
    const f32x16 phi = normal_cdf(x);
    const f32x16 c = vector_math::clamp(x, -20.0f, 20.0f);
    return {x * phi, c * (exp(-0.5f * c * c) * kDensity) + phi, splat(1.0f)};
  }
};

struct Relu {
  // A NaN compares false and stays.
  static f32x16 value(f32x16 x) { return select<f32x16>(x < 0.0f, f32x16{}, x); }
  static Slope slope(f32x16 x) {
    return {value(x), select<f32x16>(x > 0.0f, splat(1.0f), select<f32x16>(x == x, f32x16{}, x)), splat(1.0f)};
  }
};

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

template <class Activation, class T>
void forward(const lethe_gated_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) {
    const T *gate = static_cast<const T *>(a.gate_up) + row * 2 * a.f;
    T *out = static_cast<T *>(a.out) + row * a.f;
    for_blocks(a.f, [&](int64_t i, int64_t n) {
      store_up_to(out + i, Activation::value(load_up_to(gate + i, n)) * load_up_to(gate + a.f + i, n), n);
    });
  }
}

template <class Activation, class T>
void backward(const lethe_gated_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) {
    const T *gate = static_cast<const T *>(a.gate_up) + row * 2 * a.f;
    const T *dout = static_cast<const T *>(a.dout) + row * a.f;
    T *dgate = static_cast<T *>(a.dgate_up) + row * 2 * a.f;
    for_blocks(a.f, [&](int64_t i, int64_t n) {
      const f32x16 u = load_up_to(gate + a.f + i, n);
      const f32x16 d = load_up_to(dout + i, n);
      const Slope s = Activation::slope(load_up_to(gate + i, n));
      store_up_to(dgate + i, d * u * s.left * s.right, n);
      store_up_to(dgate + a.f + i, d * s.value, n);
    });
  }
}

template <class Activation, class T>
void forward(const lethe_activation_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) {
    const T *x = static_cast<const T *>(a.x) + row * a.f;
    T *out = static_cast<T *>(a.out) + row * a.f;
    for_blocks(a.f, [&](int64_t i, int64_t n) { store_up_to(out + i, Activation::value(load_up_to(x + i, n)), n); });
  }
}

template <class Activation, class T>
void backward(const lethe_activation_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) {
    const T *x = static_cast<const T *>(a.x) + row * a.f;
    const T *dout = static_cast<const T *>(a.dout) + row * a.f;
    T *dx = static_cast<T *>(a.dx) + row * a.f;
    for_blocks(a.f, [&](int64_t i, int64_t n) {
      const f32x16 d = load_up_to(dout + i, n);
      const Slope s = Activation::slope(load_up_to(x + i, n));
      store_up_to(dx + i, d * s.left * s.right, n);
    });
  }
}

template <class Activation, class Args>
void run_forward(const Args &a) {
  a.dtype == LETHE_BF16 ? forward<Activation, bf16>(a) : forward<Activation, float>(a);
}
template <class Activation, class Args>
void run_backward(const Args &a) {
  a.dtype == LETHE_BF16 ? backward<Activation, bf16>(a) : backward<Activation, float>(a);
}

template <class Args>
int any_forward(Device *device, const char *op, const Args &a) {
  return run(device, op, [&] {
    switch (a.activation) {
      case LETHE_ACTIVATION_SILU:
        run_forward<Silu>(a);
        break;
      case LETHE_ACTIVATION_GELU_TANH:
        run_forward<GeluTanh>(a);
        break;
      case LETHE_ACTIVATION_GELU_ERF:
        run_forward<GeluErf>(a);
        break;
      default:
        run_forward<Relu>(a);
    }
    return static_cast<int>(LETHE_OK);
  });
}

template <class Args>
int any_backward(Device *device, const char *op, const Args &a) {
  return run(device, op, [&] {
    switch (a.activation) {
      case LETHE_ACTIVATION_SILU:
        run_backward<Silu>(a);
        break;
      case LETHE_ACTIVATION_GELU_TANH:
        run_backward<GeluTanh>(a);
        break;
      case LETHE_ACTIVATION_GELU_ERF:
        run_backward<GeluErf>(a);
        break;
      default:
        run_backward<Relu>(a);
    }
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace

int gated_forward(Device *device, const lethe_gated_args *args) { return any_forward(device, __func__, *args); }
int gated_backward(Device *device, const lethe_gated_args *args) { return any_backward(device, __func__, *args); }
int activation_forward(Device *device, const lethe_activation_args *args) {
  return any_forward(device, __func__, *args);
}
int activation_backward(Device *device, const lethe_activation_args *args) {
  return any_backward(device, __func__, *args);
}

}  // namespace lethe::cpu
