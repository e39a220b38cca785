// Norms of vectors that no block holds in registers: they are read once for each thing that is made of them.
#pragma once

#include "norm.cuh"

namespace lethe::cuda {

constexpr unsigned kWideBlock = 1024;
constexpr unsigned kColumnsBlock = 256;

// Where vector `index` starts in a strided tensor.
struct Place {
  int64_t row, column;

  __device__ Place(const lethe_norm_args &a, int64_t index) : row(index), column(0) {
    if (a.groups == 1) return;
    row = quotient(index, a.groups);
    column = (index - row * a.groups) * a.d;
  }
  template <class T>
  __device__ const T *in(const void *tensor, int64_t stride) const {
    return static_cast<const T *>(tensor) + row * stride + column;
  }
  template <class T>
  __device__ T *out(void *tensor, int64_t stride) const {
    return static_cast<T *>(tensor) + row * stride + column;
  }
};

// Calls body(column, how many numbers, piece of `row`) for a thread's pieces of a row of any width.
template <bool kWhole, class T, class Body>
__device__ void for_pieces(const T *row, int64_t d, Body &&body) {
  for (int64_t at = threadIdx.x * int64_t{kVector<T>}; at < d; at += blockDim.x * int64_t{kVector<T>}) {
    body(at, in_piece<T>(d - at), load_vector<kWhole>(row + at, in_piece<T>(d - at)));
  }
}

// A vector too wide for registers.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kWideBlock) norm_forward_wide_kernel(lethe_norm_args a, int64_t vectors) {
  const auto width = static_cast<float>(a.d);
  for (int64_t index = blockIdx.x; index < vectors; index += gridDim.x) {
    const Place place(a, index);
    const T *x = place.in<T>(a.x, a.x_stride), *residual = place.in<T>(a.residual, a.y_stride);
    T *y = place.out<T>(a.y, a.y_stride);
    float total[1] = {0.0f}, squares[1] = {0.0f};
    if (a.kind == LETHE_NORM_LAYER) {
      for_pieces<kWhole>(x, a.d, [&](int64_t, int, const Vector<T> &v) {
        for (int k = 0; k < kVector<T>; ++k) total[0] += v.at(k);
      });
      block_sum(total);
    }
    const float mean = total[0] / width;
    for_pieces<kWhole>(x, a.d, [&](int64_t, int n, const Vector<T> &v) {
      for (int k = 0; k < kVector<T>; ++k) {
        const float c = k < n ? v.at(k) - mean : 0.0f;
        squares[0] = __fmaf_rn(c, c, squares[0]);
      }
    });
    block_sum(squares);
    const float rstd = 1.0f / sqrtf(squares[0] / width + a.eps);
    if (threadIdx.x == 0 && a.mean != nullptr) a.mean[index] = mean;
    if (threadIdx.x == 0 && a.rstd != nullptr) a.rstd[index] = rstd;
    for_pieces<kWhole>(x, a.d, [&](int64_t at, int n, const Vector<T> &v) {
      const Vector<T> w = load_vector<kWhole>(static_cast<const T *>(a.w) + at, n);
      Vector<T> b = {}, more = {};
      float to[kVector<T>];
      if (a.b != nullptr) b = load_vector<kWhole>(static_cast<const T *>(a.b) + at, n);
      if (a.residual != nullptr) more = load_vector<kWhole>(residual + at, n);
      for (int k = 0; k < kVector<T>; ++k) {
        to[k] = __fmaf_rn((v.at(k) - mean) * rstd, w.at(k) + a.weight_shift, b.at(k)) + more.at(k);
      }
      store_vector<kWhole>(packed<T>(to), y + at, n);
    });
  }
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kWideBlock) norm_backward_wide_kernel(lethe_norm_args a, int64_t vectors) {
  const bool layer = a.kind == LETHE_NORM_LAYER;
  for (int64_t index = blockIdx.x; index < vectors; index += gridDim.x) {
    const Place place(a, index);
    const T *x = place.in<T>(a.x, a.x_stride), *dy = place.in<T>(a.dy, a.dy_stride);
    T *dx = place.out<T>(a.dx, a.dx_stride);
    const float mean = layer ? a.mean[index] : 0.0f;
    float sums[2] = {0.0f, 0.0f};
    const auto gradient = [&](int64_t at, int n, const Vector<T> &v, float(&g)[kVector<T>]) {
      const Vector<T> w = load_vector<kWhole>(static_cast<const T *>(a.w) + at, n);
      for (int k = 0; k < kVector<T>; ++k) g[k] = v.at(k) * (w.at(k) + a.weight_shift);
    };
    for_pieces<kWhole>(dy, a.d, [&](int64_t at, int n, const Vector<T> &v) {
      float g[kVector<T>];
      gradient(at, n, v, g);
      const Vector<T> of = load_vector<kWhole>(x + at, n);
      for (int k = 0; k < kVector<T>; ++k) {
        sums[0] += g[k];
        sums[1] = __fmaf_rn(g[k], of.at(k) - mean, sums[1]);
      }
    });
    block_sum(sums);
    const NormSlope slope = norm_slope(mean, a.rstd[index], sums, static_cast<float>(a.d), layer);
    for_pieces<kWhole>(dy, a.d, [&](int64_t at, int n, const Vector<T> &v) {
      float g[kVector<T>];
      gradient(at, n, v, g);
      const Vector<T> of = load_vector<kWhole>(x + at, n);
      Vector<T> before = {};
      float to[kVector<T>];
      if (a.accumulate != 0) before = load_vector<kWhole>(dx + at, n);
      for (int k = 0; k < kVector<T>; ++k) {
        to[k] = slope.dx(g[k], of.at(k), before.at(k));
      }
      store_vector<kWhole>(packed<T>(to), dx + at, n);
    });
  }
}

// The parameters' gradients of wide vectors: a thread's columns over its part of the vectors.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kColumnsBlock)
    norm_sums_wide_kernel(lethe_norm_args a, int64_t vectors, float *dw, float *db) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kColumnsBlock + threadIdx.x) * kVector<T>;
  const int n = in_piece<T>(a.d - at);
  NormSums<T, 1> sums;
  for (int64_t index = blockIdx.y; index < vectors && n > 0; index += gridDim.y) {
    const Place place(a, index);
    const Share<T, 1, kWhole> x = {{load_vector<kWhole>(place.in<T>(a.x, a.x_stride) + at, n)}};
    const Share<T, 1, kWhole> dy = {{load_vector<kWhole>(place.in<T>(a.dy, a.dy_stride) + at, n)}};
    sums.add(dy, x, a.kind == LETHE_NORM_LAYER ? a.mean[index] : 0.0f, a.rstd[index]);
  }
  for (int k = 0; k < kVector<T>; ++k) {
    if (dw != nullptr && k < n) dw[blockIdx.y * a.d + at + k] = sums.dw[0][k];
    if (db != nullptr && k < n) db[blockIdx.y * a.d + at + k] = sums.db[0][k];
  }
}

}  // namespace lethe::cuda
