// The shim's device: what it answers of itself, and what kernels may ask of it.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "runtime_state.h"
#include "tensor_host.h"

using lethe::cuda::shim::state;

namespace {

// What kernels were allowed of dynamic shared memory.
std::mutex limits_mutex;
std::map<const void *, size_t> dynamic_limits;
// What a kernel has without asking, its static memory among it.
constexpr size_t kUnasked = size_t{48} << 10, kStaticTaken = size_t{4} << 10;

size_t most_shared() {
  namespace shim = lethe::cuda::shim;
  return std::max(state.shared, state.major == 9 ? shim::kMostSharedBytes90 : shim::kMostSharedBytes);
}

}  // namespace

namespace lethe::cuda::shim {

int major_capability() { return state.major; }

size_t dynamic_limit(const void *kernel) {
  const std::lock_guard<std::mutex> lock(limits_mutex);
  const auto at = dynamic_limits.find(kernel);
  return at == dynamic_limits.end() ? kUnasked - kStaticTaken : at->second;
}
cudaError_t set_dynamic_limit(const void *kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > most_shared()) return cudaErrorInvalidValue;
  const std::lock_guard<std::mutex> lock(limits_mutex);
  dynamic_limits[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

}  // namespace lethe::cuda::shim

extern "C" {

void lethe_shim_set_device(int error, int major, int minor) {
  state.device_error = error;
  state.major = major;
  state.minor = minor;
}
void lethe_shim_set_tensor_maps(int there) { state.tensor_maps = there != 0; }
void lethe_shim_set_shared(int64_t bytes) { state.shared = static_cast<size_t>(bytes); }

}  // extern "C"

cudaError_t cudaGetDeviceCount(int *count) {
  *count = state.device_error == 0 ? 1 : 0;
  return state.device_error;
}
cudaError_t cudaGetDevice(int *ordinal) {
  *ordinal = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr, int) {
  *value = static_cast<int>(most_shared());
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int ordinal) {
  if (ordinal != 0) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "host shim");
  properties->major = state.major;
  properties->minor = state.minor;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = state.total;
  properties->sharedMemPerBlockOptin = state.shared;
  properties->l2CacheSize = size_t{1} << 20;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
  const bool there = state.tensor_maps && std::strcmp(name, "cuTensorMapEncodeTiled") == 0;
  *function = there ? reinterpret_cast<void *>(&cuTensorMapEncodeTiled) : nullptr;
  *result = there ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
