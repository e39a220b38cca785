#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <tuple>
#include <vector>

#include "cublaslt.h"
#include "gemm.h"

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

int64_t bucket_of(int64_t n) {
  int64_t bucket = kLeastBucket;
  while (bucket < n) bucket *= 2;
  return bucket;
}

int type_of(int32_t dtype) { return dtype == LETHE_BF16 ? kBf16 : kF32; }

// The largest power of two, 256 at most, that all of a matrix's rows start at.
uint32_t alignment_of(const void *data, int64_t ld, int32_t dtype) {
  const uint64_t bits = reinterpret_cast<uint64_t>(data) | static_cast<uint64_t>(ld * element_bytes(dtype)) | 256u;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// All that an algorithm's choice may depend on.
using Key = std::tuple<int32_t, int32_t, bool, bool, bool, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                       uint32_t, uint32_t, uint32_t>;

}  // namespace

class Blas {
 public:
  ~Blas() {
    for (auto &entry : descs_) f_.desc_destroy(entry.second);
    if (handle_ != nullptr) f_.destroy(handle_);
    cudaFree(workspace_);
    if (library_ != nullptr) dlclose(library_);
  }

  int open(Device *device, const char *plugin_dir);
  int multiply(Device *device, const Gemm &g);
  const std::string &version() const { return version_; }

 private:
  struct Functions {
#define LETHE_FIELD(field, symbol, parameters) BlasStatus(*field) parameters = nullptr;
    LETHE_CUBLASLT_FUNCTIONS(LETHE_FIELD)
#undef LETHE_FIELD
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

  bool load(const std::string &path, std::string *why);
  int make_layouts(Device *device, const Gemm &g, int64_t M, int64_t K, Layouts *layouts);
  int desc_of(Device *device, const Gemm &g, MatmulDesc *desc);
  int choose(Device *device, const Gemm &g, int64_t M, int64_t K, MatmulDesc desc, Algo *algo);
  int algo_of(Device *device, const Gemm &g, bool exact, MatmulDesc desc, const Algo **algo);
  BlasStatus product(Device *device, const Gemm &g, MatmulDesc desc, const Layouts &layouts, const Algo *algo);

  void *library_ = nullptr;
  Functions f_;
  Handle handle_ = nullptr;
  void *workspace_ = nullptr;
  std::string version_;
  std::map<std::tuple<bool, bool, bool>, MatmulDesc> descs_;
  std::map<Key, Algo> algos_;
};

void BlasDelete::operator()(Blas *blas) const { delete blas; }

namespace {

// Where cuBLASLt may be, best first.
std::vector<std::string> candidates(const char *plugin_dir) {
  std::vector<std::string> paths;
  if (const char *given = std::getenv("LETHE_CUBLASLT"); given != nullptr && *given != '\0') return {given};
#if defined(LETHE_CUDA_SHIM)
  return {std::string(plugin_dir) + "/libcublaslt_twin.so"};
#endif
  paths.push_back(std::string(plugin_dir) + "/libcublasLt.so.13");
  for (const char *name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) paths.push_back(name);
  std::vector<std::string> patterns = {"/usr/local/cuda/lib64/libcublasLt.so.1[23]",
                                       "/usr/local/cuda-1[23]*/lib64/libcublasLt.so.1[23]"};
  std::vector<std::string> prefixes = {"/usr/lib/python3", "/usr/local/lib/python3*", "/opt/conda/lib/python3*"};
  if (const char *home = std::getenv("HOME")) prefixes.push_back(std::string(home) + "/.local/lib/python3*");
  for (const char *name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const char *root = std::getenv(name)) prefixes.insert(prefixes.begin(), std::string(root) + "/lib/python3*");
  }
  for (const std::string &prefix : prefixes) {
    for (const char *packages : {"site-packages", "dist-packages"}) {
      patterns.push_back(prefix + "/" + packages + "/nvidia/c*/lib/libcublasLt.so.1[23]");
    }
  }
  for (const std::string &pattern : patterns) {
    glob_t found = {};
    if (::glob(pattern.c_str(), 0, nullptr, &found) == 0) {
      for (size_t i = found.gl_pathc; i > 0; --i) paths.push_back(found.gl_pathv[i - 1]);
    }
    ::globfree(&found);
  }
  return paths;
}

}  // namespace

bool Blas::load(const std::string &path, std::string *why) {
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    *why = dlerror();
    return false;
  }
  Functions f;
  const char *missing = nullptr;
