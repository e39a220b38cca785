// Attention of a single query over its keys, for all heads at once: what generation asks for. Keys and values are read
// once, where they stand, row after row.
#pragma once

#include <cmath>
#include <cstdint>

#include "attention_plan.h"
#include "attention_tile.h"

namespace lethe::cpu {

struct KeyHeads {
  int64_t begin, end;
};

struct DecodeScratch {
  float *queries, *out;  // [heads, padded]
  float *scores;         // [heads, round_up(keys, 16)]
  float *inverse_sums;   // [heads]
  static DecodeScratch carve(Carver *c, int64_t heads, int64_t keys, int64_t padded) {
    DecodeScratch s;
    s.queries = c->take(heads * padded);
    s.out = c->take(heads * padded);
    s.scores = c->take(heads * round_up(keys, kLanes));
    s.inverse_sums = c->take(heads);
    return s;
  }
};

// Row j of kVec rows holds a sum in kVec parts; lane j of the result is the whole. Every lane adds its parts in the
// same order.
template <int Step>
inline void add_pairs(vec *rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kVec; i += 2 * Step) {
    const vec a = rows[i], b = rows[i + Step];
    rows[i] = __builtin_shuffle(a, b, low_mask<Step>(LaneSequence())) +
              __builtin_shuffle(a, b, high_mask<Step>(LaneSequence()));
  }
}
inline vec fold_rows(vec *rows) {
  add_pairs<1>(rows);
  add_pairs<2>(rows);
  add_pairs<4>(rows);
  if constexpr (kVec == 16) add_pairs<8>(rows);
  return rows[0];
}

// One query's scores with kVec keys.
template <class T>
inline vec scores_of(const float *q, const T *const *keys, int64_t d) {
  vec rows[kVec];
  for (int64_t j = 0; j < kVec; ++j) {
    vec sum = {};
    int64_t i = 0;
    for (; i + kVec <= d; i += kVec) sum += vload(q + i) * vload(keys[j] + i);
    if (i < d) sum += vload(q + i) * vload_tail(keys[j] + i, d - i);
    rows[j] = sum;
  }
  return fold_rows(rows);
}

// out += w[0] v[0] + w[1] v[1] + .. in this order.
template <int Keys, class T>
inline void add_values(const float *weights, const T *const *values, int64_t d, float *out) {
  int64_t i = 0;
  for (; i + kVec <= d; i += kVec) {
    vec sum = vload(out + i);
#pragma GCC unroll 8
    for (int j = 0; j < Keys; ++j) sum += weights[j] * vload(values[j] + i);
    vstore(out + i, sum);
  }
  if (i == d) return;
  vec sum = vload(out + i);
  for (int j = 0; j < Keys; ++j) sum += weights[j] * vload_tail(values[j] + i, d - i);
  vstore(out + i, sum);
}

struct Weights {
  float lse, inverse_sum;
};

// scores[0, n) -> exp(scores - max).
inline Weights exponentiate(float *scores, int64_t n) {
  const int64_t whole = round_up(n, kVec);
  std::fill(scores + n, scores + whole, -kInfinity);
  vec largest = vload(scores);
  for (int64_t j = kVec; j < whole; j += kVec) largest = vmax(largest, vload(scores + j));
  const float max = fold_max(largest);
  vec total = {};
  for (int64_t j = 0; j < whole; j += kVec) {
    const vec p = vector_math::exp_of_score(vload(scores + j) - max);
    total += p;
    vstore(scores + j, p);
  }
  const float sum = fold_sum(total);
  return {max + std::log(sum), 1.0f / sum};
}

// The query heads of `kv` over all keys of a segment with one query.
template <class T>
struct Decode {
  const lethe_attention_args &a;
  const Segment &segment;
  KeyHeads kv;
  const DecodeScratch &s;
  int64_t d = a.head_dim, padded = round_up(d, kLanes), group = a.heads / a.kv_heads;
  // Keys before the window are not looked at.
  int64_t hidden = segment.hidden(0, a.window);
  int64_t keys = segment.keys() - hidden, score_row = round_up(keys, kLanes);

  // Calls body(first of the query heads that share it, address of the key head's numbers in the keys from j on).
  template <int Keys, class Body>
  void for_key_heads(const void *rows, int64_t stride, int64_t j, Body &&body) const {
    const T *at[Keys];
    // Past the end stands the last key again; nobody looks at what comes of it.
    for (int i = 0; i < Keys; ++i) {
      at[i] =
          static_cast<const T *>(rows) + segment.key_row(hidden + std::min(j + i, keys - 1)) * stride + kv.begin * d;
    }
    for (int64_t h = kv.begin; h < kv.end; ++h) {
      body((h - kv.begin) * group, at);
      for (int i = 0; i < Keys; ++i) at[i] += d;
    }
  }

  template <int Keys>
  void add_keys(int64_t j) const {
    for_key_heads<Keys>(a.v, a.v_stride, j, [&](int64_t h, const T *const *at) {
      for (int64_t g = h; g < h + group; ++g) {
        add_values<Keys>(s.scores + g * score_row + j, at, d, s.out + g * padded);
      }
    });
  }

  void run() const {
    constexpr int kValuesAtOnce = 8;
    const int64_t first = kv.begin * group, heads = (kv.end - kv.begin) * group;
    const int64_t token = segment.queries.begin;
    const T *q = static_cast<const T *>(a.q) + token * a.q_stride + first * d;
    T *out = static_cast<T *>(a.out) + (token * a.heads + first) * d;
    for (int64_t h = 0; h < heads; ++h) pack_row(q + h * d, d, padded, a.scale, s.queries + h * padded);
    std::fill(s.out, s.out + heads * padded, 0.0f);
    for (int64_t j = 0; j < keys; j += kVec) {
      for_key_heads<kVec>(a.k, a.k_stride, j, [&](int64_t h, const T *const *at) {
        for (int64_t g = h; g < h + group; ++g) {
          vstore(s.scores + g * score_row + j, scores_of(s.queries + g * padded, at, d));
        }
      });
    }
    for (int64_t h = 0; h < heads; ++h) {
      cap_scores(s.scores + h * score_row, round_up(keys, kVec), a.soft_cap);
      const Weights w = exponentiate(s.scores + h * score_row, keys);
      if (a.lse != nullptr) a.lse[token * a.heads + first + h] = w.lse;
      s.inverse_sums[h] = w.inverse_sum;
    }
    int64_t j = 0;
    for (; j + kValuesAtOnce <= keys; j += kValuesAtOnce) add_keys<kValuesAtOnce>(j);
    for (; j < keys; ++j) add_keys<1>(j);
    for (int64_t h = 0; h < heads; ++h) unpack_row(s.out + h * padded, d, s.inverse_sums[h], out + h * d);
  }
};

}  // namespace lethe::cpu
