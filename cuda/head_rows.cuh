// The head's row kernel: statistics of rows of logits, and their gradient in place.
#pragma once

#include "launch.cuh"

namespace lethe::cuda {

// All pointers are the device's. A row's logits are fp32 at z + row * ld, of any alignment a float may have.
struct HeadRows {
  int64_t rows, V, ld;
  float *z;                  // [rows, ld]: h W^T; what was computed of it, then the gradient, may replace it
  float *delta;              // [references, ld]: reference's h W^T - z; may be overwritten; null without reference rows
  const float *second;       // [seconds, ld]: second reference's h W^T minus the first's; null without rows that mix
  const int32_t *delta_of;   // [rows]: a row's own row of delta, or -1; null: all -1
  const int32_t *second_of;  // [rows]: a row's row of second, or -1; null: all -1
  const int32_t *records;    // [rows, LETHE_ROW_FIELDS], in the order below, as are
  const float *row_params;   // [rows, LETHE_ROW_PARAMS] or null
  const float *bias;         // [V] or null
  float soft_cap;            // 0: none
  const float *means;        // [rows] or null: mean logits, h dot the mean row of W; null: summed from the logits
  const float *coefficient;  // [rows] or null: what the gradient is multiplied with
  float *stats;              // [rows, LETHE_STATISTICS] or null
  int32_t gradient;          // LETHE_F32; LETHE_BF16: at the row's start, so with a row stride of 2 ld; LETHE_I32: none
  // [rows]: where a row's record, parameters, coefficient and statistics stand; null: at its own number.
  const int32_t *order = nullptr;
  // The gate; behind a closed one the rows become 0, and nothing else is looked at. Null: open.
  const int *closed = nullptr;
};

// Threads that serve a row best: enough loads in flight, registers for two blocks on a multiprocessor.
constexpr unsigned kHeadThreads = 512;

// How head_rows is launched.
Shape head_rows_shape(const HeadRows &args, unsigned threads);
// Two looks at each row in global memory, one block per row. threads: a multiple of 32, kHeadThreads at most.
Status head_rows(const HeadRows &args, unsigned threads, Stream stream);

// One look: each row stays in the shared memory of `cluster` blocks, 1, 2, 4 or 8 (more than 1: compute capability 9.0
// and newer), and its row of delta, in a launch that has any, beside it. With one block the sums are added up in the
// order of head_rows, with more part by part.
Shape head_rows_onchip_shape(const HeadRows &args, unsigned threads, unsigned cluster);
Status head_rows_onchip(const HeadRows &args, unsigned threads, unsigned cluster, Stream stream);
// The least cluster with which a multiprocessor holds parts of two rows, so that one loads while the other computes; if
// there is none, with which it holds one; 0: the row does not fit. shared: what one block may have of a
// multiprocessor's; major: of the compute capability; deltas: whether the launch has rows with a reference.
unsigned head_rows_cluster(int64_t V, bool deltas, int64_t shared, int major);

}  // namespace lethe::cuda
