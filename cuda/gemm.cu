#include <map>
#include <tuple>

#include "blas_library.h"
#include "gemm.h"
#include "number.cuh"

namespace lethe::cuda {

using namespace blaslt;

namespace {

// What cuBLAS recommends for Hopper; less on the shim, whose twin needs none.
#if defined(LETHE_CUDA_SHIM)
constexpr size_t kWorkspace = 256;
#else
constexpr size_t kWorkspace = size_t{32} << 20;
#endif
constexpr int64_t kLeastBucket = 128;

int type_of(int32_t dtype) { return dtype == LETHE_BF16 ? kBf16 : kF32; }

// The largest power of two, 256 at most, that all rows of a matrix, and of a batch's, start at: the same for any of
// them.
uint32_t alignment_of(const void *data, int64_t ld, int32_t dtype, int64_t step = 0) {
  const uint64_t bits = reinterpret_cast<uint64_t>(data) | static_cast<uint64_t>(ld * element_bytes(dtype)) |
                        static_cast<uint64_t>(step * element_bytes(dtype)) | 256u;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

uint32_t alignment_of(const Operand &x, int32_t dtype) { return alignment_of(x.data, x.ld, dtype, x.step); }
uint32_t alignment_of_c(const Gemm &g) { return alignment_of(g.c, g.ldc, g.c_dtype, g.c_step); }

// 0: no bias. cuBLASLt has no preference for it: the heuristic looks at the pointer, and what it chooses is for such.
uint32_t bias_alignment(const Gemm &g) { return g.bias == nullptr ? 0 : alignment_of(g.bias, 0, g.c_dtype); }
// The epilogue's kernels load the bias in pieces of 16 bytes, whatever the heuristic says.
constexpr uint32_t kLeastBiasAlignment = 16;

// All that an algorithm's choice may depend on.
using Key = std::tuple<int32_t, int32_t, bool, bool, uint32_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                       uint32_t, uint32_t, uint32_t, int64_t, int64_t, int64_t, int64_t, int64_t>;

constexpr unsigned kThreads = 256;

// c = beta * from + bias, for products that must do without the epilogue.
template <class T>
__global__ void __launch_bounds__(kThreads)
    start_kernel(int64_t rows, int64_t columns, int64_t ld, float beta, const T *from, const T *bias, T *c) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = i / columns, column = i % columns, at = row * ld + column;
  if (row >= rows) return;
  const float kept = beta == 0.0f ? 0.0f : beta * to_float(from[at]);
  from_float(kept + to_float(bias[column]), c + at);
}

template <class T>
int start_with_bias(Device *device, const Gemm &g) {
  const int64_t n = g.M * g.N;
  const Shape shape = {
      "start_with_bias", {blocks_of(n, kThreads)}, kThreads, 0, n * int64_t{sizeof(T)} * (g.beta == 0.0f ? 1 : 2)};
  return launch(device, shape, start_kernel<T>, g.M, g.N, g.ldc, g.beta,
                static_cast<const T *>(g.from == nullptr ? g.c : g.from), static_cast<const T *>(g.bias),
                static_cast<T *>(g.c));
}

}  // namespace

class Blas {
 public:
  ~Blas() {
    for (auto &entry : descs_) {
      if (entry.second != nullptr) f_.desc_destroy(entry.second);
    }
    if (handle_ != nullptr) f_.destroy(handle_);
    cudaFree(workspace_);
  }

  int open(Device *device, const char *plugin_dir);
  int multiply(Device *device, Gemm g, int64_t *choices);
  const std::string &version() const { return version_; }

 private:
  // What is known of a kind of product: how many algorithms there are to choose from, and the chosen one, by its place.
  struct Choice {
    int64_t count;
    int64_t tiles;
    Algo algo;
  };
  // The three matrices as cuBLAS sees them: column-major, so that C^T = op(B)^T op(A)^T.
  struct Layouts {
    const Functions &f;
    MatrixLayout first = nullptr, second = nullptr, out = nullptr;
    ~Layouts() {
      for (MatrixLayout layout : {first, second, out}) {
        if (layout != nullptr) f.layout_destroy(layout);
      }
    }
  };

  int make_layouts(Device *device, const Gemm &g, int64_t M, int64_t K, Layouts *layouts);
  int desc_of(Device *device, const Gemm &g, MatmulDesc *desc);
  bool takes(const HeuristicResult &result, size_t workspace);
  int choose(Device *device, const Gemm &g, int64_t M, int64_t K, MatmulDesc desc, Choice *choice);
  int choice_of(Device *device, const Gemm &g, bool exact, MatmulDesc desc, const Choice **choice);
  int add_bias_first(Device *device, Gemm *g);
  int prepare(Device *device, Gemm *g);
  int product(Device *device, const Gemm &g, bool exact, BlasStatus *status, Choice *made);
  int attempt(Device *device, const Gemm &g, BlasStatus *status, Choice *made);

