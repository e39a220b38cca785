// vector_math.h against long double: a dense sweep of fp32, and the values where such functions break.
#include "../../native/cpu/vector_math.h"

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>

using lethe::cpu::f32x16;

namespace {

constexpr double kExpUlp = 1.0;
constexpr double kExpm1Ulp = 1.5;
constexpr double kLog1pUlp = 1.5;
constexpr double kTanhUlp = 3.0;
// Every kStride-th bit pattern: 4 million values for each function, coprime to powers of two so that mantissas vary.
constexpr uint32_t kStride = 1021;

int checks = 0;
int failures = 0;

void expect(bool condition, const char *what, float x, float got) {
  ++checks;
  if (condition) return;
  if (++failures < 20) std::fprintf(stderr, "%s: x = %.9g gives %.9g\n", what, x, got);
}

// The distance of `got` from `want` in units of the spacing of floats at `want`.
double ulps(float got, long double want) {
  int exponent = 0;
  std::frexp(want, &exponent);
  const int unit = exponent < -125 ? -149 : exponent - 24;
  return static_cast<double>(std::fabs(std::ldexp(static_cast<long double>(got) - want, -unit)));
}

template <class Vector, class Exact>
void sweep(const char *name, double bound, Vector &&vector, Exact &&exact) {
  double worst = 0;
  float worst_x = 0;
  bool special = true;
  for (uint64_t start = 0; start < (uint64_t{1} << 32); start += uint64_t{16} * kStride) {
    float x[16], y[16];
    for (uint32_t lane = 0; lane < 16; ++lane) {
      const auto bits = static_cast<uint32_t>(start + lane * kStride);
      std::memcpy(x + lane, &bits, sizeof bits);
    }
    f32x16 v;
    std::memcpy(&v, x, sizeof v);
    v = vector(v);
    std::memcpy(y, &v, sizeof v);
    for (int lane = 0; lane < 16; ++lane) {
      const long double want = exact(static_cast<long double>(x[lane]));
      const auto rounded = static_cast<float>(want);
      if (std::isnan(want)) {
        special = special && std::isnan(y[lane]);
      } else if (std::isinf(rounded)) {
        special = special && y[lane] == rounded;
      } else {
        const double error = std::isfinite(y[lane]) ? ulps(y[lane], want) : 1e9;
        if (error > worst) {
          worst = error;
          worst_x = x[lane];
        }
      }
    }
  }
  std::printf("%s: largest error %.3f ulp at %.9g, bound %.1f\n", name, worst, worst_x, bound);
  expect(worst <= bound, name, worst_x, static_cast<float>(worst));
  expect(special, "NaN and overflow as libm has them", 0, 0);
}

template <class Vector>
float one(Vector &&vector, float x) {
  f32x16 v = lethe::cpu::splat(x);
  v = vector(v);
  const float first = v[0];
  for (int lane = 1; lane < 16; ++lane) {
    const float other = v[lane];
    expect(std::memcmp(&first, &other, 4) == 0, "lanes agree", x, other);
  }
  return first;
}

}  // namespace

#if defined(__AVX512F__)
constexpr bool kWide = true;
#else
constexpr bool kWide = false;
#endif

int main() {
  if (kWide && !__builtin_cpu_supports("avx512dq")) {
    std::printf("vector_math_test: skipped, this processor has no AVX-512\n");
    return 77;
  }
  const auto exp = [](f32x16 x) { return lethe::cpu::exp(x); };
  const auto expm1 = [](f32x16 x) { return lethe::cpu::expm1(x); };
  const auto log1p = [](f32x16 x) { return lethe::cpu::log1p(x); };
  const auto tanh = [](f32x16 x) { return lethe::cpu::tanh(x); };
  const float inf = std::numeric_limits<float>::infinity();
  sweep("exp", kExpUlp, exp, [](long double x) { return std::exp(x); });
  sweep("expm1", kExpm1Ulp, expm1, [](long double x) { return std::expm1(x); });
  sweep("log1p", kLog1pUlp, log1p, [](long double x) { return std::log1p(x); });
  sweep("tanh", kTanhUlp, tanh, [](long double x) { return std::tanh(x); });

  const struct {
    const char *name;
    float got, want;
  } exact[] = {
      {"exp(0)", one(exp, 0.0f), 1.0f},
      {"exp(-inf)", one(exp, -inf), 0.0f},
      {"exp(inf)", one(exp, inf), inf},
      {"exp(-1e30)", one(exp, -1e30f), 0.0f},
      {"exp(-103)", one(exp, -103.0f), std::exp(-103.0f)},
      {"exp(FLT_MAX)", one(exp, FLT_MAX), inf},
      {"expm1(0)", one(expm1, 0.0f), 0.0f},
      {"expm1(1e-30)", one(expm1, 1e-30f), 1e-30f},
      {"expm1(-inf)", one(expm1, -inf), -1.0f},
      {"expm1(inf)", one(expm1, inf), inf},
      {"log1p(0)", one(log1p, 0.0f), 0.0f},
      {"log1p(-1)", one(log1p, -1.0f), -inf},
      {"log1p(inf)", one(log1p, inf), inf},
      {"tanh(0)", one(tanh, 0.0f), 0.0f},
      {"tanh(1e-30)", one(tanh, 1e-30f), 1e-30f},
      {"tanh(-inf)", one(tanh, -inf), -1.0f},
      {"tanh(inf)", one(tanh, inf), 1.0f},
      {"log1p(1e-30)", one(log1p, 1e-30f), 1e-30f},
  };
  for (const auto &c : exact) expect(std::memcmp(&c.got, &c.want, sizeof c.got) == 0, c.name, c.want, c.got);
  expect(std::isnan(one(exp, std::nanf(""))), "exp(NaN)", 0, 0);
  expect(std::isnan(one(expm1, std::nanf(""))), "expm1(NaN)", 0, 0);
  expect(std::isnan(one(log1p, std::nanf(""))), "log1p(NaN)", 0, 0);
  expect(std::isnan(one(tanh, std::nanf(""))), "tanh(NaN)", 0, 0);
  expect(std::isnan(one(log1p, -2.0f)), "log1p(-2)", 0, 0);
  std::printf("vector_math_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
