#include "device.cuh"

namespace lethe::cuda {

int nf4_quantize(Device *device, const lethe_nf4_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int nf4_dequantize(Device *device, const lethe_nf4_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
