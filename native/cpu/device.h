// The CPU backend's state, and what its ops share.
//
// Every file of this folder is compiled once per instruction set (see native/CMakeLists.txt) into a library of its own,
// so that no inline function of one set can be linked into another.
#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>

#include "lethe_backend.h"
#include "scratch.h"

namespace lethe::cpu {
class GemmCache;  // gemm.h
struct GemmCacheDelete {
  void operator()(GemmCache *cache) const;
};
using GemmCachePtr = std::unique_ptr<GemmCache, GemmCacheDelete>;
}  // namespace lethe::cpu

struct lethe_device {
  const lethe_host *host;
  int threads;
  lethe::cpu::GemmCachePtr gemm_cache;
  // For the op that runs; each numbers its own.
  lethe::cpu::Scratch scratch[4] = {};
  lethe::cpu::Scratch attention_scratch = {};
  int64_t copies_aside = 0;
};

namespace lethe::cpu {

using Device = lethe_device;

inline int fail(const Device *device, int status, const char *file, int line, const std::string &message) {
  return device->host->fail(status, file, line, message.c_str());
}

// The engine's thread count for the duration of an op. OpenMP keeps that setting per calling thread: results depend on
// it, and so does the speed of other libraries that the thread calls.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : threads_(omp_get_max_threads()), dynamic_(omp_get_dynamic()) {
    omp_set_num_threads(threads);
    omp_set_dynamic(0);
  }
  ~ThreadCount() {
    omp_set_num_threads(threads_);
    omp_set_dynamic(dynamic_);
  }
  ThreadCount(const ThreadCount &) = delete;
  ThreadCount &operator=(const ThreadCount &) = delete;

 private:
  int threads_, dynamic_;
};

// Runs an op's body with the engine's thread count.
template <class Body>
int run(Device *device, const char *op, Body &&body) noexcept {
  try {
    const ThreadCount engines(device->threads);
    return body();
  } catch (const std::bad_alloc &) {
    return device->host->fail(LETHE_OUT_OF_MEMORY, op, 0, "out of memory");
  } catch (const std::exception &e) {
    return device->host->fail(LETHE_INTERNAL, op, 0, e.what());
  }
}

// The half-open range of `n` items that thread `index` of `count` owns: fixed, so that sums keep their order.
struct Range {
  int64_t begin, end;
};
inline Range share(int64_t n, int index, int count) { return {n * index / count, n * (index + 1) / count}; }

int synchronize(Device *device);
int host_memory(Device *device, int64_t *free_bytes, int64_t *total_bytes);
int alloc(Device *device, int64_t bytes, void **address);
void free(Device *device, void *address);
int write(Device *device, void *dst, const void *src, int64_t bytes);
int read(Device *device, const void *src, void *dst, int64_t bytes);
int copy(Device *device, void *dst, const void *src, int64_t bytes);
int alloc_host(Device *device, int64_t bytes, void **address);
int copy_aside(Device *device, void *dst, const void *src, int64_t bytes, int64_t *ticket);
int wait_aside(Device *device, int64_t ticket);
int zero(Device *device, void *dst, int64_t bytes);
int convert(Device *device, int64_t n, int32_t src_dtype, const void *src, int32_t dst_dtype, void *dst);
int random_normal(Device *device, int32_t dtype, int64_t n, uint64_t seed, int64_t first, float std, void *dst);
int nf4_quantize(Device *device, const lethe_nf4_args *args);
int nf4_dequantize(Device *device, const lethe_nf4_args *args);

int norm_forward(Device *device, const lethe_norm_args *args);
int norm_backward(Device *device, const lethe_norm_args *args);

int embedding_forward(Device *device, const lethe_embedding_args *args);
int embedding_backward(Device *device, const lethe_embedding_args *args);
int gather_rows(Device *device, const lethe_rows_args *args);
int scatter_rows(Device *device, const lethe_rows_args *args);

int linear_forward(Device *device, const lethe_linear_args *args);
int linear_backward(Device *device, const lethe_linear_args *args);

int gradient_norm(Device *device, int64_t n, const float *g, float max_norm, float *state);
int adamw(Device *device, const lethe_adamw_args *args);
int head_mean(Device *device, int32_t dtype, int64_t d, int64_t V, const void *w, float *mean);
int head_workspace(Device *device, int32_t dtype, int64_t n, int64_t d, int64_t V, int64_t *least, int64_t *most);
int head_forward(Device *device, const lethe_head_args *args);
int head_combine(Device *device, const lethe_head_args *args);
int head_norm_backward(Device *device, const lethe_head_norm_args *args);
int head_backward(Device *device, const lethe_head_args *args);
int head_sample(Device *device, const lethe_sample_args *args);
int rotary(Device *device, const lethe_rotary_args *args);
int attention_forward(Device *device, const lethe_attention_args *args);
int attention_backward(Device *device, const lethe_attention_args *args);

int gated_forward(Device *device, const lethe_gated_args *args);
int gated_backward(Device *device, const lethe_gated_args *args);
int activation_forward(Device *device, const lethe_activation_args *args);
int activation_backward(Device *device, const lethe_activation_args *args);

}  // namespace lethe::cpu

#define LETHE_CPU_FAIL(device, status, message) ::lethe::cpu::fail((device), (status), __FILE__, __LINE__, (message))
