// The head's fused form: no logits in memory. The first product's epilogue takes statistics from its accumulators and
// writes weights E, exp of the logits in bf16 relative to a power of two of their own for each row and tile of columns;
// the second product reads E, scales it by those powers on its way into the tensor cores, and finishes the gradient.
//
// With z the logits over the temperature, m a row's largest, c the exponential of its mean logit and k a tile's power:
//   E[v] = bf16((e^z[v] - c) 2^-k),  0 for the label's column but for c
//   dh = scale sum_v 2^(k - k_m) E[v] w[v] + of_mean mean(w) + of_column w[column]
// What E lacks of a gradient is a multiple of the mean row of W and one of a single row, both of which the epilogue
// adds in fp32: p - 1/V loses nothing where all p are near 1/V, as E is then small itself, and p[y] - 1 where p[y] is
// near 1. of_mean makes a row's coefficients sum to 0, as the exact ones do, whatever E's rounding adds up to: what W's
// rows have in common has no part in the error. So the kinds whose gradient is the softmax beside such rows have this
// form; plan_head refuses the others.
#pragma once

#include "device.cuh"
#include "mma.cuh"

namespace lethe::cuda::fused {

// A block's tile of a product, the depth of a stage, and the stages on their way: 90 KiB of shared memory at most.
constexpr int kRows = 128, kColumns = 256, kDepth = 32, kStages = 3;
constexpr int kThreads = 256;
constexpr int kWarpRows = 64, kWarpColumns = 64;  // of a warp's part of a tile
constexpr int kAcross = kColumns / kWarpColumns;

// What the epilogue of the logits needs of a row.
struct Row {
  float beta;         // 1 / temperature
  float label_logit;  // as the product gives it, to the bit; 0 without a label
  int32_t label, kind;
};

// A row's sums over a tile of columns, but for the label's, relative to the largest of them.
struct alignas(16) Part {
  float max;
  int32_t argmax;
  float e, ez, ezz, above;
  float centre;  // c 2^-k
  float kept;    // the sum of E as it is stored
};

// What the second product's epilogue needs of a row; column -1: none.
struct alignas(16) Ends {
  float scale, of_mean, of_column;
  int32_t column;
};

// A chunk's memory, all of it the device's.
struct Chunk {
  int32_t rows, tiles;
  int64_t d, V;
  const bf16 *hidden, *w;  // hidden[rows,d], w[V,d], aligned to 16 bytes
  const float *bias;       // [V] or null
  const float *mean;       // [d]: the mean row of W
  const float *means;      // [rows]: mean logits
  const Row *row;          // [rows]
  bf16 *weights;           // E[rows, tiles * kColumns]; null: statistics alone, and nothing that follows but stats
  Part *parts;             // [rows, tiles]
  uint32_t *powers;        // [tiles, power_ld]: 2^(k - k_m), twice in bf16
  int64_t power_ld;        // rows in whole tiles
  Ends *ends;              // [rows]
  const int32_t *order;    // [rows]: where a row's statistics and gradient stand
  float *stats;
  void *dh_rows;
  const int *closed;
};

// z / temperature is a power of two, 2^(y + k) with |y| of no more than a half at the largest logit. The product with
// log2(e) / temperature is taken in two parts, so that y is as exact as a difference of two logits.
struct Scale {
  float high, low;

  __device__ explicit Scale(float beta) {
    constexpr float kLog2e = 1.44269502f, kRest = 1.92596299e-8f;  // log2(e) and what fp32 lacks of it
    high = __fmul_rn(beta, kLog2e);
    low = __fmaf_rn(beta, kRest, __fmaf_rn(beta, kLog2e, -high));
  }
  // The power of a tile whose largest logit is `max`, of a row whose mean is `mean`.
  __device__ float power(float max, float mean) const {
    const float largest = fabsf(mean) < __int_as_float(0x7f800000) && mean > max ? mean : max;
    return rintf(__fmul_rn(largest, high));
  }
  // 2^-power of e^(z / temperature); 0 for what is not finite.
  __device__ float weight(float z, float power) const {
    if (!(fabsf(z) < __int_as_float(0x7f800000))) return 0.0f;
    return exp2_approx(__fmaf_rn(z, low, __fmaf_rn(z, high, -power)));
  }
};

inline int64_t tiles_of(int64_t V) { return ceil_div(V, kColumns); }

// The exact logits of the labels, and what else rows are asked for; order[n] and rows of the whole pass. `hidden` of a
// row is its source's row of h, aligned to 16 bytes as w.
struct Labels {
  int64_t n, d, V;
  const bf16 *h, *w;
  const float *bias;
  const int32_t *records;
  const float *params;  // or null
  const int32_t *order;
  Row *row;  // [n], in that order
  const int *closed;
};
int labels(Device *device, const Labels &l);
int logits(Device *device, const Chunk &c);
int rows(Device *device, const Chunk &c);
int gradient(Device *device, const Chunk &c);
// The same by a warpgroup's products, for HeadForm::kFusedWgmma (head_fused_wgmma.cuh).
int wgmma_labels(Device *device, const Labels &l);
int wgmma_logits(Device *device, const Chunk &c);
int wgmma_gradient(Device *device, const Chunk &c);
// Whether the device runs them.
int has_wgmma(Device *device, bool *has);

// ---- the products' common frame ----

// Loads pass by in kStages stages of shared memory: load(stage, step) starts copies, use(stage, step) has them.
template <class Load, class Use>
__device__ void pass_by(int steps, Load &&load, Use &&use) {
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < steps) load(stage, stage);
    copies_commit();
  }
  int stage = 0, free = kStages - 1;
  for (int step = 0; step < steps; ++step) {
    copies_wait<kStages - 2>();
    __syncthreads();  // the stage is there, and the one before may be overwritten
    if (step + kStages - 1 < steps) load(free, step + kStages - 1);
    copies_commit();
    use(stage, step);
    free = stage;
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
}

// Accumulators of a warp's part of a tile: a thread has eight rows of sixteen columns.
using Tile = float[kWarpRows / 16][kWarpColumns / 8][4];

__device__ inline void clear(Tile &c) {
#pragma unroll
  for (int i = 0; i < kWarpRows / 16; ++i) {
#pragma unroll
    for (int t = 0; t < kWarpColumns / 8; ++t) c[i][t][0] = c[i][t][1] = c[i][t][2] = c[i][t][3] = 0.0f;
  }
}

// Where a thread's warp stands in the block's tile, and the thread in its fragments.
struct Place {
  int lane, across, row, column;

  __device__ Place() {
    const int warp = static_cast<int>(threadIdx.x / kWarp);
    lane = static_cast<int>(threadIdx.x % kWarp);
    across = warp % kAcross;
    row = warp / kAcross * kWarpRows;
    column = across * kWarpColumns;
  }
  // In the tile: the row of blocks of 16 `i` and half `half`, the first of the pair of columns of n-tile `t`.
  __device__ int row_of(int i, int half) const { return row + 16 * i + fragment_c(lane, 2 * half).row; }
  __device__ int column_of(int t) const { return column + 8 * t + fragment_c(lane, 0).column; }
};

}  // namespace lethe::cuda::fused
