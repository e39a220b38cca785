// Finding cuBLASLt and opening it at run time.
#pragma once

#include <string>

#include "device.cuh"
// It speaks of streams.
#include "cublaslt.h"

namespace lethe::cuda {

// LETHE_NO_DEVICE says where it was looked for. version: "cublaslt 13.1.1".
int load_blas(Device *device, const char *plugin_dir, blaslt::Functions *functions, std::string *version);

}  // namespace lethe::cuda
