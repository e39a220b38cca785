// Products of a warpgroup (compute capability 9.0a): 128 threads, accumulators in their registers, operands in shared
// memory, which go on beside the threads until they are waited for (PTX ISA, "wgmma.mma_async"). Instructions with
// nvcc, shim/tensor_host.h with the host shim; where an image has none, a kernel with them is compiled to nothing
// (wgmma_threads).
#pragma once

#include "mma.cuh"

#if defined(LETHE_CUDA_SHIM)
#include "shim/tensor_host.h"
#endif

namespace lethe::cuda {

constexpr int kWarpgroup = 128;  // threads of a warpgroup

#if defined(LETHE_CUDA_SHIM) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWgmma = true;
#else
constexpr bool kHasWgmma = false;
#endif

// The launch bound of a kernel with such products: a block that no launch asks for where its image has none, so that
// the host can tell (wgmma_image of tma.cuh).
constexpr int wgmma_threads(int threads) { return kHasWgmma ? threads : static_cast<int>(kWarp); }

// How an instruction is told of an operand in shared memory that lies in rows of 128 bytes under their swizzle, tiles
// of eight rows on 1024 bytes. By columns of B (rows of A; K-major): a row is 64 numbers along k, of which the
// instruction takes 16 from `address` on, and tiles are `stride` bytes apart; `leading` has no meaning. By rows of B
// (MN-major): a row is 64 columns at one k, tiles of eight k are `stride` apart, the next 64 columns `leading`.
__host__ __device__ constexpr uint64_t matrix_descriptor(uint32_t address, uint32_t leading, uint32_t stride) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return (address & 0x3ffffu) >> 4 | uint64_t{leading >> 4} << 16 | uint64_t{stride >> 4} << 32 | kSwizzle128;
}
constexpr uint32_t kSwizzleTile = 1024;
// A matrix whose rows of 128 bytes follow one another, by columns of B or rows of A.
__host__ __device__ constexpr uint64_t rows_descriptor(uint32_t address) {
  return matrix_descriptor(address, 16, kSwizzleTile);
}
// What an address in bytes moves on by is added to the descriptor in units of 16 bytes.
__host__ __device__ constexpr uint64_t moved_on(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}
// Where piece `piece` of 16 bytes of row `row` lies in such a tile, in bytes from its start on 1024.
__host__ __device__ constexpr int swizzled_at(int row, int piece) { return row * 128 + ((piece ^ (row & 7)) << 4); }

// Accumulators of m64nN: for each eight columns, the thread's four as in an mma's fragment_c, of the warp's 16 rows.
template <int kColumns>
using GroupTile = float[kColumns / 8][4];

#if defined(LETHE_CUDA_SHIM)

template <int kBlocks>
void wgmma(float (&c)[kBlocks][4], uint64_t a, uint64_t b) {
  shim::product({c[0], 8 * kBlocks, nullptr, a, b, false});
}
template <int kBlocks>
void wgmma_rows(float (&c)[kBlocks][4], const uint32_t (&a)[4], uint64_t b) {
  shim::product({c[0], 8 * kBlocks, a, 0, b, true});
}
inline void wgmma_fence() { shim::products_fence(); }
inline void wgmma_commit() { shim::products_commit(); }
template <int kLeft>
void wgmma_wait() {
  shim::products_wait(kLeft);
}
template <int kBlocks>
void wgmma_finish(float (&)[kBlocks][4]) {
  wgmma_wait<0>();
}
template <int kRegisters>
void take_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256, "what an instruction can say");
  shim::registers_changed();
}
template <int kRegisters>
void give_registers() {
  take_registers<kRegisters>();
}

#else

// "%10, %11, ... %19, " and so on: an assembler's names for operands.
#define LETHE_TEN(t) \
  "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define LETHE_FIRST_30 LETHE_TEN() LETHE_TEN(1) LETHE_TEN(2)
#define LETHE_32 "{" LETHE_FIRST_30 "%30, %31}"
#define LETHE_128                                                                                               \
  "{" LETHE_FIRST_30 LETHE_TEN(3) LETHE_TEN(4) LETHE_TEN(5) LETHE_TEN(6) LETHE_TEN(7) LETHE_TEN(8) LETHE_TEN(9) \
      LETHE_TEN(10) LETHE_TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127}"
// Accumulators of 8 columns, of 64, of 256.
#define LETHE_SUMS_8(t) "+f"(c[t][0]), "+f"(c[t][1]), "+f"(c[t][2]), "+f"(c[t][3])
#define LETHE_SUMS_64(t)                                                                               \
  LETHE_SUMS_8(t), LETHE_SUMS_8(t + 1), LETHE_SUMS_8(t + 2), LETHE_SUMS_8(t + 3), LETHE_SUMS_8(t + 4), \
      LETHE_SUMS_8(t + 5), LETHE_SUMS_8(t + 6), LETHE_SUMS_8(t + 7)
#define LETHE_SUMS_256 LETHE_SUMS_64(0), LETHE_SUMS_64(8), LETHE_SUMS_64(16), LETHE_SUMS_64(24)

// c[64,256] += a[64,16] b[16,256], of bf16 in fp32: both in shared memory, a by rows, b by columns.
__device__ inline void wgmma(float (&c)[32][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " LETHE_128 ", %128, %129, p, 1, 1, 0, 0;\n}\n"
      : LETHE_SUMS_256
      : "l"(a), "l"(b));
}
// c[64,64] += a[64,16] b[16,64].
__device__ inline void wgmma(float (&c)[8][4], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " LETHE_32 ", %32, %33, p, 1, 1, 0, 0;\n}\n"
      : LETHE_SUMS_64(0)
      : "l"(a), "l"(b));
}
// c[64,256] += a[64,16] b[16,256]: a in registers, each warp's 16 rows as an mma's fragment_a; b by rows.
__device__ inline void wgmma_rows(float (&c)[32][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " LETHE_128
      ", {%128, %129, %130, %131}, %132, p, 1, 1, 1;\n}\n"
      : LETHE_SUMS_256
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef LETHE_TEN
#undef LETHE_FIRST_30
#undef LETHE_32
#undef LETHE_128
#undef LETHE_SUMS_8
#undef LETHE_SUMS_64
#undef LETHE_SUMS_256

// Between other uses of registers and products that read them or add to them.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
// Until no more than kLeft of the groups that were committed are on their way.
template <int kLeft>
__device__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kLeft) : "memory");
}
// Until none is on its way; no use of the sums comes before it.
template <int kBlocks>
__device__ void wgmma_finish(float (&c)[kBlocks][4]) {
  wgmma_wait<0>();
#pragma unroll
  for (int t = 0; t < kBlocks; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(c[t][i])::"memory");
  }
}
// How many registers each thread of the warpgroup may have from here on, a multiple of 8; by all of its threads.
template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

#endif

}  // namespace lethe::cuda
