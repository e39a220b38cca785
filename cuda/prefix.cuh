// Sums over the threads before each thread of a block, in a fixed order.
#pragma once

#include "common.cuh"

namespace lethe::cuda {

template <class Number>
__device__ Number warp_prefix(Number x) {
  for (unsigned step = 1; step < kWarp; step *= 2) {
    const Number before = __shfl_up_sync(kAllLanes, x, step);
    if (threadIdx.x % kWarp >= step) x += before;
  }
  return x;
}

// The sum of x over the threads before this one, and over all. The block is a whole number of warps.
template <class Number>
__device__ Number block_prefix(Number x, Number *total) {
  __shared__ Number sums[kMaxWarps];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const Number own = warp_prefix(x);
  if (lane == kWarp - 1) sums[warp] = own;
  __syncthreads();  // the warps' sums are written
  const Number all = warp_prefix(lane < warps ? sums[lane] : Number{});
  const Number warps_before = __shfl_sync(kAllLanes, all, warp == 0 ? 0 : warp - 1);
  const Number lanes_before = __shfl_up_sync(kAllLanes, own, 1);
  *total = __shfl_sync(kAllLanes, all, kWarp - 1);
  __syncthreads();  // sums may be written again
  return (warp == 0 ? Number{} : warps_before) + (lane == 0 ? Number{} : lanes_before);
}

}  // namespace lethe::cuda
