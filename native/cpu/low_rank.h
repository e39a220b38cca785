// Products with one side of a few columns. Kernels for wide products reach a third of their rate on them, as they hold
// a tile of the result that is mostly missing; here a whole row of ranks stays in registers. Every number has one order
// of summation, whatever rows are around it and however many threads there are.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "device.h"
#include "number.h"

namespace lethe::cpu {

// Wider than that, and kernels for wide products are as fast.
inline constexpr int64_t kMostLowRank = 32;

// Rows, or vectors of columns, by ranks: as many sums as registers hold beside what is multiplied.
#if defined(__AVX512F__)
inline constexpr int kProjectRows = 3, kOuterVectors = 3, kRanks = 8;
#else
inline constexpr int kProjectRows = 1, kOuterVectors = 1, kRanks = 4;
#endif
// Rows of x that stay in the cache while their columns are gone through.
inline constexpr int64_t kOuterRows = 256;
// Rows that are on their way from memory meanwhile.
inline constexpr int64_t kOuterAhead = 8;

// fn(first, std::integral_constant<int, n>) for blocks of kRanks ranks, and of powers of two for the rest.
template <int N = kRanks, class Fn>
void blocks_of_ranks(int64_t first, int64_t rank, Fn &&fn) {
  for (; first + N <= rank; first += N) fn(first, std::integral_constant<int, N>());
  if constexpr (N > 1) blocks_of_ranks<N / 2>(first, rank, fn);
}

// ---- sums[rows, width] += coefficients[rows, rank] basis[rank, width] ----

template <int64_t Rows>
void low_rank_tile(float *sums, int64_t sums_stride, const float *coefficients, int64_t coefficients_stride,
                   int64_t rank, const float *basis, int64_t width, int64_t basis_stride) {
  int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) {
    f32x16 acc[Rows];
    for (int64_t r = 0; r < Rows; ++r) acc[r] = load(sums + r * sums_stride + j);
    for (int64_t k = 0; k < rank; ++k) {
      const f32x16 b = load(basis + k * basis_stride + j);
      for (int64_t r = 0; r < Rows; ++r) acc[r] += b * coefficients[r * coefficients_stride + k];
    }
    for (int64_t r = 0; r < Rows; ++r) store(sums + r * sums_stride + j, acc[r]);
  }
  for (; j < width; ++j) {
    for (int64_t r = 0; r < Rows; ++r) {
      float acc = sums[r * sums_stride + j];
      for (int64_t k = 0; k < rank; ++k) acc += basis[k * basis_stride + j] * coefficients[r * coefficients_stride + k];
      sums[r * sums_stride + j] = acc;
    }
  }
}

// ---- out[rows, rank] = x[rows, width] basis[rank, width]^T ----

// What a basis takes when it is packed: by blocks, vectors of their ranks in turn, a tail filled up with zeros.
inline int64_t packed_size(int64_t rank, int64_t width) { return rank * ((width + kLanes - 1) / kLanes * kLanes); }

// at(k, i) is column i of the basis' row k.
template <class At>
void pack_basis(int64_t rank, int64_t width, float *to, At &&at) {
  blocks_of_ranks(0, rank, [&](int64_t first, auto ranks) {
    for (int64_t i = 0; i < width; i += kLanes) {
      for (int64_t k = first; k < first + ranks(); ++k) {
        for (int64_t lane = 0; lane < kLanes; ++lane) *to++ = i + lane < width ? at(k, i + lane) : 0.0f;
      }
    }
  });
}

// Long, and called from several places: not to be repeated there.
template <int Rows, int Ranks, class T>
[[gnu::noinline]] void project_tile(const T *x, int64_t stride, int64_t width, const float *packed, float *out,
                                    int64_t out_stride) {
  f32x16 acc[Rows][Ranks] = {};
  for (int64_t i = 0; i < width; i += kLanes, packed += Ranks * kLanes) {
    f32x16 in[Rows];
    for (int r = 0; r < Rows; ++r) {
      const T *at = x + r * stride + i;
      in[r] = i + kLanes <= width ? load(at) : load_tail(at, width - i);
    }
    for (int k = 0; k < Ranks; ++k) {
      const f32x16 b = load(packed + k * kLanes);
      for (int r = 0; r < Rows; ++r) acc[r][k] += in[r] * b;
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int k = 0; k < Ranks; ++k) out[r * out_stride + k] = sum(acc[r][k]);
  }
}

