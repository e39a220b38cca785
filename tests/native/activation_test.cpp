// Activations, gated and alone, against their twins.
#include <algorithm>
#include <complex>

#include "kernel_test.h"

using namespace kernel_test;
namespace tolerance = lethe::tolerance;

namespace {

#if defined(LETHE_SMALL)
constexpr bool kSmall = true;
#else
constexpr bool kSmall = false;
#endif

constexpr int32_t kAll[] = {LETHE_ACTIVATION_SILU, LETHE_ACTIVATION_GELU_TANH, LETHE_ACTIVATION_GELU_ERF,
                            LETHE_ACTIVATION_RELU};
constexpr const char *kNames[] = {"silu", "gelu-tanh", "gelu-erf", "relu"};
const double kRootTwoOverPi = std::sqrt(2 / std::acos(-1.0));

// sigmoid, exact on both sides.
double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

// Twice the argument of gelu's tanh, and its derivative.
template <class N>
N twice_u(N x) {
  return 2 * kRootTwoOverPi * (x + 0.044715 * x * x * x);
}
double twice_u_slope(double x) { return 2 * kRootTwoOverPi * (1 + 3 * 0.044715 * x * x); }

// The magnitudes that the kernel sums or multiplies, of which it loses a few units each.
struct Twin {
  double value, slope;
  double value_size, slope_size;
};

Twin twin(int32_t activation, double x) {
  switch (activation) {
    case LETHE_ACTIVATION_SILU: {
      const double s = sigmoid(x), c = sigmoid(-x);
      return {x * s, s * (1 + x * c), std::fabs(x * s), s * (1 + std::fabs(x) * c)};
    }
    case LETHE_ACTIVATION_GELU_TANH: {
      // Beyond 20 the sigmoid is 0 or 1 in fp32 and in fp64's relative sense of what is left of it.
      const double bounded = std::clamp(x, -20.0, 20.0), a = twice_u(bounded), s = sigmoid(a), c = sigmoid(-a);
      const double inner = bounded * c * twice_u_slope(bounded);
      // exp's argument carries its own roundings.
      const double argument = 1 + c * std::fabs(a);
      return {x * s, s * (1 + inner), std::fabs(x * s) * argument,
              s * (1 + std::fabs(inner)) * argument + s * std::fabs(inner) * (1 + std::fabs(a))};
    }
    case LETHE_ACTIVATION_GELU_ERF: {
      const double phi = 0.5 * std::erfc(-x / std::sqrt(2.0));
      const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::acos(-1.0));
      return {x * phi, phi + x * density, std::fabs(x * phi), phi + std::fabs(x) * density * (1 + 0.5 * x * x)};
    }
    default:
      return {std::max(x, 0.0), x > 0 ? 1.0 : 0.0, std::max(x, 0.0), 1};
  }
}

// The value in complex numbers, where it has a formula in them.
std::complex<double> complex_value(int32_t activation, std::complex<double> x) {
  switch (activation) {
    case LETHE_ACTIVATION_SILU:
      return x / (1.0 + std::exp(-x));
    case LETHE_ACTIVATION_GELU_TANH:
      return x / (1.0 + std::exp(-twice_u(x)));
    default:
      return x.real() > 0 ? x : 0.0;
  }
}

void twin_is_its_derivative() {
  Random random(1);
  for (int i = 0; i < 1000; ++i) {
    for (const int32_t activation : kAll) {
      const double x = random.next(activation == LETHE_ACTIVATION_SILU ? 40 : 6);
      const Twin t = twin(activation, x);
      double slope = 0, bound = tolerance::activation::kComplexStep * std::max(t.slope_size, 1e-3);
      if (activation == LETHE_ACTIVATION_GELU_ERF) {
        // erf of a complex number is not to be had: a central difference of fourth order, off by h^4 / 30 of the fifth
        // derivative (below 4), and by the value's rounding over h.
        const double h = 1e-3;
        const auto f = [](double at) { return twin(LETHE_ACTIVATION_GELU_ERF, at).value; };
        slope = (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h);
        bound = 4 * h * h * h * h / 30 + 1e-15 * (1 + std::fabs(x)) / h;
      } else {
        const double step = 1e-100;
        slope = complex_value(activation, {x, step}).imag() / step;
      }
      expect(std::fabs(slope - t.slope) <= bound, std::string(kNames[activation]) + ": the twin's slope");
    }
  }
}

