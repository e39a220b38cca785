// The one way a kernel is launched: on a stream with nvcc, on fibers with the host shim (shim/cuda_host.h).
#pragma once

#include "common.cuh"

namespace lethe::cuda {

#if defined(LETHE_CUDA_SHIM)

using Stream = int;
using Status = int;

template <class... Parameters, class... Arguments>
Status launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, Stream, Arguments... arguments) {
  shim::launch(blocks, threads, [&] { kernel(arguments...); });
  return 0;
}

#else

using Stream = cudaStream_t;
using Status = cudaError_t;

template <class... Parameters, class... Arguments>
Status launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, Stream stream, Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

#endif

}  // namespace lethe::cuda