#define LETHE_LOAD(field, symbol, parameters)                             \
  f.field = reinterpret_cast<decltype(f.field)>(dlsym(library, #symbol)); \
  if (f.field == nullptr) missing = #symbol;
  LETHE_CUBLASLT_FUNCTIONS(LETHE_LOAD)
#undef LETHE_LOAD
  if (missing != nullptr) {
    *why = path + " has no " + missing;
    dlclose(library);
    return false;
  }
  auto version = reinterpret_cast<size_t (*)()>(dlsym(library, "cublasLtGetVersion"));
  version_ = "cublaslt " + std::to_string(version == nullptr ? 0 : version());
  library_ = library;
  f_ = f;
  return true;
}

int Blas::open(Device *device, const char *plugin_dir) {
  std::string why, tried;
  for (const std::string &path : candidates(plugin_dir)) {
    if (load(path, &why)) break;
    tried += "\n    " + why;
  }
  if (library_ == nullptr) {
    return LETHE_CUDA_FAIL(device, LETHE_NO_DEVICE,
                           "cuBLASLt was not found; install it (the CUDA toolkit, or `pip install nvidia-cublas`), or "
                           "name the file: LETHE_CUBLASLT=/path/to/libcublasLt.so.13. Tried:" +
                               tried);
  }
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
  const auto make = [&](MatrixLayout *layout, int32_t dtype, int64_t rows, int64_t columns, int64_t ld) {
    return f_.layout_create(layout, type_of(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld);
  };
  BlasStatus status =
      g.b.transposed ? make(&layouts->first, g.dtype, K, g.N, g.b.ld) : make(&layouts->first, g.dtype, g.N, K, g.b.ld);
  if (status == kSuccess) {
    status =
        g.a.transposed ? make(&layouts->second, g.dtype, M, K, g.a.ld) : make(&layouts->second, g.dtype, K, M, g.a.ld);
  }
  if (status == kSuccess) status = make(&layouts->out, g.c_dtype, g.N, M, g.ldc);
  return status == kSuccess
             ? static_cast<int>(LETHE_OK)
             : LETHE_CUDA_FAIL(device, LETHE_INTERNAL, "cublasLtMatrixLayoutCreate answers " + std::to_string(status));
}

int Blas::desc_of(Device *device, const Gemm &g, MatmulDesc *desc) {
  const auto key = std::make_tuple(g.a.transposed, g.b.transposed, g.bias != nullptr);
  MatmulDesc &made = descs_[key];
  BlasStatus status = kSuccess;
  if (made == nullptr) {
    status = f_.desc_create(&made, kCompute32F, kF32);
    const int first = g.b.transposed ? kTranspose : kNoTranspose, second = g.a.transposed ? kTranspose : kNoTranspose;
    const int epilogue = g.bias != nullptr ? kEpilogueBias : kEpilogueDefault;
    if (status == kSuccess) status = f_.desc_set(made, kTransposeA, &first, sizeof first);
    if (status == kSuccess) status = f_.desc_set(made, kTransposeB, &second, sizeof second);
    if (status == kSuccess) status = f_.desc_set(made, kEpilogue, &epilogue, sizeof epilogue);
  }
  if (status == kSuccess && g.bias != nullptr) status = f_.desc_set(made, kBiasPointer, &g.bias, sizeof g.bias);
  *desc = made;
  return status == kSuccess
             ? static_cast<int>(LETHE_OK)
             : LETHE_CUDA_FAIL(device, LETHE_INTERNAL, "cublasLtMatmulDesc answers " + std::to_string(status));
}

// The first algorithm of cuBLAS's heuristic that sums each element in one go.
int Blas::choose(Device *device, const Gemm &g, int64_t M, int64_t K, MatmulDesc desc, Algo *algo) {
  Layouts layouts{f_};
  LETHE_CUDA_TRY(make_layouts(device, g, M, K, &layouts));
  Preference preference = nullptr;
  BlasStatus status = f_.preference_create(&preference);
  const auto set = [&](int attribute, auto value) {
    if (status == kSuccess) status = f_.preference_set(preference, attribute, &value, sizeof value);
  };
  set(kWorkspaceBytes, kWorkspace);
  set(kReductionMask, uint32_t{0});
  set(kAlignmentA, alignment_of(g.b.data, g.b.ld, g.dtype));
  set(kAlignmentB, alignment_of(g.a.data, g.a.ld, g.dtype));
  const uint32_t out =
      std::min(alignment_of(g.c, g.ldc, g.c_dtype), alignment_of(g.from == nullptr ? g.c : g.from, g.ldc, g.c_dtype));
  set(kAlignmentC, out);
  set(kAlignmentD, out);
  constexpr int kWanted = 16;
  HeuristicResult results[kWanted] = {};
  int found = 0;
  if (status == kSuccess) {
    status = f_.heuristic(handle_, desc, layouts.first, layouts.second, layouts.out, layouts.out, preference, kWanted,
                          results, &found);
  }
  if (preference != nullptr) f_.preference_destroy(preference);
  for (int i = 0; status == kSuccess && i < found; ++i) {
    int split = 1;
    size_t written = 0;
    f_.algo_get(&results[i].algo, kSplitK, &split, sizeof split, &written);
    if (results[i].state == kSuccess && split <= 1 && results[i].workspace_bytes <= kWorkspace) {
      *algo = results[i].algo;
      return LETHE_OK;
    }
  }
  return LETHE_CUDA_FAIL(device, LETHE_UNSUPPORTED,
                         "cuBLASLt has no algorithm without split-K for M=" + std::to_string(M) +
                             " N=" + std::to_string(g.N) + " K=" + std::to_string(K) + " (" + version_ + ", status " +
                             std::to_string(status) + ")");
}

int Blas::algo_of(Device *device, const Gemm &g, bool exact, MatmulDesc desc, const Algo **algo) {
  // Where M counts tokens it is rounded up; in a gradient of weights K does.
  const int64_t M = exact || g.a.transposed ? g.M : bucket_of(g.M);
  const int64_t K = exact || !g.a.transposed || g.b.transposed ? g.K : bucket_of(g.K);
  const Key key = {
      g.dtype,
      g.c_dtype,
      g.a.transposed,
      g.b.transposed,
      g.bias != nullptr,
      M,
      g.N,
      K,
      g.a.ld,
      g.b.ld,
      g.ldc,
      alignment_of(g.a.data, g.a.ld, g.dtype),
      alignment_of(g.b.data, g.b.ld, g.dtype),
      std::min(alignment_of(g.c, g.ldc, g.c_dtype), alignment_of(g.from == nullptr ? g.c : g.from, g.ldc, g.c_dtype))};
  const auto known = algos_.find(key);
  if (known != algos_.end()) {
    *algo = &known->second;
    return LETHE_OK;
  }
  Algo chosen = {};
  LETHE_CUDA_TRY(choose(device, g, M, K, desc, &chosen));
  *algo = &algos_.emplace(key, chosen).first->second;
  return LETHE_OK;
}

BlasStatus Blas::product(Device *device, const Gemm &g, MatmulDesc desc, const Layouts &layouts, const Algo *algo) {
  return f_.matmul(handle_, desc, &g.alpha, g.b.data, layouts.first, g.a.data, layouts.second, &g.beta,
                   g.from == nullptr ? g.c : g.from, layouts.out, g.c, layouts.out, algo, workspace_, kWorkspace,
                   device->stream);
}

int Blas::multiply(Device *device, const Gemm &g) {
  if (g.M == 0 || g.N == 0) return LETHE_OK;
  if (g.K == 0) return LETHE_CUDA_FAIL(device, LETHE_INTERNAL, "a product over nothing");
  if (device->recording) {
    const int64_t bytes =
        (g.M + g.N) * g.K * element_bytes(g.dtype) + g.M * g.N * element_bytes(g.c_dtype) * (g.beta != 0.0f ? 2 : 1);
    record(device, std::string(R"({"op":")") + device->fault.op + R"(","gemm":[)" + std::to_string(g.M) + "," +
                       std::to_string(g.N) + "," + std::to_string(g.K) + R"(],"bytes":)" + std::to_string(bytes) + "}");
  }
  MatmulDesc desc = nullptr;
  LETHE_CUDA_TRY(desc_of(device, g, &desc));
  Layouts layouts{f_};
  LETHE_CUDA_TRY(make_layouts(device, g, g.M, g.K, &layouts));
  const Algo *algo = nullptr;
  LETHE_CUDA_TRY(algo_of(device, g, false, desc, &algo));
  BlasStatus status = product(device, g, desc, layouts, algo);
  if (status == kNotSupported) {
    // The bucket's algorithm does not take this very shape: it gets one of its own, the same every time.
    LETHE_CUDA_TRY(algo_of(device, g, true, desc, &algo));
    status = product(device, g, desc, layouts, algo);
  }
  if (status == kSuccess) return LETHE_OK;
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return fail_cuda(device, error, __FILE__, __LINE__, "cublasLtMatmul");
  return LETHE_CUDA_FAIL(device, LETHE_INTERNAL,
                         "cublasLtMatmul answers " + std::to_string(status) + " for M=" + std::to_string(g.M) +
                             " N=" + std::to_string(g.N) + " K=" + std::to_string(g.K) + " (" + version_ + ")");
}

int open_blas(Device *device, const char *plugin_dir) {
  std::unique_ptr<Blas, BlasDelete> blas(new Blas());
  LETHE_CUDA_TRY(blas->open(device, plugin_dir));
  device->blas = std::move(blas);
  return LETHE_OK;
}

std::string blas_version(const Device *device) { return device->blas->version(); }

int gemm(Device *device, const Gemm &g) { return device->blas->multiply(device, g); }

}  // namespace lethe::cuda
