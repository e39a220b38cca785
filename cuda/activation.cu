#include "device.cuh"

namespace lethe::cuda {

int gated_forward(Device *device, const lethe_gated_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int gated_backward(Device *device, const lethe_gated_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int activation_forward(Device *device, const lethe_activation_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int activation_backward(Device *device, const lethe_activation_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
