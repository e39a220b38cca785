// Dropout of LoRA adapters: masks are made where they are needed, from the row's key and the column.
#pragma once

#include <vector>

#include "device.cuh"

namespace lethe::cuda {

// Column j of a row is kept when word j % 4 of Philox4x32-10 with this key and counter {row key, j / 4} is at least
// `threshold`; 0 keeps all, and asks for no words.
struct Mask {
  uint64_t key;
  uint32_t threshold;
};

// to[rows, in] = m o x.
int masked_input(Device *device, int32_t dtype, int64_t rows, int64_t in, const void *x, const uint64_t *row_keys,
                 Mask mask, void *to);

// One adapter's share of a gradient: coefficients[:, column : column + rank] a[rank, in], masked.
struct MaskedPart {
  const void *a;
  int64_t column, rank;
  Mask mask;
};

// Adapters whose parts are summed before they are rounded; beyond, the sum so far is rounded in between.
constexpr int kMaskedParts = 16;

// dx[T, in] = sum over parts of m o (coefficients a).
int masked_update(Device *device, int32_t dtype, int64_t T, int64_t in, const void *coefficients, int64_t stride,
                  const uint64_t *row_keys, const std::vector<MaskedPart> &parts, void *dx);

}  // namespace lethe::cuda
