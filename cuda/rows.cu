#include "device.cuh"

namespace lethe::cuda {

int gather_rows(Device *device, const lethe_rows_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int scatter_rows(Device *device, const lethe_rows_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
