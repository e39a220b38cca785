// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011): four uniform words that are a function of a key and a counter alone.
#pragma once

#include <cstdint>

namespace lethe::cpu {

struct Philox4x32 {
  uint32_t word[4];
};

// `low` and `high` are the halves of the 128-bit counter; words are taken low first.
inline Philox4x32 philox4x32(uint64_t key, uint64_t low, uint64_t high) {
  uint32_t k[2] = {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
  Philox4x32 x{{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), static_cast<uint32_t>(high),
                static_cast<uint32_t>(high >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * x.word[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * x.word[2];
    x = {{static_cast<uint32_t>(b >> 32) ^ x.word[1] ^ k[0], static_cast<uint32_t>(b),
          static_cast<uint32_t>(a >> 32) ^ x.word[3] ^ k[1], static_cast<uint32_t>(a)}};
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return x;
}

}  // namespace lethe::cpu
