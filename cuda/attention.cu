#include "device.cuh"

namespace lethe::cuda {

int attention_forward(Device *device, const lethe_attention_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int attention_backward(Device *device, const lethe_attention_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
