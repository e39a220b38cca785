// AdamW over a part of the parameters: with a master or with stochastic rounding, moments in fp32 or in 8 bits.
#include <algorithm>
#include <cmath>
#include <optional>

#include "adamw.h"
#include "device.h"
#include "moment_map.h"
#include "number.h"
#include "philox.h"

namespace lethe::cpu {
namespace {

constexpr int64_t kBlock = LETHE_MOMENT_BLOCK;
// Random numbers of a Philox counter: the halves of its words.
constexpr int64_t kDraws = 8;
static_assert(kBlock % (kDraws * kLanes) == 0, "a block takes whole vectors of counters");

struct Maps {
  MomentMap first, second;
  explicit Maps(const float *maps) : first(maps), second(maps + MomentMap::kCodes) {}
};

struct Update {
  const lethe_adamw_part_args &a;
  AdamwStep step;
  uint64_t t;
  const Maps *maps;  // null: fp32 moments
};

// The numbers of one block while it is worked on; those behind the part's end are 0 and stay 0.
struct Block {
  float p[kBlock], g[kBlock], m[kBlock], v[kBlock];
};

void load_all(const float *from, int64_t n, float *to) {
  std::copy(from, from + n, to);
  std::fill(to + n, to + kBlock, 0.0f);
}
void load_all(const bf16 *from, int64_t n, float *to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i));
  for (; i < n; ++i) to[i] = to_float(from[i]);
  std::fill(to + n, to + kBlock, 0.0f);
}

// Sixteen random bits for each number of a block, the first of which is number `index` of all; index is a multiple of
// kDraws.
void draw(uint64_t seed, uint64_t t, uint64_t index, uint32_t *draws) {
  for (int64_t begin = 0; begin < kBlock; begin += kDraws * kLanes) {
    u32x16 x[4] = {};
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t counter = (index + static_cast<uint64_t>(begin)) / kDraws + static_cast<uint64_t>(i);
      x[0][i] = static_cast<uint32_t>(counter);
      x[1][i] = static_cast<uint32_t>(counter >> 32);
    }
    x[2] += static_cast<uint32_t>(t);
    x[3] += static_cast<uint32_t>(t >> 32);
    philox::rounds(x, seed);
    for (int i = 0; i < kLanes; ++i) {
      uint32_t *of_counter = draws + begin + int64_t{i} * kDraws;
      for (int64_t word = 0; word < 4; ++word) {
        of_counter[2 * word] = x[word][i] & 0xffffu;
        of_counter[2 * word + 1] = x[word][i] >> 16;
      }
    }
  }
}

// The fp32 bits plus sixteen random ones, cut off: what is cut off is the probability of the number next farther from
// zero. A NaN stays one.
void store_stochastically(const float *x, const uint32_t *draws, int64_t n, bf16 *to) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u, nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to[i].bits = static_cast<uint16_t>((finite ? bits + draws[i] : nan ? bits | 0x00400000u : bits) >> 16);
  }
}

void load_moments(const Update &u, int64_t at, int64_t n, Block *b) {
  if (u.maps == nullptr) {
    load_all(static_cast<const float *>(u.a.m) + at, n, b->m);
    load_all(static_cast<const float *>(u.a.v) + at, n, b->v);
    return;
  }
  const int64_t block = at / kBlock;
  u.maps->first.decode(static_cast<const uint8_t *>(u.a.m) + at, n, u.a.m_scale[block], b->m);
  u.maps->second.decode(static_cast<const uint8_t *>(u.a.v) + at, n, u.a.v_scale[block], b->v);
}

void store_moments(const Update &u, int64_t at, int64_t n, const Block &b) {
  if (u.maps == nullptr) {
    std::copy(b.m, b.m + n, static_cast<float *>(u.a.m) + at);
    std::copy(b.v, b.v + n, static_cast<float *>(u.a.v) + at);
    return;
  }
  const int64_t block = at / kBlock;
  u.maps->first.encode(b.m, n, false, static_cast<uint8_t *>(u.a.m) + at, u.a.m_scale + block);
  u.maps->second.encode(b.v, n, true, static_cast<uint8_t *>(u.a.v) + at, u.a.v_scale + block);
}

template <class T>
void update_block(const Update &u, int64_t at, int64_t n) {
  auto *copy = static_cast<T *>(u.a.copy);
  Block b;
  load_moments(u, at, n, &b);
  load_all(u.a.g + at, n, b.g);
  if (u.a.p != nullptr) {
    load_all(u.a.p + at, n, b.p);
  } else {
    load_all(copy + at, n, b.p);
  }
  adamw_all(u.step, u.a.lr * u.a.weight_decay, kBlock, b.p, b.g, b.m, b.v);
  store_moments(u, at, n, b);
  if (u.a.p != nullptr) {
    std::copy(b.p, b.p + n, u.a.p + at);
    if (copy != nullptr) store_all(b.p, n, copy + at);
  } else if constexpr (sizeof(T) == sizeof(bf16)) {
    uint32_t draws[kBlock];
    draw(u.a.seed, u.t, static_cast<uint64_t>(u.a.first + at), draws);
    store_stochastically(b.p, draws, n, copy + at);
  }
}

template <class T>
void update(const Update &u) {
  const int64_t blocks = (u.a.n + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    update_block<T>(u, block * kBlock, std::min(kBlock, u.a.n - block * kBlock));
  }
}

}  // namespace

int adamw_part(Device *device, const lethe_adamw_part_args *args) {
  return run(device, __func__, [&] {
    const lethe_adamw_part_args &a = *args;
    if (a.state[2] != 1.0f) return static_cast<int>(LETHE_OK);
    std::optional<Maps> maps;
    if (a.maps != nullptr) maps.emplace(a.maps);
    const Update u = {a, adamw_step(a.state[1], a.state[3], a.lr, a.beta1, a.beta2, a.eps),
                      static_cast<uint64_t>(a.state[3]) + 1, maps ? &*maps : nullptr};
    a.dtype == LETHE_BF16 ? update<bf16>(u) : update<float>(u);
    if (a.last != 0) a.state[3] += 1.0f;
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
