// The part of cuBLASLt's C interface that gemm.cu uses, declared here so that no header of it is needed to build and no
// library of it to load. Names, values and layouts are those of cublasLt.h, the same since CUDA 11.0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lethe::cuda::blaslt {

using Handle = struct HandleTag *;
using MatmulDesc = struct MatmulDescTag *;
using MatrixLayout = struct MatrixLayoutTag *;
using Preference = struct PreferenceTag *;
using BlasStatus = int;  // cublasStatus_t

struct Algo {
  uint64_t data[8];
};
struct HeuristicResult {
  Algo algo;
  size_t workspace_bytes;
  BlasStatus state;
  float waves;
  int reserved[4];
};

constexpr BlasStatus kSuccess = 0, kInvalidValue = 7, kNotSupported = 15;
constexpr int kF32 = 0, kBf16 = 14;  // cudaDataType_t
constexpr int kCompute32F = 68;      // CUBLAS_COMPUTE_32F: fp32 products of fp32, no TF32
enum MatmulAttribute { kTransposeA = 3, kTransposeB = 4, kEpilogue = 7, kBiasPointer = 8 };
constexpr int kNoTranspose = 0, kTranspose = 1;
constexpr int kEpilogueDefault = 1, kEpilogueBias = 4;
enum LayoutAttribute { kBatchCount = 5, kBatchStep = 6 };  // int32_t; int64_t elements
enum PreferenceAttribute {
  kWorkspaceBytes = 1,
  kReductionMask = 3,
  kAlignmentA = 5,
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8
};
// An algorithm's CUBLASLT_ALGO_CONFIG_SPLITK_NUM and CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME.
enum AlgoAttribute { kSplitK = 2, kReduction = 3 };

// X(field, symbol, parameters)
#define LETHE_CUBLASLT_FUNCTIONS(X)                                                                                  \
  X(create, cublasLtCreate, (Handle *))                                                                              \
  X(destroy, cublasLtDestroy, (Handle))                                                                              \
  X(desc_create, cublasLtMatmulDescCreate, (MatmulDesc *, int compute, int scale))                                   \
  X(desc_destroy, cublasLtMatmulDescDestroy, (MatmulDesc))                                                           \
  X(desc_set, cublasLtMatmulDescSetAttribute, (MatmulDesc, int attribute, const void *value, size_t bytes))          \
  X(layout_create, cublasLtMatrixLayoutCreate, (MatrixLayout *, int type, uint64_t rows, uint64_t columns, int64_t)) \
  X(layout_destroy, cublasLtMatrixLayoutDestroy, (MatrixLayout))                                                     \
  X(layout_set, cublasLtMatrixLayoutSetAttribute, (MatrixLayout, int attribute, const void *value, size_t bytes))    \
  X(preference_create, cublasLtMatmulPreferenceCreate, (Preference *))                                               \
  X(preference_destroy, cublasLtMatmulPreferenceDestroy, (Preference))                                               \
  X(preference_set, cublasLtMatmulPreferenceSetAttribute, (Preference, int attribute, const void *value, size_t))    \
  X(heuristic, cublasLtMatmulAlgoGetHeuristic,                                                                       \
    (Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d, Preference, int wanted,     \
     HeuristicResult *, int *found))                                                                                 \
  X(algo_get, cublasLtMatmulAlgoConfigGetAttribute,                                                                  \
    (const Algo *, int attribute, void *value, size_t bytes, size_t *written))                                       \
  X(matmul, cublasLtMatmul,                                                                                          \
    (Handle, MatmulDesc, const void *alpha, const void *a, MatrixLayout, const void *b, MatrixLayout,                \
     const void *beta, const void *c, MatrixLayout, void *d, MatrixLayout, const Algo *, void *workspace, size_t,    \
     cudaStream_t))

struct Functions {
// A declarator and its parameters: neither can stand in parentheses.
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define LETHE_FIELD(field, symbol, parameters) BlasStatus(*field) parameters = nullptr;
  LETHE_CUBLASLT_FUNCTIONS(LETHE_FIELD)
#undef LETHE_FIELD
};

}  // namespace lethe::cuda::blaslt
