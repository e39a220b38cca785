// What the shim's runtime knows of its device and of its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "cuda_runtime_host.h"

namespace lethe::cuda::shim {

struct State {
  size_t total = size_t{4} << 30;
  size_t used = 0;
  size_t pooled = 0;  // of that: freed in a stream's order, and the pool's until a wait
  std::map<void *, size_t> allocations;
  std::map<uintptr_t, size_t> pinned;  // of the host
  int launches_left = -1;
  int launch_error = 0;
  int device_error = 0;
  int major = 8, minor = 0;
  bool tensor_maps = true;
  double passed = 0;  // milliseconds, of lethe_shim_pass_time
  size_t shared = size_t{99} << 10;
  cudaError_t lost = cudaSuccess;
  std::string message;
};
extern State state;

}  // namespace lethe::cuda::shim
