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

// Lets a kernel be launched with so much dynamic shared memory. Unless a kernel asks for more, its static and its
// dynamic memory have 48 KiB together. It asks once, for all that the device has: the limit is the kernel's, and holds
// for launches of any size, those of other threads and of captured graphs among them.
template <class... Parameters>
Status allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  cudaFuncAttributes compiled = {};
  Status status = cudaFuncGetAttributes(&compiled, kernel);
  if (status != cudaSuccess || static_cast<size_t>(compiled.maxDynamicSharedSizeBytes) >= bytes) return status;
  int device = 0, most = 0;
  status = cudaGetDevice(&device);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status != cudaSuccess) return status;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              most - static_cast<int>(compiled.sharedSizeBytes));
}

#if defined(LETHE_CUDA_SHIM)

template <class... Parameters, class... Arguments>
Status launch_on(Stream stream, const Shape &shape, void (*kernel)(Parameters...), Arguments... arguments) {
  shim::computes(stream);
  if (shim::captures(stream)) {
    return shim::put(stream, [=] { return launch_on(nullptr, shape, kernel, arguments...); });
  }
  const Status lost = shim::lost();
  if (lost != cudaSuccess) return lost;
  if (shape.sm_90a && shim::major_capability() != 9) return cudaErrorNoKernelImageForDevice;
  const Status allowed = allow_shared(kernel, shape.shared);
  if (allowed != cudaSuccess) return allowed;
  if (shape.shared > shim::dynamic_limit(reinterpret_cast<const void *>(kernel))) return cudaErrorInvalidValue;
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
    const Status allowed = allow_shared(kernel, shape.shared);
    if (allowed != cudaSuccess) return allowed;
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
