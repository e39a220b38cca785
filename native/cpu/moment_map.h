// Numbers in [-1, 1] as codes of a map of 256 ascending values, and back.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "lethe.h"

namespace lethe::cpu {

// A code is how many midpoints between neighbours lie below a number. The number's first bits, its bin, say where to
// begin, and how many midpoints the fullest bin holds is how often to compare.
class MomentMap {
 public:
  static constexpr int kCodes = 256;
  static constexpr int64_t kBlock = LETHE_MOMENT_BLOCK;

  explicit MomentMap(const float *map) : values_(map) {
    for (int i = 0; i + 1 < kCodes; ++i) midpoints_[i] = (map[i] + map[i + 1]) * 0.5f;
    midpoints_[kCodes - 1] = INFINITY;
    for (int32_t bin = 0; bin < kBins; ++bin) {
      const float from = bin == 0 ? 0.0f : from_bits(bin + kLowest), to = from_bits(bin + 1 + kLowest);
      fill(bin, search(from), search(to));
      fill(bin + kBins, search(-to), search(-from));
    }
  }

  // to[kBlock]: those behind the n codes are 0.
  void decode(const uint8_t *codes, int64_t n, float scale, float *to) const {
    const float *values = values_;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = values[codes[i]] * scale;
    std::fill(to + n, to + kBlock, 0.0f);
  }

  // The scale is the largest magnitude of x[kBlock]; a block of zeros has the scale 0 and the codes of 0. squares: a
  // number above 0 never takes code 0.
  void encode(const float *x, int64_t n, bool squares, uint8_t *codes, float *scale) const {
    float largest = 0.0f;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
    *scale = largest;
    const float divisor = largest > 0.0f ? largest : 1.0f;
    int32_t found[kBlock];
    float scaled[kBlock];
#pragma omp simd
    for (int64_t i = 0; i < kBlock; ++i) scaled[i] = x[i] / divisor;
#pragma omp simd
    for (int64_t i = 0; i < kBlock; ++i) found[i] = first_[bin(scaled[i])];
    for (int round = 0; round < rounds_; ++round) {
#pragma omp simd
      for (int64_t i = 0; i < kBlock; ++i) found[i] += scaled[i] > midpoints_[found[i]] ? 1 : 0;
    }
    if (squares) {
#pragma omp simd
      for (int64_t i = 0; i < kBlock; ++i) found[i] = found[i] == 0 && x[i] > 0.0f ? 1 : found[i];
    }
    for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(found[i]);
  }

 private:
  // Bins are seven bits of the significand wide, from 2^-24 to 1; below is one more, and one holds 1 itself.
  static constexpr int kShift = 16;
  static constexpr int32_t kLowest = ((127 - 24) << 7) - 1, kBins = (24 << 7) + 2;

  static float from_bits(int32_t bin) {
    const int32_t bits = bin << kShift;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
  // The bin of a number in [-1, 1]; a NaN has some bin.
  static int32_t bin(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const int32_t magnitude = (bits & 0x7fffffff) >> kShift;
    return std::min(std::max(magnitude - kLowest, 0), kBins - 1) + (bits < 0 ? kBins : 0);
  }
  int32_t search(float x) const {
    return static_cast<int32_t>(std::lower_bound(midpoints_, midpoints_ + kCodes - 1, x) - midpoints_);
  }
  void fill(int32_t bin, int32_t low, int32_t high) {
    first_[bin] = low;
    rounds_ = std::max(rounds_, high - low);
  }

  const float *values_;
  float midpoints_[kCodes];
  int32_t first_[2 * kBins];
  int rounds_ = 0;
};

}  // namespace lethe::cpu
