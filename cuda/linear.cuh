// What the sources of the linear layer share.
#pragma once

#include "device.cuh"

namespace lethe::cuda {

// Rows of dy that a partial sum of the bias's gradient is made of; it wants one of `out` fp32 numbers for each.
constexpr int64_t kBiasRows = 128;

// db += the sums of dy's columns; partial has room for ceil(T / kBiasRows) * out numbers.
int bias_gradient(Device *device, const lethe_linear_args &args, float *partial);

}  // namespace lethe::cuda
