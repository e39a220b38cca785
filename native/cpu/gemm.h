// Matrix products through oneDNN: the one way every op of the CPU backend multiplies matrices.
//
// Same bits on every run with the same thread count. A row of C does not depend on M, nor on where the row stands, when
// A is not transposed: every part of C is summed by one thread, single rows are computed as one of two (oneDNN has
// other kernels for M = 1), and tests/native/linear_test.cpp holds oneDNN to the rest.
#pragma once

#include <cstdint>

#include "device.h"

namespace lethe::cpu {

// A row-major matrix with `ld` elements from row to row; transposed: the product sees its transpose.
struct Operand {
  const void *data;
  int64_t ld;
  bool transposed = false;
};

// c[M,N] = alpha * op(a)[M,K] * op(b)[K,N] + beta * c, accumulated in fp32 and rounded once to c's dtype. a and b are
// of `dtype`. With beta = 0, c is not read. alpha and beta are compiled into the kernel: keep to few values.
struct Gemm {
  int32_t dtype;
  int32_t c_dtype;
  int64_t M, N, K;
  Operand a, b;
  void *c;
  int64_t ldc;
  float alpha = 1.0f;
  float beta = 0.0f;
};

// Throws std::bad_alloc or dnnl::error. Call it outside of parallel regions, from within run().
void gemm(Device *device, const Gemm &g);

// Compiled kernels of the shapes seen last, and oneDNN's scratch memory.
GemmCachePtr make_gemm_cache(int threads);

}  // namespace lethe::cpu
