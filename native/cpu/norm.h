// The norm's backward pass for callers that make dy themselves.
#pragma once

#include "device.h"

namespace lethe::cpu {

// As norm_backward, but dy is fp32, whatever the storage.
void norm_backward_of_sums(const lethe_norm_args &args);

}  // namespace lethe::cpu
