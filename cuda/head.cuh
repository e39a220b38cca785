// The head's row kernel: statistics of rows of logits, and their gradient in place.
#pragma once

#include "launch.cuh"

namespace lethe::cuda {

// All pointers are the device's. A row's logits are fp32 at z + row * ld, of any alignment a float may have.
struct HeadRows {
  int64_t rows, V, ld;
  float *z;                  // [rows, ld]; the gradient replaces the logits
  const float *delta;        // [references, ld]: reference logits - z; null without rows of a reference kind
  const int32_t *delta_of;   // [rows]: a row's row of delta, or -1; null: all -1
  const int32_t *records;    // [rows, LETHE_ROW_FIELDS]
  const float *row_params;   // [rows, LETHE_ROW_PARAMS] or null
  const float *means;        // [rows] or null: mean logits, h dot the mean row of W; null: summed from z
  const float *coefficient;  // [rows] or null: what the gradient is multiplied with
  float *stats;              // [rows, LETHE_STATISTICS]
  int32_t gradient;          // LETHE_F32; LETHE_BF16: at the row's start, so with a row stride of 2 ld; LETHE_I32: none
};

// Threads that serve a row best: enough loads in flight, registers for two blocks on a multiprocessor.
constexpr unsigned kHeadThreads = 512;

// One block per row. threads: a multiple of 32, kHeadThreads at most.
Status head_rows(const HeadRows &args, unsigned threads, Stream stream);

}  // namespace lethe::cuda
