// The head's one seam to a matrix product.
#pragma once

#include "device.h"

namespace lethe::cpu {

// A matrix in memory: element (i, j) stands at data + i * row_stride + j * column_stride elements of dtype.
struct HeadMatrix {
  int32_t dtype;
  void *data;
  int64_t row_stride, column_stride;
};

// c[m,n] = a[m,k] b[k,n], or += with `accumulate`; sums are fp32. a and b have one dtype.
void head_gemm(int64_t m, int64_t n, int64_t k, const HeadMatrix &a, const HeadMatrix &b, const HeadMatrix &c,
               bool accumulate);

}  // namespace lethe::cpu
