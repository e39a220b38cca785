#include "device.cuh"

namespace lethe::cuda {

int linear_forward(Device *device, const lethe_linear_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int linear_backward(Device *device, const lethe_linear_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