// `packed` by pack_basis.
template <class T>
void project(const T *x, int64_t stride, int64_t rows, int64_t width, const float *packed, int64_t rank, float *out,
             int64_t out_stride) {
  const int64_t tiles = (rows + kProjectRows - 1) / kProjectRows;
#pragma omp parallel for schedule(static)
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t begin = tile * kProjectRows, end = std::min(rows, begin + kProjectRows);
    blocks_of_ranks(0, rank, [&](int64_t first, auto ranks) {
      const float *basis = packed + packed_size(first, width);
      if (end - begin == kProjectRows) {
        project_tile<kProjectRows, ranks()>(x + begin * stride, stride, width, basis, out + begin * out_stride + first,
                                            out_stride);
        return;
      }
      for (int64_t row = begin; row < end; ++row) {
        project_tile<1, ranks()>(x + row * stride, stride, width, basis, out + row * out_stride + first, out_stride);
      }
    });
  }
}

// ---- coefficients[rows, rank]^T x[rows, width] ----

// sums[Ranks][Vectors * 16] += ...; `left` columns are there.
template <int Vectors, int Ranks, class T>
void outer_tile(const T *x, int64_t stride, int64_t rows, int64_t left, const float *coefficients,
                int64_t coefficients_stride, float *sums) {
  f32x16 acc[Vectors][Ranks];
  for (int v = 0; v < Vectors; ++v) {
    for (int k = 0; k < Ranks; ++k) acc[v][k] = load(sums + (k * Vectors + v) * kLanes);
  }
  for (int64_t t = 0; t < rows; ++t) {
    f32x16 in[Vectors];
    // A strip of every row: processors do not foresee such steps. Reading ahead of what is there harms nothing.
    const T *ahead = x + (t + kOuterAhead) * stride;
    __builtin_prefetch(ahead);
    __builtin_prefetch(ahead + Vectors * kLanes - 1);
    for (int v = 0; v < Vectors; ++v) {
      const T *at = x + t * stride + v * kLanes;
      in[v] = Vectors > 1 || left >= kLanes ? load(at) : load_tail(at, left);
    }
    for (int k = 0; k < Ranks; ++k) {
      const float c = coefficients[t * coefficients_stride + k];
      for (int v = 0; v < Vectors; ++v) acc[v][k] += in[v] * c;
    }
  }
  for (int v = 0; v < Vectors; ++v) {
    for (int k = 0; k < Ranks; ++k) store(sums + (k * Vectors + v) * kLanes, acc[v][k]);
  }
}

// A gradient whose number of rank k and column i stands at k * of_rank + i * of_column.
struct RankGradient {
  float *numbers;
  int64_t of_rank, of_column;
};

template <int Vectors, int Ranks, class T>
[[gnu::noinline]] void outer_strip(const T *x, int64_t stride, int64_t rows, int64_t column, int64_t left,
                                   const float *coefficients, int64_t coefficients_stride, int64_t rank,
                                   const RankGradient &to) {
  alignas(64) float sums[int64_t{Ranks} * Vectors * kLanes] = {};
  for (int64_t t = 0; t < rows; t += kOuterRows) {
    outer_tile<Vectors, Ranks>(x + t * stride + column, stride, std::min(kOuterRows, rows - t), left,
                               coefficients + t * coefficients_stride + rank, coefficients_stride, sums);
  }
  const int64_t columns = std::min<int64_t>(left, Vectors * kLanes);
  for (int64_t k = 0; k < Ranks; ++k) {
    for (int64_t i = 0; i < columns; ++i) {
      to.numbers[(rank + k) * to.of_rank + (column + i) * to.of_column] += sums[k * Vectors * kLanes + i];
    }
  }
}

// Adds to a gradient of `rank` by `width`; columns are shared among the threads.
template <class T>
void outer(const T *x, int64_t stride, int64_t rows, int64_t width, const float *coefficients,
           int64_t coefficients_stride, int64_t rank, const RankGradient &to) {
  constexpr int64_t kStrip = kOuterVectors * kLanes;
  const int64_t strips = (width + kStrip - 1) / kStrip;
#pragma omp parallel for schedule(static)
  for (int64_t strip = 0; strip < strips; ++strip) {
    const int64_t begin = strip * kStrip, end = std::min(width, begin + kStrip);
    blocks_of_ranks(0, rank, [&](int64_t first, auto ranks) {
      if (end - begin == kStrip) {
        outer_strip<kOuterVectors, ranks()>(x, stride, rows, begin, kStrip, coefficients, coefficients_stride, first,
                                            to);
        return;
      }
      for (int64_t column = begin; column < end; column += kLanes) {
        outer_strip<1, ranks()>(x, stride, rows, column, end - column, coefficients, coefficients_stride, first, to);
      }
    });
  }
}

}  // namespace lethe::cpu