double unit_of(int32_t dtype) { return storage_unit(dtype) + tolerance::activation::kRelative; }

bool close(float got, double want, double size, double unit) {
  return std::fabs(got - want) <= unit * size + tolerance::activation::kTiny;
}

// What stands in front of `skew` is kept, the rest is not yet written.
std::vector<float> unwritten(std::vector<float> x, int64_t skew) {
  std::fill(x.begin() + skew, x.end(), 7.0f);
  return x;
}

void gated(lethe_engine *engine, const std::string &where, int32_t dtype, int32_t activation, int64_t T, int64_t f,
           float spread, int64_t skew) {
  Random random(static_cast<uint64_t>(T * 1000 + f));
  std::vector<float> x = random.many(skew + T * 2 * f, spread, dtype);
  if (!x.empty()) x[0] = 0.0f;
  const std::vector<float> d = random.many(skew + T * f, 2.0f, dtype);
  const Buffer gate_up(engine, dtype, x), dout(engine, dtype, d);
  const Buffer out(engine, dtype, unwritten(d, skew)), dx(engine, dtype, unwritten(x, skew));
  expect(lethe_gated_forward(engine, dtype, activation, T, f, gate_up.ref(skew), out.ref(skew)) == LETHE_OK,
         where + " forward");
  expect(lethe_gated_backward(engine, dtype, activation, T, f, gate_up.ref(skew), dout.ref(skew), dx.ref(skew)) ==
             LETHE_OK,
         where + " backward");
  const std::vector<float> y = out.read(), gradient = dx.read();
  const double unit = unit_of(dtype);
  const std::string where_out = where + " out", where_gate = where + " dgate", where_up = where + " dup";
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t i = 0; i < f; ++i) {
      const size_t at = static_cast<size_t>(skew + t * f + i);
      const size_t gate = static_cast<size_t>(skew + 2 * t * f + i), up = gate + static_cast<size_t>(f);
      const Twin want = twin(activation, x[gate]);
      const double u = x[up], g = d[at];
      expect(close(y[at], want.value * u, want.value_size * std::fabs(u), unit), where_out);
      expect(close(gradient[gate], g * u * want.slope, std::fabs(g * u) * want.slope_size, unit), where_gate);
      expect(close(gradient[up], g * want.value, std::fabs(g) * want.value_size, unit), where_up);
    }
  }
  expect(lethe_gated_backward(engine, dtype, activation, T, f, gate_up.ref(skew), dout.ref(skew), gate_up.ref(skew)) ==
             LETHE_OK,
         where + " in place");
  expect(same_bits(gate_up.read(), gradient), where + " in place equals apart");
}

void alone(lethe_engine *engine, const std::string &where, int32_t dtype, int32_t activation, int64_t T, int64_t f,
           float spread, int64_t skew) {
  Random random(static_cast<uint64_t>(T * 1000 + f + 1));
  std::vector<float> values = random.many(skew + T * f, spread, dtype);
  if (!values.empty()) values[0] = 0.0f;
  const std::vector<float> d = random.many(skew + T * f, 2.0f, dtype);
  const Buffer x(engine, dtype, values), dout(engine, dtype, d);
  const Buffer out(engine, dtype, unwritten(values, skew)), dx(engine, dtype, unwritten(d, skew));
  expect(lethe_activation_forward(engine, dtype, activation, T, f, x.ref(skew), out.ref(skew)) == LETHE_OK,
         where + " forward");
  expect(
      lethe_activation_backward(engine, dtype, activation, T, f, x.ref(skew), dout.ref(skew), dx.ref(skew)) == LETHE_OK,
      where + " backward");
  const std::vector<float> y = out.read(), gradient = dx.read();
  const double unit = unit_of(dtype);
  const std::string where_out = where + " out", where_dx = where + " dx";
  for (auto i = static_cast<size_t>(skew); i < values.size(); ++i) {
    const Twin want = twin(activation, values[i]);
    expect(close(y[i], want.value, want.value_size, unit), where_out);
    expect(close(gradient[i], d[i] * want.slope, std::fabs(d[i]) * want.slope_size, unit), where_dx);
  }
  expect(lethe_activation_backward(engine, dtype, activation, T, f, x.ref(skew), dout.ref(skew), dout.ref(skew)) ==
             LETHE_OK,
         where + " into dout");
  expect(same_bits(dout.read(), gradient), where + " into dout equals apart");
  expect(lethe_activation_forward(engine, dtype, activation, T, f, x.ref(skew), x.ref(skew)) == LETHE_OK,
         where + " in place");
  expect(same_bits(x.read(), y), where + " in place equals apart");
}

