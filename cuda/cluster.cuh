// Thread block clusters: blocks that run at the same time, meet, and read each other's dynamic shared memory. Compute
// capability 9.0 and newer; below, a cluster is one block (Shape::cluster of launch.cuh is 1 there).
#pragma once

#include "common.cuh"

namespace lethe::cuda {

#if defined(LETHE_CUDA_SHIM)

inline unsigned cluster_rank() { return shim::current.cluster_rank; }
inline unsigned cluster_size() { return shim::current.cluster_size; }
inline void cluster_sync() { shim::cluster_barrier(); }
template <class T>
T *cluster_shared(T *mine, unsigned rank) {
  return static_cast<T *>(shim::cluster_shared(mine, rank));
}

#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

__device__ inline unsigned cluster_rank() { return __clusterRelativeBlockRank(); }
__device__ inline unsigned cluster_size() { return __clusterSizeInBlocks(); }
// What the cluster's threads wrote before it, to shared and to global memory, all of them see behind it.
__device__ inline void cluster_sync() {
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
}
// Where the same place of this block's dynamic shared memory lies in that of the cluster's block `rank`. Only between
// two cluster_sync: in front of the first that block may not have begun, behind the last it may have ended.
template <class T>
__device__ T *cluster_shared(T *mine, unsigned rank) {
  return static_cast<T *>(__cluster_map_shared_rank(mine, static_cast<int>(rank)));
}

#else

__device__ inline unsigned cluster_rank() { return 0; }
__device__ inline unsigned cluster_size() { return 1; }
__device__ inline void cluster_sync() { __syncthreads(); }
template <class T>
__device__ T *cluster_shared(T *mine, unsigned) {
  return mine;
}

#endif

}  // namespace lethe::cuda
