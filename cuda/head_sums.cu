#include <algorithm>

#include "head_sums.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kColumnThreads = 128;
constexpr unsigned kBiasThreads = 1024;
// Rows of a part, and of a sum in fp32 within it: sums stay short, and parts are enough for every multiprocessor.
constexpr int64_t kPartRows = 256;
constexpr int64_t kShortRows = 64;

// The sums of w's columns over the rows of each part. A thread holds a piece of 16 bytes; blocks count through the
// parts of a tile of columns, then through the tiles.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kColumnThreads)
    head_mean_parts_kernel(int64_t d, int64_t V, int64_t count, const T *w, double *parts) {
  const int64_t part = blockIdx.x % count, tile = blockIdx.x / count;
  const int64_t column = (tile * blockDim.x + threadIdx.x) * kVector<T>;
  const int n = in_piece<T>(d - column);
  if (n == 0) return;
  const int64_t begin = part * kPartRows, end = begin + kPartRows < V ? begin + kPartRows : V;
  double total[kVector<T>] = {};
  for (int64_t row = begin; row < end; row += kShortRows) {
    float sum[kVector<T>] = {};
    const int64_t until = row + kShortRows < end ? row + kShortRows : end;
#pragma unroll 8
    for (int64_t v = row; v < until; ++v) {
      const Vector<T> x = load_vector<kWhole>(w + v * d + column, n);
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) sum[k] += x.at(k);
    }
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) total[k] += static_cast<double>(sum[k]);
  }
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) {
    if (k < n) parts[part * d + column + k] = total[k];
  }
}

__global__ void __launch_bounds__(kColumnThreads)
    head_mean_kernel(int64_t d, int64_t V, int64_t count, const double *parts, float *mean) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= d) return;
  double total = 0;
#pragma unroll 8
  for (int64_t part = 0; part < count; ++part) total += parts[part * d + column];
  mean[column] = static_cast<float>(total / static_cast<double>(V));
}

template <class T>
int mean_row(Device *device, int64_t d, int64_t V, const void *weight, float *mean) {
  const T *w = static_cast<const T *>(weight);
  const int64_t count = ceil_div(V, kPartRows), tiles = ceil_div(d, kColumnThreads * int64_t{kVector<T>});
  Pieces pieces;
  pieces.add<double>(count * d);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  auto *parts = reinterpret_cast<double *>(memory);
  const Shape first = {"head_mean_parts",
                       {static_cast<unsigned>(count * tiles)},
                       kColumnThreads,
                       0,
                       V * d * int64_t{sizeof(T)} + count * d * 8};
  LETHE_CUDA_TRY(with_bool(whole_rows<T>({w}, {d}), [&](auto is) {
    return launch(device, first, head_mean_parts_kernel<T, decltype(is)::value>, d, V, count, w, parts);
  }));
  const Shape second = {"head_mean", {blocks_of(d, kColumnThreads)}, kColumnThreads, 0, count * d * 8 + d * 4};
  return launch(device, second, head_mean_kernel, d, V, count, static_cast<const double *>(parts), mean);
}

// One block.
template <class T>
__global__ void __launch_bounds__(kBiasThreads) head_bias_kernel(int64_t V, const T *bias, float *wide, float *mean) {
  double sum[1] = {0.0};
  for (int64_t v = threadIdx.x; v < V; v += blockDim.x) {
    const float b = to_float(bias[v]);
    wide[v] = b;
    sum[0] += static_cast<double>(b);
  }
  block_sum(sum);
  if (threadIdx.x == 0) *mean = static_cast<float>(sum[0] / static_cast<double>(V));
}

template <class T>
int widen(Device *device, int64_t V, const void *bias, float *wide, float *mean) {
  const auto threads = static_cast<unsigned>(std::min<int64_t>(kBiasThreads, ceil_div(V, kWarp) * kWarp));
  const Shape shape = {"head_bias", {}, threads, 0, V * int64_t{sizeof(T) + 4}};
  return launch(device, shape, head_bias_kernel<T>, V, static_cast<const T *>(bias), wide, mean);
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kColumnThreads)
    head_columns_kernel(int64_t rows, int64_t V, const T *dz, int64_t ld, float *sums, const int *closed) {
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kVector<T>;
  const int n = in_piece<T>(V - column);
  if (n == 0 || *closed != 0) return;
  float sum[kVector<T>];
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) sum[k] = k < n ? sums[column + k] : 0.0f;
#pragma unroll 8
  for (int64_t row = 0; row < rows; ++row) {
    const Vector<T> x = load_vector<kWhole>(dz + row * ld + column, n);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) sum[k] += x.at(k);
  }
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) {
    if (k < n) sums[column + k] = sum[k];
  }
}

template <class T>
int columns(Device *device, int64_t rows, int64_t V, const void *gradient, int64_t ld, float *sums) {
  const T *dz = static_cast<const T *>(gradient);
  const Shape shape = {"head_columns",
                       {blocks_of(ceil_div(V, kVector<T>), kColumnThreads)},
                       kColumnThreads,
                       0,
                       rows * V * int64_t{sizeof(T)} + V * 8};
  const int *closed = device->fault.closed;
  return with_bool(whole_rows<T>({dz}, {ld, V}), [&](auto is) {
    return launch(device, shape, head_columns_kernel<T, decltype(is)::value>, rows, V, dz, ld, sums, closed);
  });
}

}  // namespace

int widen_bias(Device *device, int32_t dtype, int64_t V, const void *bias, float *wide, float *mean) {
  return dtype == LETHE_BF16 ? widen<bf16>(device, V, bias, wide, mean) : widen<float>(device, V, bias, wide, mean);
}

int add_columns(Device *device, int32_t dtype, int64_t rows, int64_t V, const void *dz, int64_t ld, float *sums) {
  return dtype == LETHE_BF16 ? columns<bf16>(device, rows, V, dz, ld, sums)
                             : columns<float>(device, rows, V, dz, ld, sums);
}

int head_mean(Device *device, int32_t dtype, int64_t d, int64_t V, const void *w, float *mean) {
  return run(device, __func__, [&] {
    return dtype == LETHE_BF16 ? mean_row<bf16>(device, d, V, w, mean) : mean_row<float>(device, d, V, w, mean);
  });
}

}  // namespace lethe::cuda
