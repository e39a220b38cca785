// The head's gradient by source: rows added up, and on through the norm before the head.
#include <algorithm>
#include <vector>

#include "device.h"
#include "head_plan.h"
#include "norm.h"
#include "number.h"

namespace lethe::cpu {
namespace {

// The rows of each source, in their order: those of s are rows[first[s]] up to rows[first[s + 1]].
struct SourceRows {
  std::vector<int64_t> first, rows;
};

// A counting sort.
int sort_by_source(const Device *device, const lethe_head_args &a, SourceRows *sorted) {
  std::vector<int64_t> &first = sorted->first;
  first.assign(static_cast<size_t>(a.sources) + 1, 0);
  for (int64_t row = 0; row < a.n; ++row) {
    const int status = check_index(device, row, "source", record(a, row).source, a.sources);
    if (status != LETHE_OK) return status;
    ++first[static_cast<size_t>(record(a, row).source) + 1];
  }
  for (size_t source = 1; source < first.size(); ++source) first[source] += first[source - 1];
  std::vector<int64_t> next(first.begin(), first.end() - 1);
  sorted->rows.resize(static_cast<size_t>(a.n));
  for (int64_t row = 0; row < a.n; ++row) {
    sorted->rows[static_cast<size_t>(next[static_cast<size_t>(record(a, row).source)]++)] = row;
  }
  return LETHE_OK;
}

template <class T>
void sum_rows(const lethe_head_args &a, const SourceRows &sorted, int64_t source, float *sum) {
  const T *dh_rows = static_cast<const T *>(a.dh_rows);
  std::fill(sum, sum + a.d, 0.0f);
  for (int64_t i = sorted.first[static_cast<size_t>(source)]; i < sorted.first[static_cast<size_t>(source) + 1]; ++i) {
    const int64_t row = sorted.rows[static_cast<size_t>(i)];
    for (int64_t j = 0; j < a.d; ++j) sum[j] += a.coefficient[row] * to_float(dh_rows[row * a.d + j]);
  }
}

template <class T>
void combine(const lethe_head_args &a, const SourceRows &sorted) {
#pragma omp parallel
  {
    std::vector<float> sum(static_cast<size_t>(a.d));
#pragma omp for schedule(static)
    for (int64_t source = 0; source < a.sources; ++source) {
      sum_rows<T>(a, sorted, source, sum.data());
      T *dh = static_cast<T *>(a.dh) + source * a.d;
      for (int64_t j = 0; j < a.d; ++j) from_float(sum[static_cast<size_t>(j)], dh + j);
    }
  }
}

// The norm's operands of `count` sources from `begin` on, with their gradients in dy.
template <class T>
lethe_norm_args part(const lethe_norm_args &all, int64_t begin, int64_t count, const float *dy) {
  lethe_norm_args a = all;
  a.T = count;
  a.x = static_cast<const T *>(all.x) + begin * all.x_stride;
  a.dx = static_cast<T *>(all.dx) + begin * all.dx_stride;
  if (a.mean != nullptr) a.mean += begin;
  a.rstd += begin;
  a.dy = dy;
  a.dy_stride = all.d;
  return a;
}

// Sources whose sums stand in fp32 at a time.
constexpr int64_t kSources = 64;

template <class T>
void combine_through_norm(const lethe_head_args &a, const lethe_norm_args &norm, const SourceRows &sorted,
                          float *sums) {
  for (int64_t begin = 0; begin < a.sources; begin += kSources) {
    const int64_t count = std::min(kSources, a.sources - begin);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; ++i) sum_rows<T>(a, sorted, begin + i, sums + i * a.d);
    norm_backward_of_sums(part<T>(norm, begin, count, sums));
  }
}

}  // namespace

int head_combine(Device *device, const lethe_head_args *args) {
  return run(device, __func__, [&] {
    SourceRows sorted;
    const int status = sort_by_source(device, *args, &sorted);
    if (status != LETHE_OK) return status;
    args->dtype == LETHE_BF16 ? combine<bf16>(*args, sorted) : combine<float>(*args, sorted);
    return static_cast<int>(LETHE_OK);
  });
}

int head_norm_backward(Device *device, const lethe_head_norm_args *args) {
  return run(device, __func__, [&] {
    const lethe_norm_args &norm = args->norm;
    lethe_head_args a = {};
    a.dtype = norm.dtype;
    a.n = args->n;
    a.sources = norm.T;
    a.d = norm.d;
    a.rows = args->rows;
    a.coefficient = args->coefficient;
    // Read only.
    a.dh_rows = const_cast<void *>(args->dh_rows);
    SourceRows sorted;
    const int status = sort_by_source(device, a, &sorted);
    if (status != LETHE_OK) return status;
    float *sums = device->scratch[0].of<float>(std::min(kSources, a.sources) * a.d);
    a.dtype == LETHE_BF16 ? combine_through_norm<bf16>(a, norm, sorted, sums)
                          : combine_through_norm<float>(a, norm, sorted, sums);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
