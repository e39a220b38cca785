#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <vector>

#include "blas_library.h"

namespace lethe::cuda {

using namespace blaslt;

namespace {

// Where cuBLASLt may be, best first.
std::vector<std::string> candidates(const char *plugin_dir) {
  if (const char *given = std::getenv("LETHE_CUBLASLT"); given != nullptr && *given != '\0') return {given};
#if defined(LETHE_CUDA_SHIM)
  return {std::string(plugin_dir) + "/libcublaslt_twin.so"};
#else
  std::vector<std::string> paths = {std::string(plugin_dir) + "/libcublasLt.so.13"};
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
#endif
}

bool load(const std::string &path, Functions *functions, std::string *version, std::string *why) {
  // It stays loaded: it has a runtime of its own, with exit handlers, and the next engine wants it again.
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
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
  auto get_version = reinterpret_cast<size_t (*)()>(dlsym(library, "cublasLtGetVersion"));
  const size_t v = get_version == nullptr ? 0 : get_version();
  *version =
      "cublaslt " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
  *functions = f;
  return true;
}

}  // namespace

int load_blas(Device *device, const char *plugin_dir, Functions *functions, std::string *version) {
  std::string why, tried;
  for (const std::string &path : candidates(plugin_dir)) {
    if (load(path, functions, version, &why)) return LETHE_OK;
    tried += "\n    " + why;
  }
  return LETHE_CUDA_FAIL(device, LETHE_NO_DEVICE,
                         "cuBLASLt was not found; install it (the CUDA toolkit, or `pip install nvidia-cublas`), or "
                         "name the file: LETHE_CUBLASLT=/path/to/libcublasLt.so.13. Tried:" +
                             tried);
}

}  // namespace lethe::cuda
