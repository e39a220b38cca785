// The global gradient norm, of all gradients at once or part by part, and AdamW.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "adamw.h"
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

double square_sum_of_all(int64_t n, const float *g) {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  std::vector<double> partial(static_cast<size_t>(chunks));
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < chunks; ++c) {
    partial[static_cast<size_t>(c)] = square_sum(g + c * kChunk, std::min(kChunk, n - c * kChunk));
  }
  double total = 0.0;
  for (const double sum : partial) total += sum;
  return total;
}

// Where a state holds the sum of squares of the parts so far, an fp64 number.
constexpr int kSquareSum = 4;

void write_norm(double square_sum, float max_norm, float *state) {
  // The square of a finite fp32 number is finite in fp64, and so is any sum of them that fits in memory.
  const bool finite = std::isfinite(square_sum);
  const double norm = std::sqrt(square_sum);
  state[0] = static_cast<float>(norm);
  state[1] = finite && max_norm > 0.0f ? static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6))) : 1.0f;
  state[2] = finite ? 1.0f : 0.0f;
}

// Parameters that a thread takes at a time: what it has written is still near when it is copied.
constexpr int64_t kPiece = 1024;

template <class T>
void update(const lethe_adamw_args &a, const AdamwStep &s, float decay, int64_t begin, int64_t end) {
  auto *copy = static_cast<T *>(a.copy);
  const int64_t pieces = (end - begin + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static)
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t i = begin + piece * kPiece, n = std::min(kPiece, end - i);
    adamw_all(s, decay, n, a.p + i, a.g + i, a.m + i, a.v + i);
    if (copy != nullptr) store_all(a.p + i, n, copy + i);
  }
}

}  // namespace

int gradient_norm(Device *device, int64_t n, const float *g, float max_norm, float *state) {
  return run(device, __func__, [&] {
    write_norm(square_sum_of_all(n, g), max_norm, state);
    return static_cast<int>(LETHE_OK);
  });
}

int gradient_norm_part(Device *device, int64_t n, const float *g, int32_t begin, float max_norm, float *state) {
  return run(device, __func__, [&] {
    double total = 0.0;
    if (begin == 0) std::memcpy(&total, state + kSquareSum, sizeof total);
    total += square_sum_of_all(n, g);
    std::memcpy(state + kSquareSum, &total, sizeof total);
    write_norm(total, max_norm, state);
    return static_cast<int>(LETHE_OK);
  });
}

int adamw(Device *device, const lethe_adamw_args *args) {
  return run(device, __func__, [&] {
    const lethe_adamw_args &a = *args;
    if (a.state[2] != 1.0f) return static_cast<int>(LETHE_OK);
    const AdamwStep s = adamw_step(a.state[1], a.state[3], a.lr, a.beta1, a.beta2, a.eps);
    a.state[3] += 1.0f;
    if (a.dtype == LETHE_BF16) {
      update<bf16>(a, s, a.lr * a.weight_decay, 0, a.n_decay);
      update<bf16>(a, s, 0.0f, a.n_decay, a.n);
    } else {
      update<float>(a, s, a.lr * a.weight_decay, 0, a.n_decay);
      update<float>(a, s, 0.0f, a.n_decay, a.n);
    }
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
