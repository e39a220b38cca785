#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "device.h"
#include "number.h"

namespace lethe::cpu {
namespace {

template <class From, class To>
void convert_all(int64_t n, const void *src, void *dst) {
  const auto *from = static_cast<const From *>(src);
  auto *to = static_cast<To *>(dst);
  const int64_t blocks = n / kLanes;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < blocks; ++b) store(to + b * kLanes, load(from + b * kLanes));
  for (int64_t i = blocks * kLanes; i < n; ++i) from_float(to_float(from[i]), to + i);
}

// What could be had without swapping: file caches count, which free pages alone leave out. 0 where the kernel does not
// say.
int64_t available_bytes() {
  std::ifstream info("/proc/meminfo");
  std::string key, unit;
  for (int64_t kilobytes = 0; info >> key >> kilobytes; std::getline(info, unit)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

// Nothing is ever left to do.
int synchronize(Device *) { return LETHE_OK; }

int host_memory(Device *device, int64_t *free_bytes, int64_t *total_bytes) {
  return run(device, __func__, [&] {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t available = available_bytes();
    *total_bytes = sysconf(_SC_PHYS_PAGES) * page;
    *free_bytes = available > 0 ? available : sysconf(_SC_AVPHYS_PAGES) * page;
    return static_cast<int>(LETHE_OK);
  });
}

int alloc(Device *device, int64_t bytes, void **address) {
  constexpr int64_t kAlignment = 64;
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void *memory = std::aligned_alloc(kAlignment, static_cast<size_t>(rounded));
  if (memory == nullptr) {
    return LETHE_CPU_FAIL(device, LETHE_OUT_OF_MEMORY, "no " + std::to_string(bytes) + " bytes of host memory");
  }
  std::memset(memory, 0, static_cast<size_t>(rounded));
  *address = memory;
  return LETHE_OK;
}

void free(Device *, void *address) { std::free(address); }

int write(Device *, void *dst, const void *src, int64_t bytes) {
  std::memcpy(dst, src, static_cast<size_t>(bytes));
  return LETHE_OK;
}

int read(Device *, const void *src, void *dst, int64_t bytes) {
  std::memcpy(dst, src, static_cast<size_t>(bytes));
  return LETHE_OK;
}

int copy(Device *, void *dst, const void *src, int64_t bytes) {
  std::memcpy(dst, src, static_cast<size_t>(bytes));
  return LETHE_OK;
}

int zero(Device *, void *dst, int64_t bytes) {
  std::memset(dst, 0, static_cast<size_t>(bytes));
  return LETHE_OK;
}

int convert(Device *device, int64_t n, int32_t src_dtype, const void *src, int32_t dst_dtype, void *dst) {
  return run(device, __func__, [&] {
    const bool from_bf16 = src_dtype == LETHE_BF16;
    const bool to_bf16 = dst_dtype == LETHE_BF16;
    if (from_bf16 && to_bf16) {
      convert_all<bf16, bf16>(n, src, dst);
    } else if (from_bf16) {
      convert_all<bf16, float>(n, src, dst);
    } else if (to_bf16) {
      convert_all<float, bf16>(n, src, dst);
    } else {
      convert_all<float, float>(n, src, dst);
    }
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
