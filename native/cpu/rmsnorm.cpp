// RMSNorm, forward and backward: y = x * r * w with r = 1 / sqrt(mean(x^2) + eps).
// With g = dy * w: dx = r * (g - x * r^2 * mean(g * x)), dw = sum over rows of dy * x * r.
#include <cmath>
#include <vector>

#include "device.h"
#include "number.h"

namespace lethe::cpu {
namespace {

template <class T>
float dot(const T *a, const T *b, int64_t n) {
  f32x16 acc = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) acc += load(a + i) * load(b + i);
  if (i < n) acc += load_tail(a + i, n - i) * load_tail(b + i, n - i);
  return sum(acc);
}

template <class T>
float dot3(const T *a, const T *b, const T *c, int64_t n) {
  f32x16 acc = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) acc += load(a + i) * load(b + i) * load(c + i);
  if (i < n) acc += load_tail(a + i, n - i) * load_tail(b + i, n - i) * load_tail(c + i, n - i);
  return sum(acc);
}

template <class T>
void forward_row(const lethe_rmsnorm_args &a, int64_t row) {
  const T *x = static_cast<const T *>(a.x) + row * a.d;
  const T *w = static_cast<const T *>(a.w);
  T *y = static_cast<T *>(a.y) + row * a.d;
  const float r = 1.0f / std::sqrt(dot(x, x, a.d) / static_cast<float>(a.d) + a.eps);
  if (a.rstd != nullptr) a.rstd[row] = r;
  int64_t i = 0;
  for (; i + kLanes <= a.d; i += kLanes) store(y + i, load(x + i) * r * load(w + i));
  for (; i < a.d; ++i) from_float(to_float(x[i]) * r * to_float(w[i]), y + i);
}

template <class T>
void backward_row(const lethe_rmsnorm_args &a, int64_t row) {
  const T *x = static_cast<const T *>(a.x) + row * a.d;
  const T *w = static_cast<const T *>(a.w);
  const T *dy = static_cast<const T *>(a.dy) + row * a.d;
  T *dx = static_cast<T *>(a.dx) + row * a.d;
  const float r = a.rstd[row];
  const float k = r * r * dot3(dy, w, x, a.d) / static_cast<float>(a.d);
  int64_t i = 0;
  for (; i + kLanes <= a.d; i += kLanes) {
    store(dx + i, load(dx + i) + (load(dy + i) * load(w + i) - load(x + i) * k) * r);
  }
  for (; i < a.d; ++i) {
    const float g = to_float(dy[i]) * to_float(w[i]);
    from_float(to_float(dx[i]) + (g - to_float(x[i]) * k) * r, dx + i);
  }
}

// Columns are shared among the threads and rows added in order, so the sum does not depend on who adds it.
template <class T>
void weight_gradient(const lethe_rmsnorm_args &a) {
#pragma omp parallel
  {
    const Range columns = share(a.d, omp_get_thread_num(), omp_get_num_threads());
    for (int64_t row = 0; row < a.T; ++row) {
      const T *x = static_cast<const T *>(a.x) + row * a.d;
      const T *dy = static_cast<const T *>(a.dy) + row * a.d;
      const float r = a.rstd[row];
      for (int64_t i = columns.begin; i < columns.end; ++i) a.dw[i] += to_float(dy[i]) * to_float(x[i]) * r;
    }
  }
}

template <class T>
void forward(const lethe_rmsnorm_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) forward_row<T>(a, row);
}

template <class T>
void backward(const lethe_rmsnorm_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < a.T; ++row) backward_row<T>(a, row);
  if (a.dw != nullptr) weight_gradient<T>(a);
}

}  // namespace

int rmsnorm_forward(Device *device, const lethe_rmsnorm_args *args) {
  return run(device, __func__, [&] {
    args->dtype == LETHE_BF16 ? forward<bf16>(*args) : forward<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

int rmsnorm_backward(Device *device, const lethe_rmsnorm_args *args) {
  return run(device, __func__, [&] {
    args->dtype == LETHE_BF16 ? backward<bf16>(*args) : backward<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
