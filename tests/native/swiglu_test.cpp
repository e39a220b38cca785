// SwiGLU against its twin.
#include <complex>

#include "kernel_test.h"

using namespace kernel_test;
namespace tolerance = lethe::tolerance;

namespace {

template <class N>
N swiglu(N g, N u) {
  using std::exp;
  return g / (1.0 + exp(-g)) * u;
}

struct Gradient {
  double gate, up, gate_size;  // gate_size: the magnitudes summed in gate
};
Gradient swiglu_gradient(double g, double u, double dout) {
  const double s = g >= 0 ? 1 / (1 + std::exp(-g)) : std::exp(g) / (1 + std::exp(g));
  const double complement = g >= 0 ? std::exp(-g) / (1 + std::exp(-g)) : 1 / (1 + std::exp(g));
  return {dout * u * s * (1 + g * complement), dout * g * s, std::fabs(dout * u) * s * (1 + std::fabs(g) * complement)};
}

void twin_is_its_complex_step() {
  Random random(1);
  for (int i = 0; i < 1000; ++i) {
    const double g = random.next(40), u = random.next(3), step = 1e-100;
    const Gradient gradient = swiglu_gradient(g, u, 1.0);
    const double gate = swiglu<std::complex<double>>({g, step}, u).imag() / step;
    const double up = swiglu<std::complex<double>>(g, {u, step}).imag() / step;
    expect(std::fabs(gate - gradient.gate) <= tolerance::swiglu::kComplexStep * gradient.gate_size, "twin's dgate");
    expect(std::fabs(up - gradient.up) <= tolerance::swiglu::kComplexStep * std::fabs(up), "twin's dup");
  }
}

void one_shape(lethe_engine *engine, const std::string &where, int32_t dtype, int64_t T, int64_t f, float spread) {
  Random random(static_cast<uint64_t>(T * 1000 + f));
  std::vector<float> x = random.many(T * 2 * f, spread, dtype);
  if (!x.empty()) x[0] = 0.0f;
  const std::vector<float> d = random.many(T * f, 2.0f, dtype);
  const Buffer gate_up(engine, dtype, x), dout(engine, dtype, d);
  const Buffer out(engine, dtype, std::vector<float>(d.size(), 7.0f)), dx(engine, dtype, std::vector<float>(x.size()));
  expect(lethe_swiglu_forward(engine, dtype, T, f, gate_up.ref(), out.ref()) == LETHE_OK, where + " forward");
  expect(lethe_swiglu_backward(engine, dtype, T, f, gate_up.ref(), dout.ref(), dx.ref()) == LETHE_OK,
         where + " backward");
  const std::vector<float> y = out.read(), gradient = dx.read();
  const double unit = storage_unit(dtype) + tolerance::swiglu::kRelative;
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t i = 0; i < f; ++i) {
      const size_t at = static_cast<size_t>(t * f + i);
      const size_t gate = static_cast<size_t>(2 * t * f + i), up = gate + static_cast<size_t>(f);
      const double want = swiglu<double>(x[gate], x[up]);
      const Gradient g = swiglu_gradient(x[gate], x[up], d[at]);
      expect(std::fabs(y[at] - want) <= unit * std::fabs(want) + tolerance::swiglu::kTiny, where + " out");
      expect(std::fabs(gradient[gate] - g.gate) <= unit * g.gate_size + tolerance::swiglu::kTiny, where + " dgate");
      expect(std::fabs(gradient[up] - g.up) <= unit * std::fabs(g.up) + tolerance::swiglu::kTiny, where + " dup");
    }
  }
  expect(lethe_swiglu_backward(engine, dtype, T, f, gate_up.ref(), dout.ref(), gate_up.ref()) == LETHE_OK,
         where + " in place");
  expect(same_bits(gate_up.read(), gradient), where + " in place equals apart");
}

}  // namespace

int main(int argc, char **argv) {
  twin_is_its_complex_step();
  on_each_backend(argc > 1 ? argv[1] : ".", 2, [](lethe_engine *engine, const std::string &backend) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      const std::string where = backend + (dtype == LETHE_BF16 ? " bf16" : " fp32");
      one_shape(engine, where + " 1x1", dtype, 1, 1, 3.0f);
      one_shape(engine, where + " 5x48", dtype, 5, 48, 6.0f);
      one_shape(engine, where + " 7x53", dtype, 7, 53, 6.0f);
      one_shape(engine, where + " saturated", dtype, 3, 40, 300.0f);
      one_shape(engine, where + " huge", dtype, 2, 33, 1e15f);
      one_shape(engine, where + " empty", dtype, 0, 16, 1.0f);
    }
  });
  return finish("swiglu_test");
}
