#include "attention_mma.cuh"

namespace lethe::cuda::attention {

int mma_backward(Device *device, const Call &call) { return plain_backward(device, call); }

}  // namespace lethe::cuda::attention
