// Random words as a function of a key and a counter, written again.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lethe::test {

// Philox4x32-10 (Salmon et al. 2011).
inline void philox(const uint32_t *counter, uint64_t key, uint32_t *words) {
  std::copy(counter, counter + 4, words);
  auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * words[0], b = uint64_t{0xCD9E8D57u} * words[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ words[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ words[3] ^ k1, static_cast<uint32_t>(a)};
    std::copy(next, next + 4, words);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

}  // namespace lethe::test
