// Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011): random words as a function of a key and a counter.
#pragma once

#include <cstdint>

#include "number.h"

namespace lethe::cpu {

namespace philox {

inline constexpr uint32_t kMultipliers[2] = {0xD2511F53u, 0xCD9E8D57u};
inline constexpr uint32_t kWeyl[2] = {0x9E3779B9u, 0xBB67AE85u};
typedef uint64_t u64x16 __attribute__((vector_size(128)));

inline uint32_t high(uint32_t x, uint32_t y) { return static_cast<uint32_t>(uint64_t{x} * y >> 32); }
inline u32x16 high(u32x16 x, uint32_t y) {
  return __builtin_convertvector(__builtin_convertvector(x, u64x16) * uint64_t{y} >> 32, u32x16);
}

// Ten rounds over x[4], in place; Word is one number or sixteen.
template <class Word>
inline void rounds(Word *x, uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const Word high0 = high(x[0], kMultipliers[0]), low0 = x[0] * kMultipliers[0];
    const Word high1 = high(x[2], kMultipliers[1]), low1 = x[2] * kMultipliers[1];
    x[0] = high1 ^ x[1] ^ k0;
    x[1] = low1;
    x[2] = high0 ^ x[3] ^ k1;
    x[3] = low0;
    k0 += kWeyl[0];
    k1 += kWeyl[1];
  }
}

}  // namespace philox

// Columns whose mask one call gives.
inline constexpr int64_t kMaskBlock = 64;

// mask[i] = 1 where column `first` + i is kept, else 0. Column j is kept when word j % 4 of the counter {row key, j /
// 4} is at least `threshold`. `first` is a multiple of kMaskBlock.
[[gnu::noinline]] inline void dropout_mask(uint64_t key, uint64_t row_key, uint32_t threshold, int64_t first,
                                           float *mask) {
  u32x16 lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = static_cast<uint32_t>(i);
  const auto block = static_cast<uint64_t>(first) / 4;
  // A block starts at a multiple of sixteen counters: their low words do not carry into the high one.
  u32x16 x[4] = {u32x16{} + static_cast<uint32_t>(row_key), u32x16{} + static_cast<uint32_t>(row_key >> 32),
                 lane + static_cast<uint32_t>(block), u32x16{} + static_cast<uint32_t>(block >> 32)};
  philox::rounds(x, key);
  for (int i = 0; i < kLanes; ++i) {
    for (int word = 0; word < 4; ++word) mask[4 * i + word] = x[word][i] >= threshold ? 1.0f : 0.0f;
  }
}

}  // namespace lethe::cpu
