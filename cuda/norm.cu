#include "device.cuh"

namespace lethe::cuda {

int norm_forward(Device *device, const lethe_norm_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int norm_backward(Device *device, const lethe_norm_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
