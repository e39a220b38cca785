// Matrix products through cuBLASLt: the one way every op of the CUDA backend multiplies matrices.
//
// cuBLASLt is opened at run time, by name or by a path in LETHE_CUBLASLT, and its few functions are declared in
// cublaslt.h: a machine without it gets an answer. For each kind of product (dtypes, N, K, leading dimensions,
// alignment, and M rounded up to a power of two of at least 128) an algorithm without split-K is chosen once (the first
// in cuBLASLt's order, or the one that `tiles` says), and used for every M that rounds up to it: a row of C depends on
// neither M nor its place within such a bucket, nor on beta or `from`. In products of op(a) = a^T with b as it is,
// gradients of weights, K is rounded up so instead of M.
//
// fp32 products are fp32 (no TF32), unless cuBLAS's own environment variables say otherwise. cuBLASLt wants M, N and K
// below 2^31.
#pragma once

#include <cstdint>
#include <string>

#include "device.cuh"

namespace lethe::cuda {

// A row-major matrix with `ld` elements from row to row; transposed: the product sees its transpose.
struct Operand {
  const void *data;
  int64_t ld;
  bool transposed = false;
  int64_t step = 0;
};

// c[M,N] = alpha * op(a)[M,K] * op(b)[K,N] + beta * from + bias, accumulated in fp32 and rounded once to c's dtype. a
// and b are of `dtype`, bias[N] of c's; fp32 a and b make no bf16 c. from null: c itself; `from` has c's dtype and
// leading dimension. With beta 0 neither is read. Where no algorithm adds the bias (one that does not start on 16
// bytes, say), beta * from + bias is rounded to c first. M, N or K of 0 is no product: K 0 is LETHE_INTERNAL, as
// nothing would be written. batch > 1: as many products, the operands, c and `from` of each `step` elements behind the
// last one's (0 for one that all of them read); no bias then. tiles: which of the algorithms for such a product, which
// differ in their tiles first of all, by its place in cuBLASLt's order; the first where there are fewer.
struct Gemm {
  int32_t dtype;
  int32_t c_dtype;
  int64_t M, N, K;
  Operand a, b;
  void *c;
  int64_t ldc;
  float alpha = 1.0f;
  float beta = 0.0f;
  const void *from = nullptr;
  const void *bias = nullptr;
  int64_t batch = 1;
  int64_t c_step = 0;
  int64_t tiles = 0;
};

int gemm(Device *device, const Gemm &g);
// The same; `choices`: how many algorithms `tiles` may choose from.
int gemm(Device *device, const Gemm &g, int64_t *choices);
// What M is rounded up to where an algorithm is chosen. A step that goes with the rows of c must go with this instead,
// as steps belong to the kind of product.
int64_t bucket_of(int64_t rows);

// Opens cuBLASLt for the device; LETHE_NO_DEVICE says where it was looked for. `plugin_dir` is looked in too.
int open_blas(Device *device, const char *plugin_dir);
// "cublaslt 13.1.1", for the engine's description.
std::string blas_version(const Device *device);

}  // namespace lethe::cuda
