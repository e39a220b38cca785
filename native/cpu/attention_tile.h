// The register-tiled product under attention, and the packing that feeds it. All of it is fp32; rows are padded with
// zeros to a multiple of sixteen columns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "number.h"
#include "vector_math.h"

namespace lethe::cpu {

#if defined(__AVX512F__)
typedef f32x16 vec;
typedef i32x16 ivec;
inline constexpr int kTileVectors = 4;  // 6 x 4 accumulators of 32 registers
#else
typedef f32x8 vec;
typedef i32x8 ivec;
inline constexpr int kTileVectors = 2;  // 6 x 2 accumulators of 16 registers
#endif
inline constexpr int64_t kVec = sizeof(vec) / sizeof(float);
inline constexpr int64_t kTileRows = 6;
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

inline vec vload(const float *p) {
  vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void vstore(float *p, vec v) { std::memcpy(p, &v, sizeof v); }
inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Hands out parts of a thread's scratch; with a null base it only counts.
class Carver {
 public:
  explicit Carver(float *base) : base_(base) {}
  float *take(int64_t count) {
    float *part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(count, kLanes);
    return part;
  }
  int64_t used() const { return used_; }

 private:
  float *base_;
  int64_t used_ = 0;
};

// Sixteen numbers of storage at a time would leave the registers on AVX2; a register's worth does not.
typedef uint16_t hvec __attribute__((vector_size(sizeof(vec) / 2)));
typedef uint32_t uvec __attribute__((vector_size(sizeof(vec))));
inline vec vload(const bf16 *p) {
  hvec half;
  std::memcpy(&half, p, sizeof half);
  return (vec)(__builtin_convertvector(half, uvec) << 16);
}
inline void vstore(bf16 *p, vec v) {
  const uvec bits = (uvec)v;
  const uvec rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const uvec chosen = v != v ? bits | 0x00400000u : rounded;
  const hvec half = __builtin_convertvector(chosen >> 16, hvec);
  std::memcpy(p, &half, sizeof half);
}
template <class T>
inline vec vload_tail(const T *p, int64_t n) {
  float x[kVec] = {};
  for (int64_t i = 0; i < n; ++i) x[i] = to_float(p[i]);
  return vload(x);
}
template <class T>
inline void vstore_tail(T *p, vec v, int64_t n) {
  float x[kVec];
  vstore(x, v);
  for (int64_t i = 0; i < n; ++i) from_float(x[i], p + i);
}

// C[m,n] = A[m,k] B[k,n], or += it.
struct Product {
  int64_t k;
  const float *a;
  int64_t a_row, a_column;  // either may be 1: A is read one number at a time
  const float *b;
  int64_t b_row;
  float *c;
  int64_t c_row;
  bool add;
};

// Each number of C is one chain of FMAs in the order of k, whatever the tile it falls in: that is what makes a row's
// bits independent of its neighbours.
template <int Rows, int Vectors>
inline void product_tile(const Product &p, int64_t column) {
  vec acc[Rows][Vectors];
  float *c = p.c + column;
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) acc[i][j] = p.add ? vload(c + i * p.c_row + j * kVec) : vec{};
  }
  const float *a = p.a;
  const float *b = p.b + column;
  for (int64_t k = 0; k < p.k; ++k, a += p.a_column, b += p.b_row) {
    vec row[Vectors];
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) row[j] = vload(b + j * kVec);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const vec x = vec{} + a[i * p.a_row];
#pragma GCC unroll 8
      for (int j = 0; j < Vectors; ++j) acc[i][j] += x * row[j];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) vstore(c + i * p.c_row + j * kVec, acc[i][j]);
  }
}

template <int Rows>
inline void product_rows(const Product &p, int64_t n) {
  int64_t j = 0;
  for (; j + kTileVectors * kVec <= n; j += kTileVectors * kVec) product_tile<Rows, kTileVectors>(p, j);
  if constexpr (kTileVectors == 4) {
    if (n - j == 3 * kVec) return product_tile<Rows, 3>(p, j);
    if (n - j == 2 * kVec) return product_tile<Rows, 2>(p, j);
  }
  for (; j < n; j += kVec) product_tile<Rows, 1>(p, j);
}

