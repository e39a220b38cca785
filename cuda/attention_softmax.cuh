// The online softmax of the forward kernels, on the fragments of a product.
#pragma once

#include "attention_mma.cuh"

namespace lethe::cuda::attention {

// What a lane knows of its two rows.
struct RowState {
  int64_t hidden[2], visible[2];
  float max[2], sum[2];  // exponents of 2; the lane's share of the sum

  // `first`: the fragment's first row in the tile. Rows past the end do as the last one does.
  __device__ void begin(const Call &c, const Segment &s, const RowTile &rows, int first) {
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    for (int half = 0; half < 2; ++half) {
      const int r = static_cast<int>(smaller(first + fragment_c(lane, 2 * half).row, rows.rows - 1));
      hidden[half] = s.hidden(rows.query_of(r), c.a.window);
      visible[half] = s.visible(rows.query_of(r));
      max[half] = negative_infinity();
      sum[half] = 0;
    }
  }
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

// Products to exponents of 2, minus infinity where a row does not see the key.
template <int kTiles>
__device__ void score(float (&s)[kTiles][4], const Scores &scores, const RowState &row, int64_t begin) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[t][i] = scores.exponent(s[t][i]);
  }
  const Seen seen[2] = {{row.hidden[0], row.visible[0], begin, kTiles * 8},
                        {row.hidden[1], row.visible[1], begin, kTiles * 8}};
  if (seen[0].all(kTiles * 8) && seen[1].all(kTiles * 8)) return;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!seen[i / 2].has(t * 8 + fragment_c(lane, i).column)) s[t][i] = negative_infinity();
    }
  }
}

}  // namespace lethe::cuda::attention
