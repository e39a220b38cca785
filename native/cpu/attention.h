// Causal attention over segments with grouped queries (Dao 2023 without the GPU): what its passes share.
//
// One thread takes one segment and key head at a time. Its keys, parent's then own, are one list, packed into fp32 and
// walked in tiles of kKeyTile. Its query rows are (query, head of the group), so that a group shares the packed keys.
// A sliding window hides the keys before hidden(row); tiles that no row of a block sees are skipped. A soft cap turns a
// scaled score s into c = cap tanh(s / cap), and its gradient is multiplied by 1 - (c / cap)^2.
// Forward: online softmax, lse = max + log sum. Backward: p = exp(s - lse), D = rowsum(dout * out), ds = p (dp - D),
// dq = scale ds k, dk = scale ds^T q, dv = p^T dout. Segments that share keys are summed by one thread in table order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention_plan.h"
#include "attention_tile.h"
#include "device.h"
#include "number.h"

namespace lethe::cpu {

inline constexpr int64_t kKeyTile = 128;
static_assert(kKeyTile % kLanes == 0);

struct Shape {
  int64_t group, padded;  // query heads of a key head; head_dim in whole vectors
};

// One segment and key head, and the addresses of its rows.
template <class T>
struct Unit {
  const lethe_attention_args &a;
  const Segment &segment;
  Shape shape;
  int64_t kv_head;

  int64_t rows() const { return segment.queries.size() * shape.group; }
  int64_t visible(int64_t row) const { return segment.visible(row / shape.group); }
  int64_t hidden(int64_t row) const { return segment.hidden(row / shape.group, a.window); }
  int64_t token(int64_t row) const { return segment.queries.begin + row / shape.group; }
  int64_t head(int64_t row) const { return kv_head * shape.group + row % shape.group; }
  int64_t q_at(int64_t row) const { return token(row) * a.q_stride + head(row) * a.head_dim; }
  int64_t out_at(int64_t row) const { return (token(row) * a.heads + head(row)) * a.head_dim; }
  int64_t lse_at(int64_t row) const { return token(row) * a.heads + head(row); }
  const T *k(int64_t j) const {
    return static_cast<const T *>(a.k) + segment.key_row(j) * a.k_stride + kv_head * a.head_dim;
  }
  const T *v(int64_t j) const {
    return static_cast<const T *>(a.v) + segment.key_row(j) * a.v_stride + kv_head * a.head_dim;
  }
};

template <class T>
inline const T *k_of(const Unit<T> &unit, int64_t j) {
  return unit.k(j);
}
template <class T>
inline const T *v_of(const Unit<T> &unit, int64_t j) {
  return unit.v(j);
}

// Rows of one head lie pages apart in a fused projection, where the processor does not look ahead by itself.
inline constexpr int64_t kRowsAhead = 16;
template <class T>
inline void prefetch_row(const T *row, int64_t d) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < d; i += kLine) __builtin_prefetch(row + i);
}

// rows[round_up(keys, 16)][padded], zeros beyond the keys.
template <class T, class RowOf>
inline void pack_keys(const Unit<T> &unit, RowOf row_of, float *rows) {
  const int64_t keys = unit.segment.keys();
  const int64_t padded = unit.shape.padded;
  for (int64_t j = 0; j < keys; ++j) {
    prefetch_row(row_of(unit, std::min(j + kRowsAhead, keys - 1)), unit.a.head_dim);
    pack_row(row_of(unit, j), unit.a.head_dim, padded, 1.0f, rows + j * padded);
  }
  std::fill(rows + keys * padded, rows + round_up(keys, kLanes) * padded, 0.0f);
}

inline int64_t tiles_of(int64_t keys) { return (keys + kKeyTile - 1) / kKeyTile; }

// Where the first tile begins that a row sees which does not see the first `hidden` keys.
inline int64_t first_tile(int64_t hidden) { return hidden / kKeyTile * kKeyTile; }

// Keys of the tile that begins at `begin` which a row with `visible` keys sees.
inline int64_t visible_in_tile(int64_t visible, int64_t begin) {
  return std::clamp<int64_t>(visible - begin, 0, kKeyTile);
}

}  // namespace lethe::cpu
