// A plain twin of cuBLASLt over host memory: the functions that gemm.cu calls, as cublasLt.h documents them, with every
// argument held against the descriptors. gemm.cu itself runs on it, transposes, leading dimensions and all.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

using cudaStream_t = struct CUstream_st *;
#include "../cublaslt.h"

namespace blaslt = lethe::cuda::blaslt;

namespace lethe::cuda::blaslt {
struct HandleTag {
  int unused;
};
struct MatmulDescTag {
  int compute, scale;
  int transpose_a, transpose_b, epilogue;
  const void *bias;
};
struct MatrixLayoutTag {
  int type;
  uint64_t rows, columns;
  int64_t ld;
};
struct PreferenceTag {
  uint32_t alignment[4];
  uint32_t reductions;
  size_t workspace;
};
}  // namespace lethe::cuda::blaslt

namespace {

constexpr int kInvalid = 7;  // CUBLAS_STATUS_INVALID_VALUE
using blaslt::MatrixLayoutTag;

size_t bytes_of(int type) { return type == blaslt::kBf16 ? 2 : 4; }

float load(const void *data, int type, size_t i) {
  float f = 0;
  if (type == blaslt::kBf16) {
    uint16_t half = 0;
    std::memcpy(&half, static_cast<const char *>(data) + 2 * i, 2);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    std::memcpy(&f, &bits, 4);
  } else {
    std::memcpy(&f, static_cast<const char *>(data) + 4 * i, 4);
  }
  return f;
}

void store(void *data, int type, size_t i, float f) {
  if (type == blaslt::kBf16) {
    uint32_t bits = 0;
    std::memcpy(&bits, &f, 4);
    const auto half = static_cast<uint16_t>(f != f ? 0x7fff : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    std::memcpy(static_cast<char *>(data) + 2 * i, &half, 2);
  } else {
    std::memcpy(static_cast<char *>(data) + 4 * i, &f, 4);
  }
}

// op(X) [rows, columns] as rows of its own, fp32.
std::vector<float> spread(const void *data, const MatrixLayoutTag &layout, bool transposed) {
  const uint64_t rows = transposed ? layout.columns : layout.rows, columns = transposed ? layout.rows : layout.columns;
  std::vector<float> all(rows * columns);
  const auto ld = static_cast<uint64_t>(layout.ld);
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < columns; ++c) {
      all[r * columns + c] = load(data, layout.type, transposed ? r * ld + c : c * ld + r);
    }
  }
  return all;
}

bool misaligned(const void *p, int type) { return reinterpret_cast<uintptr_t>(p) % bytes_of(type) != 0; }

}  // namespace

#define LETHE_TWIN extern "C" __attribute__((visibility("default")))