void a_nan_stays(lethe_engine *engine, const std::string &where) {
  for (const int32_t activation : kAll) {
    const Buffer x(engine, LETHE_F32, {1.0f, std::nanf("")}), one(engine, LETHE_F32, {1.0f, 1.0f});
    const Buffer y(engine, LETHE_F32, {0.0f, 0.0f});
    expect(lethe_activation_forward(engine, LETHE_F32, activation, 1, 2, x.ref(), y.ref()) == LETHE_OK, where);
    expect(std::isnan(y.read()[1]) && !std::isnan(y.read()[0]), where + kNames[activation] + " of a NaN");
    expect(lethe_activation_backward(engine, LETHE_F32, activation, 1, 2, x.ref(), one.ref(), y.ref()) == LETHE_OK,
           where);
    expect(std::isnan(y.read()[1]) && !std::isnan(y.read()[0]), where + kNames[activation] + " slope at a NaN");
  }
}

void misuse(lethe_engine *engine, const std::string &where) {
  const Buffer x(engine, LETHE_F32, std::vector<float>(8)), y(engine, LETHE_F32, std::vector<float>(8));
  for (const int32_t activation : {-1, 4}) {
    expect(lethe_gated_forward(engine, LETHE_F32, activation, 1, 4, x.ref(), y.ref()) == LETHE_INVALID_ARGUMENT,
           where + " unknown activation");
    expect(std::strstr(lethe_error_trace(), "enum lethe_activation") != nullptr, where + " says so");
  }
  expect(lethe_activation_forward(engine, LETHE_F32, LETHE_ACTIVATION_RELU, 1, 4, x.ref(), x.ref(1)) == LETHE_OVERLAP,
         where + " shifted in place");
}

}  // namespace

int main(int argc, char **argv) {
  twin_is_its_derivative();
  on_each_backend(argc, argv, 2, [](lethe_engine *engine, const std::string &backend) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const int32_t activation : kAll) {
        const std::string where = backend + (dtype == LETHE_BF16 ? " bf16 " : " fp32 ") + kNames[activation];
        for (const auto body : {gated, alone}) {
          body(engine, where + " 1x1", dtype, activation, 1, 1, 3.0f, 0);
          body(engine, where + " 5x48", dtype, activation, 5, 48, 6.0f, 0);
          body(engine, where + " 7x53", dtype, activation, 7, 53, 6.0f, 0);
          body(engine, where + " saturated", dtype, activation, 3, 40, 300.0f, 0);
          body(engine, where + " huge", dtype, activation, 2, 33, 1e15f, 0);
          body(engine, where + " skewed", dtype, activation, 3, 40, 6.0f, 1);
          body(engine, where + " odd and skewed", dtype, activation, 3, 127, 6.0f, 3);
          body(engine, where + " many rows", dtype, activation, 700, 3, 6.0f, 0);
          body(engine, where + " wide", dtype, activation, 1, 4096 + 5, 6.0f, 0);
          body(engine, where + " several blocks", dtype, activation, 2, kSmall ? 2048 : 16384 + 8, 6.0f, 0);
          body(engine, where + " empty", dtype, activation, 0, 16, 1.0f, 0);
        }
      }
    }
    a_nan_stays(engine, backend + " ");
    misuse(engine, backend);
  });
  return finish("activation_test");
}
