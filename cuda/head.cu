#include "device.cuh"

namespace lethe::cuda {

int head_mean(Device *device, int32_t, int64_t, int64_t, const void *, float *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int head_workspace(Device *device, int32_t, int64_t, int64_t, int64_t, int64_t *, int64_t *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int head_forward(Device *device, const lethe_head_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int head_combine(Device *device, const lethe_head_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int head_norm_backward(Device *device, const lethe_head_norm_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

int head_backward(Device *device, const lethe_head_args *) {
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED, "not there yet");
}

}  // namespace lethe::cuda
