// Loads of boxes by the tensor memory accelerator, and the mbarriers that they end at (compute capability 9.0; PTX ISA,
// "cp.async.bulk.tensor" and "mbarrier"). A box is rows of 64 numbers of bf16, 128 bytes, under the swizzle of
// wgmma.cuh; what of it lies outside of the matrix is 0.
#pragma once

#include "cluster.cuh"
#include "device.cuh"
#include "wgmma.cuh"

#if !defined(LETHE_CUDA_SHIM)
#include <cuda.h>
#endif

namespace lethe::cuda {

constexpr int kBoxColumns = 64;
constexpr int kBoxRow = kBoxColumns * 2;  // bytes

// A matrix in global memory, rows `ld` numbers apart, and the rows of a box of it. Its start and its rows are aligned
// to 16 bytes.
struct Boxes {
  const void *matrix;
  int64_t rows, columns, ld;
  int box_rows;  // 256 at most
};
int tensor_map(Device *device, const Boxes &boxes, CUtensorMap *map);
// Comes first, once: whether the driver can encode one; if not, the message says what helps.
int require_tensor_maps(Device *device);

// Whether the device would run the kernel's image with warpgroup products, which has this launch bound.
template <class... Parameters>
int wgmma_image(Device *device, void (*kernel)(Parameters...), int threads, bool *there) {
  cudaFuncAttributes compiled = {};
  LETHE_CUDA_CALL(device, cudaFuncGetAttributes(&compiled, kernel));
  *there = device->properties.major == 9 && compiled.maxThreadsPerBlock >= threads;
  return LETHE_OK;
}

#if defined(LETHE_CUDA_SHIM)

inline uint32_t shared_address(const void *at) { return shim::shared_address(at); }
inline void mbarrier_init(uint64_t *barrier, unsigned arrivals) { shim::mbarrier_init(barrier, arrivals); }
inline void mbarriers_made() { shim::mbarriers_shown(); }
inline void mbarrier_arrive(uint64_t *barrier) { shim::mbarrier_arrive(barrier); }
inline void mbarrier_arrive_at(uint64_t *barrier, unsigned rank) {
  shim::mbarrier_arrive(rank == cluster_rank() ? barrier : cluster_shared(barrier, rank));
}
inline void mbarrier_expect(uint64_t *barrier, unsigned bytes) { shim::mbarrier_expect(barrier, bytes); }
inline void mbarrier_wait(uint64_t *barrier, unsigned parity) { shim::mbarrier_wait(barrier, parity); }
inline void load_box(void *to, const CUtensorMap &map, int64_t column, int64_t row, uint64_t *barrier) {
  shim::load_tile(to, &map, static_cast<int>(column), static_cast<int>(row), barrier, 1u << cluster_rank());
}
inline void load_box_to(unsigned blocks, void *to, const CUtensorMap &map, int64_t column, int64_t row,
                        uint64_t *barrier) {
  shim::load_tile(to, &map, static_cast<int>(column), static_cast<int>(row), barrier, blocks);
}
inline void show_stores() { shim::stores_shown(); }

#else

// In the window of shared memory.
__device__ inline uint32_t shared_address(const void *at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}
// Phases that end when so many have arrived and all expected bytes are there.
__device__ inline void mbarrier_init(uint64_t *barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// By the thread that made them, before the others meet it: loads and other blocks see them, too.
__device__ inline void mbarriers_made() {
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;\n" ::: "memory");
}
__device__ inline void mbarrier_arrive(uint64_t *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
}
// At the barrier in the same place of the cluster's block `rank`.
__device__ inline void mbarrier_arrive_at(uint64_t *barrier, unsigned rank) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}
// Arrives, and the phase has so many bytes to wait for.
__device__ inline void mbarrier_expect(uint64_t *barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
// Until the phase of this parity is over: 0 the first, 1 the next; 1 is over, too, while the first goes on.
__device__ inline void mbarrier_wait(uint64_t *barrier, unsigned parity) {
  const uint32_t at = shared_address(barrier);
  uint32_t over = 0;
  while (over == 0) {
    asm volatile(
        "{\n.reg .pred over;\nmbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\nselp.u32 %0, 1, 0, over;\n}\n"
        : "=r"(over)
        : "r"(at), "r"(parity)
        : "memory");
  }
}
// The map lies in the kernel's parameters.
__device__ inline void load_box(void *to, const CUtensorMap &map, int64_t column, int64_t row, uint64_t *barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];\n" ::"r"(shared_address(to)),
      "l"(&map), "r"(static_cast<int>(column)), "r"(static_cast<int>(row)), "r"(shared_address(barrier))
      : "memory");
}
// To the same place in each of the cluster's blocks that the mask names; the barrier there gets the bytes.
__device__ inline void load_box_to(unsigned blocks, void *to, const CUtensorMap &map, int64_t column, int64_t row,
                                   uint64_t *barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
      "{%2, %3}], [%4], %5;\n" ::"r"(shared_address(to)),
      "l"(&map), "r"(static_cast<int>(column)), "r"(static_cast<int>(row)), "r"(shared_address(barrier)),
      "h"(static_cast<uint16_t>(blocks))
      : "memory");
}
// A thread's ordinary stores to shared memory, to products that come behind the barrier behind it.
__device__ inline void show_stores() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

#endif

}  // namespace lethe::cuda
