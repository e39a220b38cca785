// A plain twin of cuBLASLt over host memory: the functions that gemm.cu calls, as cublasLt.h documents them, with every
// argument held against the descriptors, and an algorithm against the product it was chosen for. gemm.cu itself runs on
// it, transposes, leading dimensions and all.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cuda_runtime_host.h"
//
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
  int32_t batch;
  int64_t step;
};
struct PreferenceTag {
  uint32_t alignment[4];
  uint32_t reductions;
  size_t workspace;
};
}  // namespace lethe::cuda::blaslt

namespace {

constexpr int kInvalid = blaslt::kInvalidValue;
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

bool aligned(const void *p, uint64_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

int heuristics = 0;
bool exact = false;
// Algorithms that differ in nothing but their tiles, and so in their time: all but the quick ones take so many
// milliseconds, by a clock that the test gives.
constexpr int kTiles = 3;
constexpr double kSlow = 1000;
int quick = -1;
void (*pass_time)(double milliseconds) = nullptr;

// What the product of descriptors is made of: rows and columns of D, and what is summed over; 0 where they do not fit.
struct Sizes {
  uint64_t rows, columns, inner;
};
Sizes sizes_of(const blaslt::MatmulDescTag &desc, const MatrixLayoutTag &a, const MatrixLayoutTag &b,
               const MatrixLayoutTag &d) {
  const bool ta = desc.transpose_a != 0, tb = desc.transpose_b != 0;
  const Sizes s = {d.rows, d.columns, ta ? a.rows : a.columns};
  const bool fit = a.batch == d.batch && b.batch == d.batch && (ta ? a.columns : a.rows) == s.rows &&
                   (tb ? b.rows : b.columns) == s.columns && (tb ? b.columns : b.rows) == s.inner;
  return fit ? s : Sizes{};
}

// bf16 or fp32 of bf16, or fp32 of fp32: the types that cuBLASLt has kernels for.
bool has_types(const MatrixLayoutTag &a, const MatrixLayoutTag &b, const MatrixLayoutTag &c, const MatrixLayoutTag &d) {
  return a.type == b.type && c.type == d.type && (a.type == blaslt::kBf16 || d.type == blaslt::kF32);
}

// What an algorithm says of itself, in the words of an Algo.
enum AlgoWord { kSplits, kScheme, kKind, kAlignments, kRows, kColumns, kInner, kTile };
uint64_t kind_of(const blaslt::MatmulDescTag &desc, const MatrixLayoutTag &a, const MatrixLayoutTag &d) {
  return static_cast<uint64_t>(desc.transpose_a) | static_cast<uint64_t>(desc.transpose_b) << 8 |
         static_cast<uint64_t>(desc.epilogue) << 16 | static_cast<uint64_t>(a.type) << 32 |
         static_cast<uint64_t>(d.type) << 48;
}
uint64_t alignment_in(const blaslt::Algo &algo, int matrix) { return algo.data[kAlignments] >> (16 * matrix) & 0xffff; }
// The heuristic looks at the bias's address: its kernels want what they were chosen for, 16 bytes at least.
constexpr uint64_t kBiasBytes = 16;

// Where the i-th matrix of a batch starts.
template <class Data>
Data *of_batch(Data *data, const MatrixLayoutTag &layout, int i) {
  using Byte = std::conditional_t<std::is_const_v<Data>, const char, char>;
  return static_cast<Byte *>(data) + i * layout.step * static_cast<int64_t>(bytes_of(layout.type));
}

// A product whose arguments are sound, as values: it may run long after its descriptors are gone.
struct Product {
  blaslt::MatmulDescTag desc;
  MatrixLayoutTag la, lb, lc, ld;
  Sizes sizes;
  float scale, keep;
  const void *a, *b, *c;
  void *d;
};

// As rows: each of the sums is a chain over K. One of a batch.
void multiply(const Product &p) {
  const bool ta = p.desc.transpose_a != 0, tb = p.desc.transpose_b != 0;
  const uint64_t rows = p.sizes.rows, columns = p.sizes.columns, inner = p.sizes.inner;
  const std::vector<float> left = spread(p.b, p.lb, !tb), right = spread(p.a, p.la, !ta);
  std::vector<float> sums(rows);
  for (uint64_t j = 0; j < columns; ++j) {
    sums.assign(rows, 0.0f);
    for (uint64_t k = 0; k < inner; ++k) {
      const float x = left[j * inner + k];
      const float *row = right.data() + k * rows;
      for (uint64_t i = 0; i < rows; ++i) sums[i] += x * row[i];
    }
    for (uint64_t i = 0; i < rows; ++i) {
      float value = p.scale * sums[i];
      if (p.keep != 0.0f) value += p.keep * load(p.c, p.lc.type, j * static_cast<uint64_t>(p.lc.ld) + i);
      if (p.desc.epilogue == blaslt::kEpilogueBias) value += load(p.desc.bias, p.ld.type, i);
      store(p.d, p.ld.type, j * static_cast<uint64_t>(p.ld.ld) + i, value);
    }
  }
}

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
  *layout = new MatrixLayoutTag{type, rows, columns, ld, 1, 0};
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatrixLayoutDestroy(blaslt::MatrixLayout layout) {
  delete layout;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatrixLayoutSetAttribute(blaslt::MatrixLayout layout, int attribute, const void *value,
                                                size_t bytes) {
  void *field = attribute == blaslt::kBatchCount  ? static_cast<void *>(&layout->batch)
                : attribute == blaslt::kBatchStep ? static_cast<void *>(&layout->step)
                                                  : nullptr;
  if (field == nullptr || bytes != (attribute == blaslt::kBatchCount ? 4u : 8u)) return kInvalid;
  std::memcpy(field, value, bytes);
  return layout->batch >= 1 ? blaslt::kSuccess : kInvalid;
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
  ++heuristics;
  *found = 0;
  const Sizes sizes = sizes_of(*desc, *a, *b, *d);
  if (wanted < 4 + kTiles || sizes.rows == 0 || c->rows != d->rows || c->columns != d->columns) return kInvalid;
  for (const uint32_t alignment : preference->alignment) {
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > 256) return kInvalid;
  }
  // Kernels that add a bias write D in pieces of 16 bytes.
  const bool bias = desc->epilogue == blaslt::kEpilogueBias;
  if (!has_types(*a, *b, *c, *d) || (bias && preference->alignment[3] < kBiasBytes)) return blaslt::kNotSupported;
  if (bias && (desc->bias == nullptr || !aligned(desc->bias, kBiasBytes))) return kInvalid;
  blaslt::Algo good = {};
  good.data[kSplits] = 1;
  good.data[kKind] = kind_of(*desc, *a, *d);
  for (int i = 0; i < 4; ++i) good.data[kAlignments] |= uint64_t{preference->alignment[i]} << (16 * i);
  good.data[kRows] = sizes.rows;
  good.data[kColumns] = sizes.columns;
  good.data[kInner] = sizes.inner;
  // Four that their caller must not take before it comes to the others, though the preference rules out the first two:
  // one splits K, one reduces in place, one does not run here, one keeps partial sums in the workspace.
  for (int i = 0; i < 4 + kTiles; ++i) results[i] = {good, 0, blaslt::kSuccess, 1.0f, {}};
  for (int tile = 0; tile < kTiles; ++tile) results[4 + tile].algo.data[kTile] = static_cast<uint64_t>(tile);
  results[0].algo.data[kSplits] = 2;
  results[1].algo.data[kScheme] = 1;
  results[2].state = blaslt::kNotSupported;
  results[2].algo.data[kColumns] = 0;
  results[3].workspace_bytes = preference->workspace;
  results[3].algo.data[kColumns] = 0;
  *found = 4 + kTiles;
  return blaslt::kSuccess;
}
LETHE_TWIN int cublasLtMatmulAlgoConfigGetAttribute(const blaslt::Algo *algo, int attribute, void *value, size_t bytes,
                                                    size_t *written) {
  if ((attribute != blaslt::kSplitK && attribute != blaslt::kReduction) || bytes != sizeof(int)) return kInvalid;
  const int answer = static_cast<int>(algo->data[attribute == blaslt::kSplitK ? kSplits : kScheme]);
  std::memcpy(value, &answer, sizeof answer);
  *written = sizeof answer;
  return blaslt::kSuccess;
}

// For tests: how often the heuristic was asked; and whether algorithms run only what they were chosen for to the size.
LETHE_TWIN int lethe_twin_heuristics() { return heuristics; }
LETHE_TWIN void lethe_twin_exact(int on) { exact = on != 0; }
// And which tiles are quick, by which clock; -1: all of them, as at first.
LETHE_TWIN void lethe_twin_quick(int tile, void (*clock)(double milliseconds)) {
  quick = tile;
  pass_time = clock;
}

LETHE_TWIN int cublasLtMatmul(blaslt::Handle, blaslt::MatmulDesc desc, const void *alpha, const void *a,
                              blaslt::MatrixLayout la, const void *b, blaslt::MatrixLayout lb, const void *beta,
                              const void *c, blaslt::MatrixLayout lc, void *d, blaslt::MatrixLayout ld,
                              const blaslt::Algo *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream) {
  const Sizes sizes = sizes_of(*desc, *la, *lb, *ld);
  if (sizes.rows == 0 || lc->type != ld->type || lc->rows != ld->rows || lc->columns != ld->columns ||
      lc->batch != ld->batch) {
    return kInvalid;
  }
  if (c == d && (lc->ld != ld->ld || lc->step != ld->step)) return kInvalid;
  if (ld->batch > 1 && (ld->step == 0 || desc->epilogue == blaslt::kEpilogueBias)) return kInvalid;
  const uint64_t rows = sizes.rows, columns = sizes.columns, inner = sizes.inner;
  if (algo->data[kSplits] != 1 || algo->data[kScheme] != 0 || algo->data[kKind] != kind_of(*desc, *la, *ld)) {
    return kInvalid;
  }
  const bool fits = rows <= algo->data[kRows] && columns <= algo->data[kColumns] && inner <= algo->data[kInner];
  const bool same = rows == algo->data[kRows] && columns == algo->data[kColumns] && inner == algo->data[kInner];
  if (!(exact ? same : fits)) return blaslt::kNotSupported;
  // An algorithm must not see less alignment than it was chosen for, in any row.
  const void *places[] = {a, b, c, d};
  const MatrixLayoutTag *layouts[] = {la, lb, lc, ld};
  for (int i = 0; i < 4; ++i) {
    const uint64_t bytes = bytes_of(layouts[i]->type), wanted = alignment_in(*algo, i);
    const bool row_aligned = static_cast<uint64_t>(layouts[i]->ld) * bytes % wanted == 0 &&
                             static_cast<uint64_t>(layouts[i]->step) * bytes % wanted == 0;
    if (places[i] == nullptr || !aligned(places[i], bytes) || !aligned(places[i], wanted) || !row_aligned)
      return kInvalid;
  }
  if (desc->epilogue == blaslt::kEpilogueBias && !aligned(desc->bias, kBiasBytes)) return kInvalid;
  if (workspace == nullptr || workspace_bytes == 0) return kInvalid;
  if (quick >= 0 && algo->data[kTile] != static_cast<uint64_t>(quick)) pass_time(kSlow);
  Product product = {*desc, *la, *lb, *lc, *ld, sizes, 0, 0, a, b, c, d};
  std::memcpy(&product.scale, alpha, 4);
  std::memcpy(&product.keep, beta, 4);
  lethe::cuda::shim::put(stream, [product] {
    for (int i = 0; i < product.ld.batch; ++i) {
      Product one = product;
      one.a = of_batch(product.a, product.la, i);
      one.b = of_batch(product.b, product.lb, i);
      one.c = of_batch(product.c, product.lc, i);
      one.d = of_batch(product.d, product.ld, i);
      multiply(one);
    }
    return cudaSuccess;
  });
  return blaslt::kSuccess;
}
