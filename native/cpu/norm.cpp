// RMSNorm and LayerNorm, forward and backward: y = n (w + shift) + b (+ residual) with n = (x - mean) r,
// r = 1 / sqrt(mean((x - mean)^2) + eps); RMSNorm's mean is 0.
// With g = dy (w + shift): dx = r (g - mean(g) - n mean(g n)), RMSNorm without mean(g); dw = sum over vectors of dy n,
// db = sum of dy.
#include "norm.h"

#include <cmath>

#include "number.h"

namespace lethe::cpu {
namespace {

// Calls body(offset, n) for blocks of up to sixteen of d elements.
template <class Body>
void for_blocks(int64_t d, Body &&body) {
  int64_t i = 0;
  for (; i + kLanes <= d; i += kLanes) body(i, kLanes);
  if (i < d) body(i, d - i);
}

template <class T>
f32x16 load_up_to(const T *p, int64_t n) {
  return n == kLanes ? load(p) : load_tail(p, n);
}
template <class T>
void store_up_to(T *p, f32x16 v, int64_t n) {
  n == kLanes ? store(p, v) : store_tail(p, v, n);
}

template <class T>
float total(const T *x, int64_t d) {
  f32x16 acc = {};
  for_blocks(d, [&](int64_t i, int64_t n) { acc += load_up_to(x + i, n); });
  return sum(acc);
}

// The sum of (x - mean)^2; lanes beyond the end add nothing.
template <class T>
float squares(const T *x, float mean, int64_t d) {
  f32x16 acc = {};
  for_blocks(d, [&](int64_t i, int64_t n) {
    const f32x16 c = (n == kLanes ? load(x + i) : load_tail(x + i, n, mean)) - mean;
    acc += c * c;
  });
  return sum(acc);
}

// Vector `index` of a strided tensor of `groups` a row.
template <class T, class Void>
T *vector_at(Void *tensor, const lethe_norm_args &a, int64_t stride, int64_t index) {
  return static_cast<T *>(tensor) + index / a.groups * stride + index % a.groups * a.d;
}

template <class T>
void forward_vector(const lethe_norm_args &a, int64_t index) {
  const T *x = vector_at<const T>(a.x, a, a.x_stride, index);
  const T *w = static_cast<const T *>(a.w);
  const T *b = static_cast<const T *>(a.b);
  const T *residual = a.residual == nullptr ? nullptr : vector_at<const T>(a.residual, a, a.y_stride, index);
  T *y = vector_at<T>(a.y, a, a.y_stride, index);
  const auto width = static_cast<float>(a.d);
  const float mean = a.kind == LETHE_NORM_LAYER ? total(x, a.d) / width : 0.0f;
  const float r = 1.0f / std::sqrt(squares(x, mean, a.d) / width + a.eps);
  if (a.mean != nullptr) a.mean[index] = mean;
  if (a.rstd != nullptr) a.rstd[index] = r;
  for_blocks(a.d, [&](int64_t i, int64_t n) {
    f32x16 v = (load_up_to(x + i, n) - mean) * r * (load_up_to(w + i, n) + a.weight_shift);
    if (b != nullptr) v += load_up_to(b + i, n);
    if (residual != nullptr) v += load_up_to(residual + i, n);
    store_up_to(y + i, v, n);
  });
}

// The sums of g and of g (x - mean) over one vector.
struct Moments {
  float g, gx;
};

template <class T, class G>
Moments moments(const G *dy, const T *w, const T *x, float shift, float mean, int64_t d) {
  f32x16 g_sum = {}, gx_sum = {};
  for_blocks(d, [&](int64_t i, int64_t n) {
    // Beyond the end dy is 0.
    const f32x16 g = load_up_to(dy + i, n) * (load_up_to(w + i, n) + shift);
    g_sum += g;
    gx_sum += g * (load_up_to(x + i, n) - mean);
  });
  return {sum(g_sum), sum(gx_sum)};
}

// G is what dy is stored in.
template <class T, class G>
void backward_vector(const lethe_norm_args &a, int64_t index) {
  const T *x = vector_at<const T>(a.x, a, a.x_stride, index);
  const T *w = static_cast<const T *>(a.w);
  const G *dy = vector_at<const G>(a.dy, a, a.dy_stride, index);
  T *dx = vector_at<T>(a.dx, a, a.dx_stride, index);
  const bool layer = a.kind == LETHE_NORM_LAYER;
  const float mean = layer ? a.mean[index] : 0.0f;
  const float r = a.rstd[index];
  const auto width = static_cast<float>(a.d);
  const Moments m = moments(dy, w, x, a.weight_shift, mean, a.d);
  const float k = r * r * m.gx / width;
  const float g_mean = layer ? m.g / width : 0.0f;
  for_blocks(a.d, [&](int64_t i, int64_t n) {
    const f32x16 g = load_up_to(dy + i, n) * (load_up_to(w + i, n) + a.weight_shift);
    f32x16 v = (g - g_mean - (load_up_to(x + i, n) - mean) * k) * r;
    if (a.accumulate != 0) v += load_up_to(dx + i, n);
    store_up_to(dx + i, v, n);
  });
}

// Columns are shared among the threads and vectors added in order, so a sum does not depend on who adds it.
template <class T, class G>
void parameter_gradients(const lethe_norm_args &a) {
#pragma omp parallel
  {
    const Range columns = share(a.d, omp_get_thread_num(), omp_get_num_threads());
    for (int64_t index = 0; index < a.T * a.groups; ++index) {
      const T *x = vector_at<const T>(a.x, a, a.x_stride, index);
      const G *dy = vector_at<const G>(a.dy, a, a.dy_stride, index);
      const float mean = a.kind == LETHE_NORM_LAYER ? a.mean[index] : 0.0f;
      const float r = a.rstd[index];
      for (int64_t i = columns.begin; a.dw != nullptr && i < columns.end; ++i) {
        a.dw[i] += to_float(dy[i]) * (to_float(x[i]) - mean) * r;
      }
      for (int64_t i = columns.begin; a.db != nullptr && i < columns.end; ++i) a.db[i] += to_float(dy[i]);
    }
  }
}

template <class T>
void forward(const lethe_norm_args &a) {
#pragma omp parallel for schedule(static)
  for (int64_t index = 0; index < a.T * a.groups; ++index) forward_vector<T>(a, index);
}

// dx may take dy's place, so what else is made of dy comes first.
template <class T, class G>
void backward(const lethe_norm_args &a) {
  if (a.dw != nullptr || a.db != nullptr) parameter_gradients<T, G>(a);
#pragma omp parallel for schedule(static)
  for (int64_t index = 0; index < a.T * a.groups; ++index) backward_vector<T, G>(a, index);
}

}  // namespace

void norm_backward_of_sums(const lethe_norm_args &args) {
  args.dtype == LETHE_BF16 ? backward<bf16, float>(args) : backward<float, float>(args);
}

int norm_forward(Device *device, const lethe_norm_args *args) {
  return run(device, __func__, [&] {
    args->dtype == LETHE_BF16 ? forward<bf16>(*args) : forward<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

int norm_backward(Device *device, const lethe_norm_args *args) {
  return run(device, __func__, [&] {
    args->dtype == LETHE_BF16 ? backward<bf16, bf16>(*args) : backward<float, float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
