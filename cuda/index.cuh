// Indices are data: a kernel looks at them before another one reads through them.
#pragma once

#include "device.cuh"

namespace lethe::cuda {

// LETHE_OUT_OF_BOUNDS at the next wait, naming the first of index[n] outside [0, bound) and its position; the gate is
// closed then. `text` null: "name[at] is value, outside [0, bound)".
int check_indices(Device *device, const char *name, const int32_t *index, int64_t n, int64_t bound,
                  FaultText text = nullptr);

}  // namespace lethe::cuda
