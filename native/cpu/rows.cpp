// Gathering and scattering rows. Bytes move as they are, whatever the dtype.
#include <cstring>
#include <string>
#include <vector>

#include "device.h"
#include "index.h"

namespace lethe::cpu {
namespace {

int64_t element_bytes(int32_t dtype) { return dtype == LETHE_BF16 ? 2 : 4; }

void move_row(const lethe_rows_args &a, int64_t from, int64_t to) {
  const int64_t bytes = element_bytes(a.dtype);
  std::memcpy(static_cast<char *>(a.dst) + to * a.dst_stride * bytes,
              static_cast<const char *>(a.src) + from * a.src_stride * bytes, static_cast<size_t>(a.width * bytes));
}

// Two rows for one place would leave the winner to chance.
int check_distinct(const Device *device, const int32_t *index, int64_t n, int64_t bound) {
  std::vector<bool> seen(static_cast<size_t>(bound));
  for (int64_t i = 0; i < n; ++i) {
    const auto place = static_cast<size_t>(index[i]);
    if (seen[place]) {
      return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                            "index[" + std::to_string(i) + "] is " + std::to_string(index[i]) + " a second time");
    }
    seen[place] = true;
  }
  return LETHE_OK;
}

}  // namespace

int gather_rows(Device *device, const lethe_rows_args *args) {
  return run(device, __func__, [&] {
    const int status = check_indices(device, "index", args->index, args->n, args->table_rows);
    if (status != LETHE_OK) return status;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < args->n; ++i) move_row(*args, args->index[i], i);
    return static_cast<int>(LETHE_OK);
  });
}

int scatter_rows(Device *device, const lethe_rows_args *args) {
  return run(device, __func__, [&] {
    int status = check_indices(device, "index", args->index, args->n, args->table_rows);
    if (status == LETHE_OK) status = check_distinct(device, args->index, args->n, args->table_rows);
    if (status != LETHE_OK) return status;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < args->n; ++i) move_row(*args, i, args->index[i]);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
