// Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011): random words as a function of a key and a counter.
#pragma once

#include <cstdint>

#include "common.cuh"

namespace lethe::cuda {

// The words of the counter {c0, c1}, each 64 bits, low word first.
__device__ inline void philox(uint64_t key, uint64_t c0, uint64_t c1, uint32_t (&words)[4]) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  words[0] = static_cast<uint32_t>(c0);
  words[1] = static_cast<uint32_t>(c0 >> 32);
  words[2] = static_cast<uint32_t>(c1);
  words[3] = static_cast<uint32_t>(c1 >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint32_t high0 = __umulhi(words[0], kMultiplier0), low0 = words[0] * kMultiplier0;
    const uint32_t high1 = __umulhi(words[2], kMultiplier1), low1 = words[2] * kMultiplier1;
    words[0] = high1 ^ words[1] ^ k0;
    words[1] = low1;
    words[2] = high0 ^ words[3] ^ k1;
    words[3] = low0;
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
}

}  // namespace lethe::cuda
