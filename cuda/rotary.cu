#include "device.cuh"

namespace lethe::cuda {

int rotary(Device *device, const lethe_rotary_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