  Functions f_;
  Handle handle_ = nullptr;
  void *workspace_ = nullptr;
  std::string version_;
  std::map<std::tuple<bool, bool, bool>, MatmulDesc> descs_;
  std::map<Key, Choice> choices_;
};

void BlasDelete::operator()(Blas *blas) const { delete blas; }

int Blas::open(Device *device, const char *plugin_dir) {
  LETHE_CUDA_TRY(load_blas(device, plugin_dir, &f_, &version_));
  const BlasStatus status = f_.create(&handle_);
  if (status != kSuccess) {
    return LETHE_CUDA_FAIL(device, LETHE_NO_DEVICE,
                           "cublasLtCreate answers " + std::to_string(status) + " (" + version_ +
                               "); is it made for this driver? Name another one in LETHE_CUBLASLT");
  }
  LETHE_CUDA_CALL(device, cudaMalloc(&workspace_, kWorkspace));
  return LETHE_OK;
}

int Blas::make_layouts(Device *device, const Gemm &g, int64_t M, int64_t K, Layouts *layouts) {
  BlasStatus status = kSuccess;
  const auto make = [&](MatrixLayout *layout, int32_t dtype, int64_t rows, int64_t columns, int64_t ld, int64_t step) {
    if (status != kSuccess) return;
    status = f_.layout_create(layout, type_of(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld);
    if (g.batch == 1) return;
    const auto count = static_cast<int32_t>(g.batch);
    if (status == kSuccess) status = f_.layout_set(*layout, kBatchCount, &count, sizeof count);
    if (status == kSuccess) status = f_.layout_set(*layout, kBatchStep, &step, sizeof step);
  };
  make(&layouts->first, g.dtype, g.b.transposed ? K : g.N, g.b.transposed ? g.N : K, g.b.ld, g.b.step);
  make(&layouts->second, g.dtype, g.a.transposed ? M : K, g.a.transposed ? K : M, g.a.ld, g.a.step);
  make(&layouts->out, g.c_dtype, g.N, M, g.ldc, g.c_step);
  return status == kSuccess
             ? static_cast<int>(LETHE_OK)
             : LETHE_CUDA_FAIL(device, LETHE_INTERNAL, "cublasLtMatrixLayout answers " + std::to_string(status));
}

int Blas::desc_of(Device *device, const Gemm &g, MatmulDesc *desc) {
  const auto key = std::make_tuple(g.a.transposed, g.b.transposed, g.bias != nullptr);
  MatmulDesc made = descs_[key];
  BlasStatus status = kSuccess;
  if (made == nullptr) {
    status = f_.desc_create(&made, kCompute32F, kF32);
    const int first = g.b.transposed ? kTranspose : kNoTranspose, second = g.a.transposed ? kTranspose : kNoTranspose;
    const int epilogue = g.bias != nullptr ? kEpilogueBias : kEpilogueDefault;
    if (status == kSuccess) status = f_.desc_set(made, kTransposeA, &first, sizeof first);
    if (status == kSuccess) status = f_.desc_set(made, kTransposeB, &second, sizeof second);
    if (status == kSuccess) status = f_.desc_set(made, kEpilogue, &epilogue, sizeof epilogue);
    if (status == kSuccess) {
      descs_[key] = made;
    } else if (made != nullptr) {
      f_.desc_destroy(made);
    }
  }
  if (status == kSuccess && g.bias != nullptr) status = f_.desc_set(made, kBiasPointer, &g.bias, sizeof g.bias);
  *desc = made;
  return status == kSuccess
             ? static_cast<int>(LETHE_OK)
             : LETHE_CUDA_FAIL(device, LETHE_INTERNAL, "cublasLtMatmulDesc answers " + std::to_string(status));
}

// Whether an algorithm sums each element in one go, in at most so much workspace.
bool Blas::takes(const HeuristicResult &result, size_t workspace) {
  int32_t split = 1;
  uint32_t reduction = 0;
  size_t written = 0;
  f_.algo_get(&result.algo, kSplitK, &split, sizeof split, &written);
  f_.algo_get(&result.algo, kReduction, &reduction, sizeof reduction, &written);
  return result.state == kSuccess && split <= 1 && reduction == 0 && result.workspace_bytes <= workspace;
}

// One of cuBLAS's heuristic's algorithms that sum each element in one go: the first, or the one in place g.tiles. One
// that needs no workspace is sure to: stream-K kernels split sums without saying so in either attribute, by a tile's
// place in the grid, and meet in the workspace; so the first of the others is a last resort.
int Blas::choose(Device *device, const Gemm &g, int64_t M, int64_t K, MatmulDesc desc, Choice *choice) {
  Layouts layouts{f_};
  LETHE_CUDA_TRY(make_layouts(device, g, M, K, &layouts));
  Preference preference = nullptr;
  BlasStatus status = f_.preference_create(&preference);
  const auto set = [&](int attribute, auto value) {
    if (status == kSuccess) status = f_.preference_set(preference, attribute, &value, sizeof value);
  };
  set(kWorkspaceBytes, kWorkspace);
  set(kReductionMask, uint32_t{0});
  set(kAlignmentA, alignment_of(g.b, g.dtype));
  set(kAlignmentB, alignment_of(g.a, g.dtype));
  set(kAlignmentC, alignment_of_c(g));
  set(kAlignmentD, alignment_of_c(g));
  constexpr int kWanted = 32;
  HeuristicResult results[kWanted] = {};
  int found = 0;
  if (status == kSuccess) {
    status = f_.heuristic(handle_, desc, layouts.first, layouts.second, layouts.out, layouts.out, preference, kWanted,
                          results, &found);
  }
  if (preference != nullptr) f_.preference_destroy(preference);
  if (status != kSuccess) found = 0;
  for (int i = 0; i < found; ++i) {
    if (!takes(results[i], 0)) continue;
    if (choice->count == 0 || choice->count == g.tiles) *choice = {choice->count, choice->count, results[i].algo};
    ++choice->count;
  }
  for (int i = 0; i < found && choice->count == 0; ++i) {
    if (takes(results[i], kWorkspace)) *choice = {1, 0, results[i].algo};
  }
  if (choice->count > 0 || g.bias != nullptr) return LETHE_OK;  // there is another way to add a bias
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED,
                         "cuBLASLt has no algorithm without split-K for M=" + std::to_string(M) +
                             " N=" + std::to_string(g.N) + " K=" + std::to_string(K) + " (" + version_ + ", status " +
                             std::to_string(status) + ")");
}

int Blas::choice_of(Device *device, const Gemm &g, bool exact, MatmulDesc desc, const Choice **choice) {
  // Where M counts tokens it is rounded up; in a gradient of weights K does.
  const int64_t M = exact || g.a.transposed ? g.M : bucket_of(g.M);
  const int64_t K = exact || !g.a.transposed || g.b.transposed ? g.K : bucket_of(g.K);
  const Key key = {g.dtype,
                   g.c_dtype,
                   g.a.transposed,
                   g.b.transposed,
                   bias_alignment(g),
                   M,
                   g.N,
                   K,
                   g.a.ld,
                   g.b.ld,
                   g.ldc,
                   alignment_of(g.a, g.dtype),
                   alignment_of(g.b, g.dtype),
                   alignment_of_c(g),
                   g.batch,
                   g.a.step,
                   g.b.step,
                   g.c_step,
                   g.tiles};
  const auto known = choices_.find(key);
  if (known != choices_.end()) {
    *choice = &known->second;
    return LETHE_OK;
  }
  Choice made = {};
  LETHE_CUDA_TRY(choose(device, g, M, K, desc, &made));
  *choice = &choices_.emplace(key, made).first->second;
  return LETHE_OK;
}

int Blas::add_bias_first(Device *device, Gemm *g) {
  LETHE_CUDA_TRY(g->c_dtype == LETHE_BF16 ? start_with_bias<bf16>(device, *g) : start_with_bias<float>(device, *g));
  g->bias = nullptr;
  g->from = nullptr;
  g->beta = 1.0f;
  return LETHE_OK;
}

// Rewrites a product whose `from` or bias the algorithm could not read: which one it is must not depend on `from`.
int Blas::prepare(Device *device, Gemm *g) {
  if (g->beta == 0.0f || g->from == g->c) g->from = nullptr;
  if (g->from != nullptr && alignment_of(g->from, g->ldc, g->c_dtype, g->c_step) < alignment_of_c(*g)) {
    const int64_t width = element_bytes(g->c_dtype);
    for (int64_t i = 0; i < g->batch; ++i) {
      const int64_t at = i * g->c_step * width;
      LETHE_CUDA_TRY(fill_rows(device, static_cast<char *>(g->c) + at, static_cast<const char *>(g->from) + at,
                               g->ldc * width, g->N * width, g->M));
    }
    g->from = nullptr;
  }
  if (g->bias == nullptr) return LETHE_OK;
  if (bias_alignment(*g) >= kLeastBiasAlignment) {
    MatmulDesc desc = nullptr;
    const Choice *choice = nullptr;
    LETHE_CUDA_TRY(desc_of(device, *g, &desc));
    LETHE_CUDA_TRY(choice_of(device, *g, false, desc, &choice));
    if (choice->count > 0) return LETHE_OK;
  }
  return add_bias_first(device, g);
}

int Blas::product(Device *device, const Gemm &g, bool exact, BlasStatus *status, Choice *made) {
  MatmulDesc desc = nullptr;
  LETHE_CUDA_TRY(desc_of(device, g, &desc));
  Layouts layouts{f_};
  LETHE_CUDA_TRY(make_layouts(device, g, g.M, g.K, &layouts));
  const Choice *choice = nullptr;
  LETHE_CUDA_TRY(choice_of(device, g, exact, desc, &choice));
  *made = *choice;
  *status = choice->count == 0 ? kNotSupported
                               : f_.matmul(handle_, desc, &g.alpha, g.b.data, layouts.first, g.a.data, layouts.second,
                                           &g.beta, g.from == nullptr ? g.c : g.from, layouts.out, g.c, layouts.out,
                                           &choice->algo, workspace_, kWorkspace, device->stream);
  return LETHE_OK;
}

// cublasLtMatmul checks the algorithm against the product that it gets, and launches nothing when it refuses: where the
// bucket's algorithm does not take this very shape, the shape gets one of its own, the same every time.
int Blas::attempt(Device *device, const Gemm &g, BlasStatus *status, Choice *made) {
  LETHE_CUDA_TRY(product(device, g, false, status, made));
  if (*status != kNotSupported && *status != kInvalidValue) return LETHE_OK;
  return product(device, g, true, status, made);
}

// What a product reads and writes at least: what all of a batch read counts once. `tiles`: the algorithm's place.
std::string record_of(const Device *device, const Gemm &g, int64_t tiles) {
  const auto times = [&](const Operand &x) { return x.step == 0 ? 1 : g.batch; };
  const int64_t bytes = (g.M * times(g.a) + g.N * times(g.b)) * g.K * element_bytes(g.dtype) +
                        g.batch * g.M * g.N * element_bytes(g.c_dtype) * (g.beta != 0.0f ? 2 : 1);
  return std::string(R"({"op":")") + device->fault.op + R"(","gemm":[)" + std::to_string(g.M) + "," +
         std::to_string(g.N) + "," + std::to_string(g.K) + "]" +
         (g.batch == 1 ? "" : R"(,"batch":)" + std::to_string(g.batch)) +
         (tiles == 0 ? "" : R"(,"tiles":)" + std::to_string(tiles)) + R"(,"bytes":)" + std::to_string(bytes) + "}";
}

int Blas::multiply(Device *device, Gemm g, int64_t *choices) {
  if (g.M == 0 || g.N == 0) return LETHE_OK;
  if (g.K == 0) return LETHE_CUDA_FAIL(device, LETHE_INTERNAL, "a product over nothing");
  const Gemm asked = g;
  LETHE_CUDA_TRY(prepare(device, &g));
  BlasStatus status = kSuccess;
  Choice made = {};
  LETHE_CUDA_TRY(attempt(device, g, &status, &made));
  if (status == kNotSupported && g.bias != nullptr) {
    LETHE_CUDA_TRY(add_bias_first(device, &g));
    LETHE_CUDA_TRY(attempt(device, g, &status, &made));
  }
  if (choices != nullptr) *choices = made.count;
  if (status == kSuccess) {
    if (device->recording) record(device, record_of(device, asked, made.tiles));
    return LETHE_OK;
  }
  // cuBLASLt has a runtime of its own: only the driver can tell ours what broke the context.
  const cudaError_t error = device->capturing ? cudaSuccess : cudaStreamSynchronize(device->stream);
  if (error != cudaSuccess) return fail_cuda(device, error, __FILE__, __LINE__, "cublasLtMatmul");
  return LETHE_CUDA_FAIL(device, LETHE_INTERNAL,
                         "cublasLtMatmul answers " + std::to_string(status) + " for M=" + std::to_string(g.M) +
                             " N=" + std::to_string(g.N) + " K=" + std::to_string(g.K) + " (" + version_ + ")");
}

int64_t bucket_of(int64_t rows) {
  int64_t bucket = kLeastBucket;
  while (bucket < rows) bucket *= 2;
  return bucket;
}

int open_blas(Device *device, const char *plugin_dir) {
  std::unique_ptr<Blas, BlasDelete> blas(new Blas());
  LETHE_CUDA_TRY(blas->open(device, plugin_dir));
  device->blas = std::move(blas);
  return LETHE_OK;
}

std::string blas_version(const Device *device) { return device->blas->version(); }

int gemm(Device *device, const Gemm &g) { return gemm(device, g, nullptr); }
int gemm(Device *device, const Gemm &g, int64_t *choices) { return device->blas->multiply(device, g, choices); }

}  // namespace lethe::cuda
