// The one way a kernel is launched: on a stream with nvcc, on fibers with the host shim (shim/cuda_host.h).
#pragma once

#include "common.cuh"

#if defined(LETHE_CUDA_SHIM)
#include "shim/cuda_runtime_host.h"
#endif

namespace lethe::cuda {

using Stream = cudaStream_t;
using Status = cudaError_t;

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

// How a kernel is launched, and what it is called in records and messages.
struct Shape {
  const char *name;
  Grid grid;
  unsigned threads;      // of a block; a multiple of 32
  size_t shared = 0;     // bytes of dynamic shared memory
  int64_t bytes = 0;     // what the kernel reads and writes at least, for records
  unsigned cluster = 1;  // blocks of one cluster, neighbours in x; more than one: compute capability 9.0 and newer
  bool sm_90a = false;   // for compute capability 9.0 alone, with the shared memory that it has
};

#if defined(LETHE_CUDA_SHIM)

template <class... Parameters, class... Arguments>
Status launch_on(Stream stream, const Shape &shape, void (*kernel)(Parameters...), Arguments... arguments) {
  if (shim::captures(stream)) {
    return shim::put(stream, [=] { return launch_on(nullptr, shape, kernel, arguments...); });
  }
  const Status lost = shim::lost();
  if (lost != cudaSuccess) return lost;
  if (shape.sm_90a && shim::major_capability() != 9) return cudaErrorNoKernelImageForDevice;
  try {
    shim::launch({shape.grid.x, shape.grid.y, shape.grid.z}, shape.threads, shape.shared,
                 shape.sm_90a ? shim::kMostSharedBytes90 : shim::kMostSharedBytes, shape.cluster,
                 [&] { kernel(arguments...); });
  } catch (const shim::ShimError &e) {
    shim::set_error(cudaErrorLaunchFailure, (std::string(shape.name) + ": " + e.what()).c_str());
    return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

template <class... Parameters>
Status resident_clusters(const Shape &shape, void (*)(Parameters...), int *clusters) {
  cudaDeviceProp properties = {};
  const Status status = cudaGetDeviceProperties(&properties, 0);
  *clusters = properties.multiProcessorCount / static_cast<int>(shape.cluster);
  return status;
}

#else

// A launch as the runtime takes it, which it refers to.
struct LaunchConfig {
  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute attribute = {};

  template <class... Parameters>
  Status prepare(Stream stream, const Shape &shape, void (*kernel)(Parameters...)) {
    constexpr size_t kWithoutAsking = size_t{48} << 10;
    if (shape.shared > kWithoutAsking) {
      const Status status =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared));
      if (status != cudaSuccess) return status;
    }
    config.gridDim = dim3(shape.grid.x, shape.grid.y, shape.grid.z);
    config.blockDim = dim3(shape.threads);
    config.dynamicSmemBytes = shape.shared;
    config.stream = stream;
    if (shape.cluster == 1) return cudaSuccess;
    // Compiled for an older architecture it takes a cluster for one block (cluster.cuh).
    cudaFuncAttributes compiled = {};
    const Status status = cudaFuncGetAttributes(&compiled, kernel);
    if (status != cudaSuccess) return status;
    if (compiled.ptxVersion < 90) return cudaErrorNoKernelImageForDevice;
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = shape.cluster;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaSuccess;
  }
};

template <class... Parameters, class... Arguments>
Status launch_on(Stream stream, const Shape &shape, void (*kernel)(Parameters...), Arguments... arguments) {
  LaunchConfig launch;
  const Status status = launch.prepare(stream, shape, kernel);
  if (status != cudaSuccess) return status;
  return cudaLaunchKernelEx(&launch.config, kernel, static_cast<Parameters>(arguments)...);
}

// How many clusters of a launch the device runs at a time.
template <class... Parameters>
Status resident_clusters(const Shape &shape, void (*kernel)(Parameters...), int *clusters) {
  LaunchConfig launch;
  const Status status = launch.prepare(nullptr, shape, kernel);
  return status != cudaSuccess ? status : cudaOccupancyMaxActiveClusters(clusters, kernel, &launch.config);
}

#endif

}  // namespace lethe::cuda
