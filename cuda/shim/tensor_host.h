// On the host shim: mbarriers, loads by the tensor memory accelerator, and products of a warpgroup, as the PTX ISA
// describes them ("mbarrier", "cp.async.bulk.tensor", "wgmma.mma_async": matrix descriptors, canonical layouts,
// swizzle).
//
// What is asked for goes on beside the threads and ends as late as it may: when no thread can go on. Loads outlast
// products in every other block, products loads in the rest. What it finds: an mbarrier that was not made, gets more
// arrivals than it has places for, or whose phase nobody ends, that no fence has shown to loads or to other blocks, or
// that is left with bytes to wait for; a load that ends in another phase than it began in, as where too few bytes were
// expected; loads and products on their way when their block returns; addresses off their alignment or outside of
// shared memory; operands of a product, in memory or in registers, that change before it was waited for; products
// without a fence in front of them, or of ordinary stores that none has shown to them in front of a barrier; registers
// that part of a warpgroup asks for. Accumulators are NaN until they were waited for, as is memory from a load's
// beginning to its end.
#pragma once

#include "cuda_host.h"

// A tensor map and the driver's function that encodes it, as cuda.h has them but for the map's alignment.
struct CUtensorMap {
  uint64_t opaque[16];
};
using cuuint32_t = uint32_t;
using cuuint64_t = uint64_t;
using CUresult = int;
constexpr CUresult CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1;
enum CUtensorMapDataType { CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 = 9 };
enum CUtensorMapInterleave { CU_TENSOR_MAP_INTERLEAVE_NONE = 0 };
enum CUtensorMapSwizzle { CU_TENSOR_MAP_SWIZZLE_NONE = 0, CU_TENSOR_MAP_SWIZZLE_128B = 3 };
enum CUtensorMapL2promotion { CU_TENSOR_MAP_L2_PROMOTION_L2_256B = 3 };
enum CUtensorMapFloatOOBfill { CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE = 0 };
// Of two dimensions, in the swizzle of 128 bytes; the rest is refused, as is what the driver refuses.
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                                const uint64_t *sizes, const uint64_t *strides, const uint32_t *box,
                                const uint32_t *element_strides, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill);

namespace lethe::cuda::shim {

// Where dynamic shared memory begins in the window of shared memory: behind what is the system's and static.
constexpr uint32_t kSharedStart = 0x450;
// The address in that window of a place in the block's dynamic shared memory.
uint32_t shared_address(const void *at);

void mbarrier_init(uint64_t *barrier, unsigned arrivals);
// Loads and other blocks see the barriers that the thread has made.
void mbarriers_shown();
// Products behind the block's next barrier see what has been stored to its memory.
void stores_shown();
void mbarrier_arrive(uint64_t *barrier);
// Arrives, and the phase has so many more bytes to wait for.
void mbarrier_expect(uint64_t *barrier, unsigned bytes);
// Until a phase of this parity is over: 0 the first, 1 the next, and the one in front of the first.
void mbarrier_wait(const uint64_t *barrier, unsigned parity);

// Loads the box at column x and row y to the same place in each block of the cluster that the mask names, whose barrier
// at the same place gets the bytes.
void load_tile(void *to, const CUtensorMap *map, int x, int y, uint64_t *barrier, unsigned blocks);

struct Product {
  float *c;           // accumulators of the thread: columns / 2
  int columns;        // of B and C
  const uint32_t *a;  // four registers; null: A is in shared memory, by rows
  uint64_t a_at, b_at;
  bool b_by_rows;  // B[16, columns] stands by rows (MN-major); otherwise by columns
};
// A warpgroup's C[64,columns] += A[64,16] B[16,columns].
void product(const Product &mine);
void products_fence();
void products_commit();
void products_wait(int groups_left);
// The warpgroup's threads have another number of registers.
void registers_changed();

}  // namespace lethe::cuda::shim
