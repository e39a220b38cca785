// Activations, alone and gated, forward and backward (native/cpu/activation.cpp has the formulas). Each gives its value
// and its slope as a product of two factors.
#include "device.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 256;

// d out / d x = left * right.
struct Slope {
  float value, left, right;
};

struct Sigmoid {
  float s, complement;
};
// 1 - s is not taken as a difference where s is near 1.
__device__ inline Sigmoid sigmoid(float x) {
  const float e = expf(-x), s = 1.0f / (e + 1.0f);
  return {s, x > 0.0f ? e * s : 1.0f - s};
}

// Beyond 20 sigmoid and distribution are 0 or 1, and powers could overflow. A NaN stays.
__device__ inline float bounded(float x) { return x < -20.0f ? -20.0f : x > 20.0f ? 20.0f : x; }

struct Silu {
  __device__ static float value(float x) { return x * sigmoid(x).s; }
  __device__ static Slope slope(float x) {
    const Sigmoid g = sigmoid(x);
    return {x * g.s, g.s, __fmaf_rn(x, g.complement, 1.0f)};
  }
};

struct GeluTanh {
  static constexpr float kTwice = 1.5957691216057308f;  // 2 sqrt(2/pi)
  static constexpr float kCubic = 0.044715f;

  __device__ static float argument(float c) { return kTwice * __fmaf_rn(kCubic * c * c, c, c); }
  __device__ static float value(float x) { return x * sigmoid(argument(bounded(x))).s; }
  __device__ static Slope slope(float x) {
    const float c = bounded(x);
    const Sigmoid g = sigmoid(argument(c));
    const float inner = kTwice * __fmaf_rn(3 * kCubic * c, c, 1.0f);
    return {x * g.s, g.s, __fmaf_rn(c * g.complement, inner, 1.0f)};
  }
};

struct GeluErf {
  // Phi(x) = erfc(z) / 2, z = -x / sqrt(2): no cancellation in the left tail. There erfc turns a relative error of z
  // into one 2 z^2 times as large, so what z's rounding left off goes into it by its slope, which is about
  // -2 z erfc(z).
  __device__ static float normal_cdf(float c) {
    constexpr float kHigh = 0.70710678f, kLow = 1.21016175e-8f;  // 1 / sqrt(2) = kHigh + kLow
    const float z = -kHigh * c;
    const float rest = -__fmaf_rn(kLow, c, __fmaf_rn(kHigh, c, z));
    const float twice = erfcf(z);
    return 0.5f * (c < -1.0f ? __fmaf_rn(-2.0f * z * rest, twice, twice) : twice);
  }
  __device__ static float value(float x) { return x * normal_cdf(bounded(x)); }
  __device__ static Slope slope(float x) {
    constexpr float kDensity = 0.3989422804014327f;  // 1 / sqrt(2 pi)
    const float c = bounded(x), phi = normal_cdf(c);
    return {x * phi, __fmaf_rn(c, expf(-0.5f * c * c) * kDensity, phi), 1.0f};
  }
};

struct Relu {
  // A NaN compares false and stays.
  __device__ static float value(float x) { return x < 0.0f ? 0.0f : x; }
  __device__ static Slope slope(float x) { return {value(x), x > 0.0f ? 1.0f : x == x ? 0.0f : x, 1.0f}; }
};

// A thread's piece of rows of f numbers.
template <class T>
struct Piece {
  int64_t row, column;
  int n;

  __device__ Piece(int64_t rows, int64_t f) {
    const int64_t pieces = (f + kVector<T> - 1) / kVector<T>;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    row = quotient(at, pieces);
    column = (at - row * pieces) * kVector<T>;
    n = row < rows ? in_piece<T>(f - column) : 0;
  }
};

template <class T>
Shape shape_of(const char *name, int64_t rows, int64_t f, int64_t operands) {
  return {name,
          {blocks_of(rows * ceil_div(f, kVector<T>), kThreads)},
          kThreads,
          0,
          rows * f * operands * int64_t{sizeof(T)}};
}

template <class Activation, class T, bool kWhole>
__global__ void __launch_bounds__(kThreads) gated_forward_kernel(lethe_gated_args a) {
  const Piece<T> p(a.T, a.f);
  const T *gate = static_cast<const T *>(a.gate_up) + p.row * 2 * a.f + p.column;
  const Vector<T> g = load_vector<kWhole>(gate, p.n), u = load_vector<kWhole>(gate + a.f, p.n);
  float out[kVector<T>];
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) out[k] = Activation::value(g.at(k)) * u.at(k);
  store_vector<kWhole>(packed<T>(out), static_cast<T *>(a.out) + p.row * a.f + p.column, p.n);
}

