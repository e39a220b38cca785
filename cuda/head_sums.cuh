// Sums over the head's weight, its bias and the gradient of the logits, each in a fixed order.
#pragma once

#include "device.cuh"

namespace lethe::cuda {

// wide[V] = bias[V] in fp32, and its mean.
int widen_bias(Device *device, int32_t dtype, int64_t V, const void *bias, float *wide, float *mean);
// sums[V] += the columns of dz[rows, ld], row by row; nothing behind a closed gate.
int add_columns(Device *device, int32_t dtype, int64_t rows, int64_t V, const void *dz, int64_t ld, float *sums);

}  // namespace lethe::cuda
