// Normal numbers by Box & Muller (1958) from Philox's words: each a function of the seed and its place alone.
#include <algorithm>
#include <cmath>

#include "device.h"
#include "number.h"
#include "philox.h"

namespace lethe::cpu {
namespace {

constexpr int64_t kWords = 4;
constexpr double kTwoPi = 6.283185307179586;

// Numbers kWords * j to kWords * j + kWords - 1. In fp64, where (word + 1/2) 2^-32 is exact and never 1.
void normals(uint64_t seed, int64_t j, double *out) {
  const auto counter = static_cast<uint64_t>(j);
  uint32_t words[kWords] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  philox::rounds(words, seed);
  for (int i = 0; i < kWords; i += 2) {
    const double radius = std::sqrt(-2 * std::log((words[i] + 0.5) * 0x1p-32));
    const double angle = kTwoPi * ((words[i + 1] + 0.5) * 0x1p-32);
    out[i] = radius * std::cos(angle);
    out[i + 1] = radius * std::sin(angle);
  }
}

template <class T>
void fill(int64_t n, uint64_t seed, int64_t first, float std, T *dst) {
  const int64_t begin = first / kWords, end = n == 0 ? begin : (first + n - 1) / kWords + 1;
#pragma omp parallel for schedule(static)
  for (int64_t j = begin; j < end; ++j) {
    double numbers[kWords];
    normals(seed, j, numbers);
    for (int64_t i = 0; i < kWords; ++i) {
      // Relative to `first`, so that nothing overflows.
      const int64_t at = (j - begin) * kWords + i - first % kWords;
      if (at >= 0 && at < n) from_float(static_cast<float>(std * numbers[i]), dst + at);
    }
  }
}

}  // namespace

int random_normal(Device *device, int32_t dtype, int64_t n, uint64_t seed, int64_t first, float std, void *dst) {
  return run(device, __func__, [&] {
    dtype == LETHE_BF16 ? fill(n, seed, first, std, static_cast<bf16 *>(dst))
                        : fill(n, seed, first, std, static_cast<float *>(dst));
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