// dgate_up may be gate_up: a thread writes what it alone has read.
template <class Activation, class T, bool kWhole>
__global__ void __launch_bounds__(kThreads) gated_backward_kernel(lethe_gated_args a) {
  const Piece<T> p(a.T, a.f);
  const T *gate = static_cast<const T *>(a.gate_up) + p.row * 2 * a.f + p.column;
  T *dgate = static_cast<T *>(a.dgate_up) + p.row * 2 * a.f + p.column;
  const Vector<T> g = load_vector<kWhole>(gate, p.n), u = load_vector<kWhole>(gate + a.f, p.n);
  const Vector<T> d = load_vector<kWhole>(static_cast<const T *>(a.dout) + p.row * a.f + p.column, p.n);
  float to_gate[kVector<T>], to_up[kVector<T>];
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) {
    const Slope s = Activation::slope(g.at(k));
    to_gate[k] = d.at(k) * u.at(k) * s.left * s.right;
    to_up[k] = d.at(k) * s.value;
  }
  store_vector<kWhole>(packed<T>(to_gate), dgate, p.n);
  store_vector<kWhole>(packed<T>(to_up), dgate + a.f, p.n);
}

template <class Activation, class T, bool kWhole>
__global__ void __launch_bounds__(kThreads) activation_forward_kernel(lethe_activation_args a) {
  const Piece<T> p(1, a.T * a.f);
  const Vector<T> x = load_vector<kWhole>(static_cast<const T *>(a.x) + p.column, p.n);
  float out[kVector<T>];
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) out[k] = Activation::value(x.at(k));
  store_vector<kWhole>(packed<T>(out), static_cast<T *>(a.out) + p.column, p.n);
}

template <class Activation, class T, bool kWhole>
__global__ void __launch_bounds__(kThreads) activation_backward_kernel(lethe_activation_args a) {
  const Piece<T> p(1, a.T * a.f);
  const Vector<T> x = load_vector<kWhole>(static_cast<const T *>(a.x) + p.column, p.n);
  const Vector<T> d = load_vector<kWhole>(static_cast<const T *>(a.dout) + p.column, p.n);
  float out[kVector<T>];
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) {
    const Slope s = Activation::slope(x.at(k));
    out[k] = d.at(k) * s.left * s.right;
  }
  store_vector<kWhole>(packed<T>(out), static_cast<T *>(a.dx) + p.column, p.n);
}

template <class Activation, class T>
int forward(Device *device, const lethe_gated_args &a) {
  const Shape shape = shape_of<T>("gated_forward", a.T, a.f, 3);
  return with_bool(whole_rows<T>({a.gate_up, a.out}, {a.f}), [&](auto is) {
    return launch(device, shape, gated_forward_kernel<Activation, T, decltype(is)::value>, a);
  });
}
template <class Activation, class T>
int backward(Device *device, const lethe_gated_args &a) {
  const Shape shape = shape_of<T>("gated_backward", a.T, a.f, 5);
  return with_bool(whole_rows<T>({a.gate_up, a.dout, a.dgate_up}, {a.f}), [&](auto is) {
    return launch(device, shape, gated_backward_kernel<Activation, T, decltype(is)::value>, a);
  });
}
template <class Activation, class T>
int forward(Device *device, const lethe_activation_args &a) {
  const Shape shape = shape_of<T>("activation_forward", 1, a.T * a.f, 2);
  return with_bool(whole_rows<T>({a.x, a.out}, {a.T * a.f}), [&](auto is) {
    return launch(device, shape, activation_forward_kernel<Activation, T, decltype(is)::value>, a);
  });
}
template <class Activation, class T>
int backward(Device *device, const lethe_activation_args &a) {
  const Shape shape = shape_of<T>("activation_backward", 1, a.T * a.f, 3);
  return with_bool(whole_rows<T>({a.x, a.dout, a.dx}, {a.T * a.f}), [&](auto is) {
    return launch(device, shape, activation_backward_kernel<Activation, T, decltype(is)::value>, a);
  });
}

// Calls body(activation, T{}).
template <class Body>
int by_kind(int32_t activation, int32_t dtype, Body &&body) {
  const auto by_storage = [&](auto kind) { return dtype == LETHE_BF16 ? body(kind, bf16{}) : body(kind, float{}); };
  switch (activation) {
    case LETHE_ACTIVATION_SILU:
      return by_storage(Silu{});
    case LETHE_ACTIVATION_GELU_TANH:
      return by_storage(GeluTanh{});
    case LETHE_ACTIVATION_GELU_ERF:
      return by_storage(GeluErf{});
    default:
      return by_storage(Relu{});
  }
}

template <class Args>
int any_forward(Device *device, const char *op, const Args &a) {
  return run(device, op, [&] {
    return by_kind(a.activation, a.dtype,
                   [&](auto kind, auto storage) { return forward<decltype(kind), decltype(storage)>(device, a); });
  });
}
template <class Args>
int any_backward(Device *device, const char *op, const Args &a) {
  return run(device, op, [&] {
    return by_kind(a.activation, a.dtype,
                   [&](auto kind, auto storage) { return backward<decltype(kind), decltype(storage)>(device, a); });
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

}  // namespace lethe::cuda
