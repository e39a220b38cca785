// Indices are data: only the backend can see that one leaves its table.
#pragma once

#include <cstdint>
#include <string>

#include "device.h"

namespace lethe::cpu {

// LETHE_OUT_OF_BOUNDS, naming the first index outside [0, bound) and its position.
inline int check_indices(const Device *device, const char *name, const int32_t *index, int64_t n, int64_t bound) {
  for (int64_t i = 0; i < n; ++i) {
    if (index[i] < 0 || index[i] >= bound) {
      return LETHE_CPU_FAIL(device, LETHE_OUT_OF_BOUNDS,
                            std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(index[i]) +
                                ", outside [0, " + std::to_string(bound) + ")");
    }
  }
  return LETHE_OK;
}

}  // namespace lethe::cpu