// rows <= kTileRows; n a multiple of kVec.
inline void product(const Product &p, int64_t rows, int64_t n) {
  switch (rows) {
    case 6:
      return product_rows<6>(p, n);
    case 5:
      return product_rows<5>(p, n);
    case 4:
      return product_rows<4>(p, n);
    case 3:
      return product_rows<3>(p, n);
    case 2:
      return product_rows<2>(p, n);
    default:
      return product_rows<1>(p, n);
  }
}

// out[0..padded) = factor * in[0..d), then zeros.
template <class T>
inline void pack_row(const T *in, int64_t d, int64_t padded, float factor, float *out) {
  int64_t i = 0;
  for (; i + kVec <= d; i += kVec) vstore(out + i, vload(in + i) * factor);
  if (i < d) vstore(out + i, vload_tail(in + i, d - i) * factor);
  for (i = round_up(d, kVec); i < padded; i += kVec) vstore(out + i, vec{});
}

template <class T>
inline void unpack_row(const float *in, int64_t d, float factor, T *out) {
  int64_t i = 0;
  for (; i + kVec <= d; i += kVec) vstore(out + i, vload(in + i) * factor);
  if (i < d) vstore_tail(out + i, vload(in + i) * factor, d - i);
}

// Lane masks for two-operand shuffles: exchange the blocks of `Step` lanes off the diagonal of a pair of rows.
template <int Step, int... Lane>
inline ivec low_mask(std::integer_sequence<int, Lane...>) {
  return ivec{((Lane & Step) != 0 ? int{kVec} + Lane - Step : Lane)...};
}
template <int Step, int... Lane>
inline ivec high_mask(std::integer_sequence<int, Lane...>) {
  return ivec{((Lane & Step) != 0 ? int{kVec} + Lane : Lane + Step)...};
}
using LaneSequence = std::make_integer_sequence<int, int{kVec}>;

template <int Step>
inline void exchange(vec *rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kVec; ++i) {
    if ((i & Step) != 0) continue;
    const vec a = rows[i], b = rows[i + Step];
    rows[i] = __builtin_shuffle(a, b, low_mask<Step>(LaneSequence()));
    rows[i + Step] = __builtin_shuffle(a, b, high_mask<Step>(LaneSequence()));
  }
}

// out[j * out_row + i] = in[i * in_row + j] for a block of kVec x kVec.
inline void transpose_square(const float *in, int64_t in_row, float *out, int64_t out_row) {
  vec rows[kVec];
#pragma GCC unroll 16
  for (int i = 0; i < kVec; ++i) rows[i] = vload(in + i * in_row);
  exchange<1>(rows);
  exchange<2>(rows);
  exchange<4>(rows);
  if constexpr (kVec == 16) exchange<8>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < kVec; ++i) vstore(out + i * out_row, rows[i]);
}

// The same for a block of 16 x 16.
inline void transpose_block(const float *in, int64_t in_row, float *out, int64_t out_row) {
  for (int64_t i = 0; i < kLanes; i += kVec) {
    for (int64_t j = 0; j < kLanes; j += kVec)
      transpose_square(in + i * in_row + j, in_row, out + j * out_row + i, out_row);
  }
}

// n scores, a multiple of kVec, under a soft cap: s -> cap tanh(s / cap); 0: none.
inline void cap_scores(float *scores, int64_t n, float cap) {
  if (cap == 0) return;
  const float inverse = 1.0f / cap;
  for (int64_t j = 0; j < n; j += kVec) vstore(scores + j, tanh(vload(scores + j) * inverse) * cap);
}

inline vec vmax(vec a, vec b) { return a > b ? a : b; }

template <int Distance, int... Lane>
inline vec across(vec v, std::integer_sequence<int, Lane...>) {
  return __builtin_shuffle(v, ivec{(Lane ^ Distance)...});
}
inline float fold_max(vec v) {
  if constexpr (kVec == 16) v = vmax(v, across<8>(v, LaneSequence()));
  v = vmax(v, across<4>(v, LaneSequence()));
  v = vmax(v, across<2>(v, LaneSequence()));
  return vmax(v, across<1>(v, LaneSequence()))[0];
}
inline float fold_sum(vec v) {
  if constexpr (kVec == 16) v += across<8>(v, LaneSequence());
  v += across<4>(v, LaneSequence());
  v += across<2>(v, LaneSequence());
  return (v + across<1>(v, LaneSequence()))[0];
}

}  // namespace lethe::cpu
