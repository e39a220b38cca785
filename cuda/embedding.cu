#include "device.cuh"

namespace lethe::cuda {

int embedding_forward(Device *device, const lethe_embedding_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int embedding_backward(Device *device, const lethe_embedding_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
