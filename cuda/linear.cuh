// What the sources of the linear layer share.
#pragma once

#include "device.cuh"

namespace lethe::cuda {

// Rows of dy that a partial sum of the bias's gradient is made of; it wants one of `out` fp32 numbers for each.
constexpr int64_t kBiasRows = 128;

// db += the sums of dy's columns; partial has room for ceil(T / kBiasRows) * out numbers.
int bias_gradient(Device *device, const lethe_linear_args &args, float *partial);

// ---- x A^T and dy B (linear_ranks.cu) ----

// u = scale * x A^T for the adapted rows; masked has room for m o x where an adapter drops, partial for so many
// numbers.
int forward_ranks(Device *device, const lethe_linear_args &args, char *masked, float *partial);
int64_t forward_rank_partials(const lethe_linear_args &args);
// du = scale * dy B.
int backward_ranks(Device *device, const lethe_linear_args &args, float *partial);
int64_t backward_rank_partials(const lethe_linear_args &args);

// ---- the augmented form: adapters in the product with W (linear_augmented.cu) ----

// Adapters whose B or A fit beside one weight.
constexpr int kAugmentedParts = 16;

// [x | u] of a call's rows, to[T, w_stride], zeros where a row or a column has no u; and W's spare columns, which
// become B, an adapter's beside its own outputs, and zeros. One launch.
int augment_columns(Device *device, const lethe_linear_args &args, void *to);
// [dy | du], to[T, out + spare_rows]; and W's spare rows, which become A. One launch.
int augment_rows(Device *device, const lethe_linear_args &args, void *to);

}  // namespace lethe::cuda
