// The global gradient norm, and AdamW.
#include <algorithm>
#include <cmath>
#include <vector>

#include "device.h"
#include "number.h"

namespace lethe::cpu {
namespace {

// Elements whose squares are summed by one thread in one go: the partial sums, and so the norm, are the same for every
// thread count.
constexpr int64_t kChunk = 1 << 14;
typedef double f64x8 __attribute__((vector_size(64)));

double square_sum(const float *g, int64_t n) {
  f64x8 low = {};
  f64x8 high = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < 8; ++lane) {
      const double a = g[i + lane];
      const double b = g[i + 8 + lane];
      low[lane] += a * a;
      high[lane] += b * b;
    }
  }
  double tail = 0.0;
  for (; i < n; ++i) tail += static_cast<double>(g[i]) * g[i];
  const f64x8 s = low + high;
  return (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))) + tail;
}

struct Step {
  float clip, lr, beta1, beta2, eps;
  float step_size;        // lr / (1 - beta1^t)
  float correction_root;  // 1 / sqrt(1 - beta2^t)
};

// V is float or f32x16.
template <class V>
V moved(const Step &s, float decay, V p, V g, V *m, V *v, V root(V)) {
  const V clipped = g * s.clip;
  *m = *m * s.beta1 + clipped * (1.0f - s.beta1);
  *v = *v * s.beta2 + clipped * clipped * (1.0f - s.beta2);
  const V denominator = root(*v) * s.correction_root + s.eps;
  return p - *m / denominator * s.step_size - p * (s.lr * decay);
}

float root1(float x) { return std::sqrt(x); }
f32x16 root16(f32x16 x) {
  f32x16 r;
  for (int i = 0; i < kLanes; ++i) r[i] = std::sqrt(x[i]);
  return r;
}

template <class T>
void update(const lethe_adamw_args &a, const Step &s, float decay, int64_t begin, int64_t end) {
  auto *copy = static_cast<T *>(a.copy);
  const int64_t blocks = (end - begin) / kLanes;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t i = begin + b * kLanes;
    f32x16 m = load(a.m + i);
    f32x16 v = load(a.v + i);
    const f32x16 p = moved<f32x16>(s, decay, load(a.p + i), load(a.g + i), &m, &v, root16);
    store(a.m + i, m);
    store(a.v + i, v);
    store(a.p + i, p);
    if (copy != nullptr) store(copy + i, p);
  }
  for (int64_t i = begin + blocks * kLanes; i < end; ++i) {
    a.p[i] = moved<float>(s, decay, a.p[i], a.g[i], a.m + i, a.v + i, root1);
    if (copy != nullptr) from_float(a.p[i], copy + i);
  }
}

}  // namespace

int gradient_norm(Device *device, int64_t n, const float *g, float max_norm, float *state) {
  return run(device, __func__, [&] {
    const int64_t chunks = (n + kChunk - 1) / kChunk;
    std::vector<double> partial(static_cast<size_t>(chunks));
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < chunks; ++c) {
      partial[static_cast<size_t>(c)] = square_sum(g + c * kChunk, std::min(kChunk, n - c * kChunk));
    }
    double total = 0.0;
    for (const double sum : partial) total += sum;
    // The square of a finite fp32 number is finite in fp64, and so is any sum of them that fits in memory.
    const bool finite = std::isfinite(total);
    const double norm = std::sqrt(total);
    state[0] = static_cast<float>(norm);
    state[1] = finite && max_norm > 0.0f ? static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6))) : 1.0f;
    state[2] = finite ? 1.0f : 0.0f;
    return static_cast<int>(LETHE_OK);
  });
}

int adamw(Device *device, const lethe_adamw_args *args) {
  return run(device, __func__, [&] {
    const lethe_adamw_args &a = *args;
    if (a.state[2] != 1.0f) return static_cast<int>(LETHE_OK);
    a.state[3] += 1.0f;
    const double t = a.state[3];
    Step s;
    s.clip = a.state[1];
    s.lr = a.lr;
    s.beta1 = a.beta1;
    s.beta2 = a.beta2;
    s.eps = a.eps;
    s.step_size = static_cast<float>(a.lr / (1.0 - std::pow(static_cast<double>(a.beta1), t)));
    s.correction_root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(static_cast<double>(a.beta2), t)));
    if (a.dtype == LETHE_BF16) {
      update<bf16>(a, s, a.weight_decay, 0, a.n_decay);
      update<bf16>(a, s, 0.0f, a.n_decay, a.n);
    } else {
      update<float>(a, s, a.weight_decay, 0, a.n_decay);
      update<float>(a, s, 0.0f, a.n_decay, a.n);
    }
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
