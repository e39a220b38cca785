// The online softmax of the forward kernels, on the fragments of a product.
#pragma once

#include "attention_mma.cuh"

namespace lethe::cuda::attention {

// What a lane knows of its two rows.
struct RowState {
  float max[2], sum[2];  // exponents of 2; the lane's share of the sum

  __device__ void clear() {
    max[0] = max[1] = negative_infinity();
    sum[0] = sum[1] = 0;
  }
};

// Which keys some of a warp's rows [first, first + count) of a tile see, and which all of them.
struct Bounds {
  int64_t some_from = 0, some_until = 0, all_from = 0, all_until = 0;
  __device__ Bounds(const Segment &s, const RowTile &rows, int first, int count, int64_t window) {
    if (first >= rows.rows) return;
    const int64_t begin = rows.query_of(first),
                  last = rows.query_of(static_cast<int>(smaller(first + count, rows.rows) - 1));
    some_from = s.hidden(begin, window);
    some_until = s.visible(last);
    all_from = s.hidden(last, window);
    all_until = s.visible(begin);
  }
  __device__ bool some(int64_t begin, int keys) const { return begin < some_until && begin + keys > some_from; }
  __device__ bool all(int64_t begin, int keys) const { return all_from <= begin && begin + keys <= all_until; }
};

// Scores to weights; what has been summed moves to the new maximum.
template <int kTiles, int kColumns>
__device__ void soften(float (&s)[kTiles][4], float (&out)[kColumns][4], RowState *row) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float max = row->max[half];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) max = fmaxf(max, fmaxf(s[t][2 * half], s[t][2 * half + 1]));
    max = quad_max(max);
    const float base = max == negative_infinity() ? 0.0f : max;
    const float shrink = exp2_approx(row->max[half] - base);
    row->max[half] = max;
    float sum = 0;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        s[t][i] = exp2_approx(s[t][i] - base);
        sum += s[t][i];
      }
    }
    row->sum[half] = row->sum[half] * shrink + sum;
#pragma unroll
    for (int t = 0; t < kColumns; ++t) {
      out[t][2 * half] *= shrink;
      out[t][2 * half + 1] *= shrink;
    }
  }
}

// Products to exponents of 2.
template <int kTiles>
__device__ void score(float (&s)[kTiles][4], const Scores &scores) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[t][i] = scores.exponent(s[t][i]);
  }
}

// Minus infinity where a row does not see a key of the tile from `begin`. `first`: the fragment's first row. Rows past
// the end do as the last one does.
template <int kTiles>
__device__ void mask(float (&s)[kTiles][4], const Call &c, const Segment &segment, const RowTile &rows, int first,
                     int64_t begin) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = static_cast<int>(smaller(first + fragment_c(lane, 2 * half).row, rows.rows - 1));
    const int64_t query = rows.query_of(r);
    const Seen seen(segment.hidden(query, c.a.window), segment.visible(query), begin, kTiles * 8);
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        if (!seen.has(t * 8 + fragment_c(lane, i).column)) s[t][i] = negative_infinity();
      }
    }
  }
}

}  // namespace lethe::cuda::attention
