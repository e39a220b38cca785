// The knobs of the shim's device that an engine opens; of a real one, none.
#pragma once

#include <dlfcn.h>

#include <cstring>
#include <functional>
#include <string>

namespace lethe::test {

struct Shim {
  std::function<void(int, int, int)> set_device = [](int, int, int) {};  // error, major, minor
  std::function<void(int)> set_tensor_maps = [](int) {};

  Shim(const char *backend, const char *plugins) {
    if (std::strcmp(backend, "cuda_shim") != 0) return;
    void *library = dlopen((std::string(plugins) + "/liblethe_cuda_shim.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return;  // nor does an engine open then, and says why
    set_device = reinterpret_cast<void (*)(int, int, int)>(dlsym(library, "lethe_shim_set_device"));
    set_tensor_maps = reinterpret_cast<void (*)(int)>(dlsym(library, "lethe_shim_set_tensor_maps"));
  }
};

}  // namespace lethe::test
