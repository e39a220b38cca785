// Tensor cores and asynchronous copies: the instructions with nvcc, written out with the host shim. The layout of
// fragments stands here once, as the functions both sides use (PTX ISA, "Matrix Fragments for mma.m16n8k16").
#pragma once

#include "number.cuh"

namespace lethe::cuda {

struct At {
  int row, column;
};
// Where number i of a lane's fragment stands: in A[16,16] i of 8, in B[16,8] i of 4, in C[16,8] i of 4. Two bf16 share
// a register, the first in the low half.
__host__ __device__ constexpr At fragment_a(int lane, int i) {
  return {lane / 4 + i / 2 % 2 * 8, lane % 4 * 2 + i % 2 + i / 4 * 8};
}
__host__ __device__ constexpr At fragment_b(int lane, int i) { return {lane % 4 * 2 + i % 2 + i / 2 * 8, lane / 4}; }
__host__ __device__ constexpr At fragment_c(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }
// Lane l of an ldmatrix gives the address of row l % 8 of matrix l / 8; register m of a lane is two neighbours of a row
// (transposed: of a column) of matrix m.
__host__ __device__ constexpr At fragment_matrix(int lane, int half, bool transposed) {
  return transposed ? At{lane % 4 * 2 + half, lane / 4} : At{lane / 4, lane % 4 * 2 + half};
}

#if defined(LETHE_CUDA_SHIM)

namespace shim {

struct MmaOperands {
  float *c;
  const uint32_t *a, *b;
};
inline float half_of(uint32_t pair, int half) { return __uint_as_float(half == 0 ? pair << 16 : pair & 0xffff0000u); }
inline void mma(void *(&brought)[kLanes]) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < int{kLanes}; ++lane) {
    const auto *mine = static_cast<const MmaOperands *>(brought[lane]);
    for (int i = 0; i < 8; ++i) a[fragment_a(lane, i).row][fragment_a(lane, i).column] = half_of(mine->a[i / 2], i % 2);
    for (int i = 0; i < 4; ++i) b[fragment_b(lane, i).row][fragment_b(lane, i).column] = half_of(mine->b[i / 2], i % 2);
  }
  for (int lane = 0; lane < int{kLanes}; ++lane) {
    const auto *mine = static_cast<const MmaOperands *>(brought[lane]);
    for (int i = 0; i < 4; ++i) {
      const At at = fragment_c(lane, i);
      for (int k = 0; k < 16; ++k) mine->c[i] += a[at.row][k] * b[k][at.column];
    }
  }
}

struct MatrixLoad {
  const uint16_t *row;
  uint32_t *to;
};
template <bool kTransposed>
void load_matrices(void *(&brought)[kLanes]) {
  for (int lane = 0; lane < int{kLanes}; ++lane) {
    for (int m = 0; m < 4; ++m) {
      uint32_t halves[2];
      for (int half = 0; half < 2; ++half) {
        const At at = fragment_matrix(lane, half, kTransposed);
        halves[half] = static_cast<const MatrixLoad *>(brought[m * 8 + at.row])->row[at.column];
      }
      static_cast<const MatrixLoad *>(brought[lane])->to[m] = halves[0] | halves[1] << 16;
    }
  }
}

}  // namespace shim

// c[16,8] += a[16,16] b[16,8], of bf16 in fp32.
inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) {
  shim::MmaOperands mine = {c, a, b};
  shim::warp_meet(&mine, shim::mma);
}
template <bool kTransposed>
void load_matrices(uint32_t (&to)[4], const bf16 *row) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) throw shim::ShimError("ldmatrix from an address off 16 bytes");
  shim::registers_written();
  shim::MatrixLoad mine = {&row->bits, to};
  shim::warp_meet(&mine, shim::load_matrices<kTransposed>);
}
template <class T>
void copy_16_async(T *to, const T *from, bool there) {
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16 != 0) {
    throw shim::ShimError("an asynchronous copy off 16 bytes");
  }
  shim::copy_async(to, there ? from : nullptr, 16);
}
inline void copies_commit() { shim::copy_commit(); }
template <int kLeft>
void copies_wait() {
  shim::copy_wait(kLeft);
}
inline float exp2_approx(float x) { return exp2f(x); }
inline uint32_t times_bf16(uint32_t pair, uint32_t factors) {
  const auto half = [&](int i) { return bf16_bits(shim::half_of(pair, i) * shim::half_of(factors, i)); };
  return half(0) | static_cast<uint32_t>(half(1)) << 16;
}
inline uint32_t pack_bf16(float low, float high) {
  return bf16_bits(low) | static_cast<uint32_t>(bf16_bits(high)) << 16;
}

#else

__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <bool kTransposed>
__device__ void load_matrices(uint32_t (&to)[4], const bf16 *row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  }
}
// Zeros unless it is `there`; `from` is an address in global memory in either case.
template <class T>
__device__ void copy_16_async(T *to, const T *from, bool there) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void copies_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kLeft>
__device__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kLeft) : "memory");
}
// 2^x within two units in the last place; 0 where it would be subnormal.
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Two products of bf16, each rounded.
__device__ inline uint32_t times_bf16(uint32_t pair, uint32_t factors) {
  __nv_bfloat162 x, y;
  memcpy(&x, &pair, sizeof x);
  memcpy(&y, &factors, sizeof y);
  x = __hmul2(x, y);
  memcpy(&pair, &x, sizeof x);
  return pair;
}
__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.x)) | static_cast<uint32_t>(__bfloat16_as_ushort(pair.y))
                                                                   << 16;
}

#endif

// Fragments from shared memory, rows `pitch` apart, with 16-byte aligned rows whose pitch leaves eight of them on
// different banks.
// A[16,16] at `tile`, stored by rows.
__device__ inline void load_a(uint32_t (&a)[4], const bf16 *tile, int pitch) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  load_matrices<false>(a, tile + lane % 16 * pitch + lane / 16 * 8);
}
// Two of B[16,8], for neighbouring columns of C: b[0..1] and b[2..3]; stored by columns, [16 columns][16].
__device__ inline void load_b(uint32_t (&b)[4], const bf16 *tile, int pitch) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  load_matrices<false>(b, tile + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8);
}
// The same of a B stored by rows, [16][16 columns].
__device__ inline void load_b_rows(uint32_t (&b)[4], const bf16 *tile, int pitch) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  load_matrices<true>(b, tile + lane % 16 * pitch + lane / 16 * 8);
}

}  // namespace lethe::cuda