LETHE_TWIN size_t cublasLtGetVersion() { return 0; }
LETHE_TWIN int cublasLtCreate(blaslt::Handle *handle) {
  *handle = new blaslt::HandleTag{};
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtDestroy(blaslt::Handle handle) {
  delete handle;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulDescCreate(blaslt::MatmulDesc *desc, int compute, int scale) {
  if (compute != blaslt::kCompute32F || scale != blaslt::kF32) return kInvalid;
  *desc = new blaslt::MatmulDescTag{compute, scale, 0, 0, blaslt::kEpilogueDefault, nullptr};
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulDescDestroy(blaslt::MatmulDesc desc) {
  delete desc;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulDescSetAttribute(blaslt::MatmulDesc desc, int attribute, const void *value, size_t bytes) {
  if (attribute == blaslt::kBiasPointer && bytes == sizeof(void *)) {
    std::memcpy(&desc->bias, value, bytes);
    return blaslt::kSuccess;
  }
  int *field = attribute == blaslt::kTransposeA   ? &desc->transpose_a
               : attribute == blaslt::kTransposeB ? &desc->transpose_b
               : attribute == blaslt::kEpilogue   ? &desc->epilogue
                                                  : nullptr;
  if (field == nullptr || bytes != sizeof(int)) return kInvalid;
  std::memcpy(field, value, bytes);
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatrixLayoutCreate(blaslt::MatrixLayout *layout, int type, uint64_t rows, uint64_t columns,
                                          int64_t ld) {
  if (rows == 0 || columns == 0 || ld < static_cast<int64_t>(rows)) return kInvalid;
  *layout = new MatrixLayoutTag{type, rows, columns, ld};
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatrixLayoutDestroy(blaslt::MatrixLayout layout) {
  delete layout;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulPreferenceCreate(blaslt::Preference *preference) {
  *preference = new blaslt::PreferenceTag{};
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulPreferenceDestroy(blaslt::Preference preference) {
  delete preference;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulPreferenceSetAttribute(blaslt::Preference preference, int attribute, const void *value,
                                                    size_t bytes) {
  void *field = attribute == blaslt::kWorkspaceBytes  ? static_cast<void *>(&preference->workspace)
                : attribute == blaslt::kReductionMask ? static_cast<void *>(&preference->reductions)
                : attribute >= blaslt::kAlignmentA && attribute <= blaslt::kAlignmentD
                    ? static_cast<void *>(&preference->alignment[attribute - blaslt::kAlignmentA])
                    : nullptr;
  if (field == nullptr || bytes != (attribute == blaslt::kWorkspaceBytes ? 8u : 4u)) return kInvalid;
  std::memcpy(field, value, bytes);
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulAlgoGetHeuristic(blaslt::Handle, blaslt::MatmulDesc desc, blaslt::MatrixLayout a,
                                              blaslt::MatrixLayout b, blaslt::MatrixLayout c, blaslt::MatrixLayout d,
                                              blaslt::Preference preference, int wanted,
                                              blaslt::HeuristicResult *results, int *found) {
  if (wanted < 2 || a->type != b->type || c->type != d->type || desc == nullptr) return kInvalid;
  for (const uint32_t alignment : preference->alignment) {
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) return kInvalid;
  }
  // The first one splits K, which its caller must not take; the second says what it was chosen for.
  results[0] = {{{2}}, 0, blaslt::kSuccess, 1.0f, {}};
  results[1] = {{{1, preference->alignment[0], preference->alignment[1], preference->alignment[3]}},
                0,
                blaslt::kSuccess,
                1.0f,
                {}};
  *found = 2;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulAlgoConfigGetAttribute(const blaslt::Algo *algo, int attribute, void *value, size_t bytes,
                                                    size_t *written) {
  if (attribute != blaslt::kSplitK || bytes != sizeof(int)) return kInvalid;
  const int split = static_cast<int>(algo->data[0]);
  std::memcpy(value, &split, sizeof split);
  *written = sizeof split;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmul(blaslt::Handle, blaslt::MatmulDesc desc, const void *alpha, const void *a,
                              blaslt::MatrixLayout la, const void *b, blaslt::MatrixLayout lb, const void *beta,
                              const void *c, blaslt::MatrixLayout lc, void *d, blaslt::MatrixLayout ld,
                              const blaslt::Algo *algo, void *, size_t, cudaStream_t) {
  const bool ta = desc->transpose_a != 0, tb = desc->transpose_b != 0;
  const uint64_t rows = ta ? la->columns : la->rows, inner = ta ? la->rows : la->columns;
  const uint64_t columns = tb ? lb->rows : lb->columns, inner_b = tb ? lb->columns : lb->rows;
  if (inner != inner_b || ld->rows != rows || ld->columns != columns || algo->data[0] != 1) return kInvalid;
  const void *places[] = {a, b, d};
  for (int i = 0; i < 3; ++i) {  // an algorithm must not see less alignment than it was chosen for
    if (reinterpret_cast<uintptr_t>(places[i]) % algo->data[1 + i] != 0) return kInvalid;
  }
  if (misaligned(a, la->type) || misaligned(b, lb->type) || misaligned(d, ld->type)) return kInvalid;
  float scale = 0, keep = 0;
  std::memcpy(&scale, alpha, 4);
  std::memcpy(&keep, beta, 4);
  // As rows: each of the sums is a chain over K.
  const std::vector<float> left = spread(b, *lb, !tb), right = spread(a, *la, !ta);
  std::vector<float> sums(rows);
  for (uint64_t j = 0; j < columns; ++j) {
    sums.assign(rows, 0.0f);
    for (uint64_t k = 0; k < inner; ++k) {
      const float x = left[j * inner + k];
      const float *row = right.data() + k * rows;
      for (uint64_t i = 0; i < rows; ++i) sums[i] += x * row[i];
    }
    for (uint64_t i = 0; i < rows; ++i) {
      float value = scale * sums[i];
      if (keep != 0.0f) value += keep * load(c, lc->type, j * static_cast<uint64_t>(lc->ld) + i);
      if (desc->epilogue == blaslt::kEpilogueBias) value += load(desc->bias, ld->type, i);
      store(d, ld->type, j * static_cast<uint64_t>(ld->ld) + i, value);
    }
  }
  return blaslt::kSuccess;
}
