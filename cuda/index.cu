#include "index.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 1024;

// One block: the first index at fault, whatever the order of the threads.
__global__ void __launch_bounds__(kThreads) index_kernel(const int32_t *index, int64_t n, int64_t bound, Gate gate) {
  __shared__ int first;
  if (threadIdx.x == 0) first = 0x7fffffff;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    if (index[i] < 0 || index[i] >= bound) {
      atomicMin(&first, static_cast<int>(i));
      break;  // a thread's later ones come after it
    }
  }
  __syncthreads();  // first is complete
  if (threadIdx.x == 0 && first != 0x7fffffff) gate.close(first, index[first], bound);
}

int outside(const Fault &f, std::string *message) {
  *message = std::string(reinterpret_cast<const char *>(f.name)) + "[" + std::to_string(f.at) + "] is " +
             std::to_string(f.value) + ", outside [0, " + std::to_string(f.bound) + ")";
  return LETHE_OUT_OF_BOUNDS;
}

}  // namespace

int check_indices(Device *device, const char *name, const int32_t *index, int64_t n, int64_t bound, FaultText text) {
  if (n == 0) return LETHE_OK;
  const Shape shape = {"index", {}, kThreads, 0, n * 4};
  return launch(device, shape, index_kernel, index, n, bound,
                device->fault.gate(name, text != nullptr ? text : outside));
}

}  // namespace lethe::cuda
