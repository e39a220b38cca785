#include "device.cuh"

namespace lethe::cuda {

int head_sample(Device *device, const lethe_sample_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
