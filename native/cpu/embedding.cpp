// Token embedding: rows of a table, and the table's gradient.
#include <cstring>

#include "device.h"
#include "index.h"
#include "number.h"

namespace lethe::cpu {
namespace {

template <class T>
void forward(const lethe_embedding_args &a) {
  const auto *table = static_cast<const T *>(a.table);
  auto *out = static_cast<T *>(a.out);
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < a.T; ++t) {
    const T *from = table + a.ids[t] * a.d;
    T *to = out + t * a.d;
    if (a.scale == 1.0f) {
      std::memcpy(to, from, static_cast<size_t>(a.d) * sizeof(T));
      continue;
    }
    int64_t i = 0;
    for (; i + kLanes <= a.d; i += kLanes) store(to + i, load(from + i) * a.scale);
    for (; i < a.d; ++i) from_float(to_float(from[i]) * a.scale, to + i);
  }
}

// Columns are shared among the threads: a row that occurs twice is added to in the order of T.
template <class T>
void backward(const lethe_embedding_args &a) {
  const auto *dout = static_cast<const T *>(a.dout);
#pragma omp parallel
  {
    const Range columns = share(a.d, omp_get_thread_num(), omp_get_num_threads());
    for (int64_t t = 0; t < a.T; ++t) {
      const T *from = dout + t * a.d;
      float *to = a.dtable + a.ids[t] * a.d;
      int64_t i = columns.begin;
      for (; i + kLanes <= columns.end; i += kLanes) store(to + i, load(to + i) + load(from + i) * a.scale);
      for (; i < columns.end; ++i) to[i] += to_float(from[i]) * a.scale;
    }
  }
}

}  // namespace

int embedding_forward(Device *device, const lethe_embedding_args *args) {
  return run(device, __func__, [&] {
    const int status = check_indices(device, "ids", args->ids, args->T, args->V);
    if (status != LETHE_OK) return status;
    args->dtype == LETHE_BF16 ? forward<bf16>(*args) : forward<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

int embedding_backward(Device *device, const lethe_embedding_args *args) {
  return run(device, __func__, [&] {
    const int status = check_indices(device, "ids", args->ids, args->T, args->V);
    if (status != LETHE_OK) return status;
    args->dtype == LETHE_BF16 ? backward<bf16>(*args) : backward<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
