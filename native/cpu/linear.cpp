// The linear layer with LoRA adapters: y = x W^T + b (+ residual) + sum over adapters of u B^T, u = scale * x A^T.
//
// With dropout of probability p the adapter's input is m o x / (1 - p): m is made again wherever it is needed, the
// factor stands in u and du.
//
// What is rounded to bf16, in bf16 storage: u and du once, where they are stored, and all that follows uses the stored
// values; y and dx once, from fp32 sums of all their terms. Gradients are summed in fp32.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "device.h"
#include "gemm.h"
#include "linear_finish.h"
#include "low_rank.h"
#include "number.h"
#include "philox.h"

namespace lethe::cpu {
namespace {

// Rows of fp32 sums that exist at a time in bf16 storage.
constexpr int64_t kChunkRows = 512;

// Elements that are not worth waking the other threads.
constexpr int64_t kSmall = 1 << 14;

enum ScratchSlot { kSums, kRanks, kBasis, kMasked };

template <class T>
constexpr int32_t dtype_of() {
  return sizeof(T) == sizeof(bf16) ? LETHE_BF16 : LETHE_F32;
}

bool drops(const lethe_linear_args &a, const lethe_adapter &adapter) {
  return a.row_keys != nullptr && adapter.dropout > 0;
}
bool any_drops(const lethe_linear_args &a) {
  bool any = false;
  for (int64_t i = 0; i < a.adapter_count; ++i) any |= drops(a, a.adapters[i]);
  return any;
}
float scale_of(const lethe_linear_args &a, const lethe_adapter &adapter) {
  if (!drops(a, adapter)) return adapter.scale;
  return static_cast<float>(static_cast<double>(adapter.scale) / (1.0 - static_cast<double>(adapter.dropout)));
}
// m o x for the first `rows` rows, packed.
template <class T>
const T *masked_input(Device *device, const lethe_linear_args &a, const lethe_adapter &adapter, int64_t rows) {
  T *masked = device->scratch[kMasked].of<T>(rows * a.in);
  const uint32_t threshold = threshold_of(adapter);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    const T *x = static_cast<const T *>(a.x) + row * a.in;
    T *to = masked + row * a.in;
    for (int64_t first = 0; first < a.in; first += kMaskBlock) {
      float mask[kMaskBlock];
      dropout_mask(adapter.key, a.row_keys[row], threshold, first, mask);
      const int64_t count = std::min(kMaskBlock, a.in - first);
      for (int64_t i = 0; i < count; ++i) from_float(to_float(x[first + i]) * mask[i], to + first + i);
    }
  }
  return masked;
}

// stored[n] = round(ranks[n] * scale of its column); ranks keeps what was stored.
template <class T>
void store_ranks(const lethe_linear_args &a, int64_t rows, float *ranks, void *stored) {
  auto *to = static_cast<T *>(stored);
#pragma omp parallel for schedule(static) if (rows * a.total_rank > kSmall)
  for (int64_t row = 0; row < rows; ++row) {
    int64_t i = row * a.total_rank;
    for (int64_t index = 0; index < a.adapter_count; ++index) {
      const lethe_adapter &adapter = a.adapters[index];
      const float scale = scale_of(a, adapter);
      for (int64_t k = 0; k < adapter.rank; ++k, ++i) {
        from_float(ranks[i] * scale, to + i);
        ranks[i] = to_float(to[i]);
      }
    }
  }
}

// Whether all adapters' A stand in one block [total_rank, in], as a fused projection keeps them.
template <class T>
bool stacked(const lethe_linear_args &a) {
  for (int64_t i = 1; i < a.adapter_count; ++i) {
    const lethe_adapter &previous = a.adapters[i - 1];
    if (static_cast<const T *>(previous.a) + previous.rank * a.in != a.adapters[i].a) return false;
  }
  return true;
}
bool gradients_stacked(const lethe_linear_args &a) {
  for (int64_t i = 1; i < a.adapter_count; ++i) {
    const lethe_adapter &previous = a.adapters[i - 1];
    if (previous.da == nullptr || previous.da + previous.rank * a.in != a.adapters[i].da) return false;
  }
  return a.adapter_count > 0 && a.adapters[0].da != nullptr;
}

// A matrix of an adapter, [rank, width], or by columns [width, rank].
template <class T>
struct Matrix {
  const T *data;
  int64_t rank, width;
  bool by_columns;
};

// out[rows, rank] = x[rows, width] times the matrix, transposed.
template <class T>
void to_ranks(Device *device, const T *x, int64_t stride, int64_t rows, const Matrix<T> &m, float *out,
              int64_t out_stride) {
  if (m.rank > kMostLowRank) {
    const Operand right{m.data, m.by_columns ? m.rank : m.width, !m.by_columns};
    gemm(device, {dtype_of<T>(), LETHE_F32, rows, m.rank, m.width, {x, stride}, right, out, out_stride});
    return;
  }
  float *packed = device->scratch[kBasis].of<float>(packed_size(m.rank, m.width));
  const int64_t of_rank = m.by_columns ? 1 : m.width, of_column = m.by_columns ? m.rank : 1;
  pack_basis(m.rank, m.width, packed,
             [&](int64_t k, int64_t i) { return to_float(m.data[k * of_rank + i * of_column]); });
  project(x, stride, rows, m.width, packed, m.rank, out, out_stride);
}

// u = scale * x A^T for the adapted rows, stored and as fp32 [adapted, total_rank].
template <class T>
const float *forward_ranks(Device *device, const lethe_linear_args &a) {
  float *ranks = device->scratch[kRanks].of<float>(a.adapted * a.total_rank);
  const auto *x = static_cast<const T *>(a.x);
  const auto matrix = [&](const lethe_adapter &first, int64_t rank) {
    return Matrix<T>{static_cast<const T *>(first.a), rank, a.in, false};
  };
  if (stacked<T>(a) && !any_drops(a)) {
    to_ranks(device, x, a.in, a.adapted, matrix(a.adapters[0], a.total_rank), ranks, a.total_rank);
  } else {
    int64_t first = 0;
    for (int64_t i = 0; i < a.adapter_count; first += a.adapters[i].rank, ++i) {
      const lethe_adapter &adapter = a.adapters[i];
      const T *input = drops(a, adapter) ? masked_input<T>(device, a, adapter, a.adapted) : x;
      to_ranks(device, input, a.in, a.adapted, matrix(adapter, adapter.rank), ranks + first, a.total_rank);
    }
  }
  store_ranks<T>(a, a.adapted, ranks, a.u);
  return ranks;
}

// The adapters' part of y: B^T as fp32.
template <class T>
std::vector<LowRank> output_updates(Device *device, const lethe_linear_args &a) {
  int64_t count = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) count += a.adapters[i].rank * a.adapters[i].part_out;
  float *to = device->scratch[kBasis].of<float>(count);
  std::vector<LowRank> updates;
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    const T *b = static_cast<const T *>(adapter.b);
    updates.push_back({adapter.first_out, adapter.part_out, column, adapter.rank, to});
    for (int64_t k = 0; k < adapter.rank; ++k) {
      for (int64_t j = 0; j < adapter.part_out; ++j) *to++ = to_float(b[j * adapter.rank + k]);
    }
    column += adapter.rank;
  }
  return updates;
}

// The adapters' part of dx: all their A as one fp32 basis, or one for each where dropout tells them apart.
template <class T>
std::vector<LowRank> input_updates(Device *device, const lethe_linear_args &a) {
  float *basis = device->scratch[kBasis].of<float>(a.total_rank * a.in);
  float *to = basis;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const T *from = static_cast<const T *>(a.adapters[i].a);
    const int64_t count = a.adapters[i].rank * a.in;
    for (int64_t k = 0; k < count; ++k) to[k] = to_float(from[k]);
    to += count;
  }
  if (!any_drops(a)) return {{0, a.in, 0, a.total_rank, basis}};
  std::vector<LowRank> updates;
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    updates.push_back({0, a.in, column, adapter.rank, basis + column * a.in, drops(a, adapter) ? &adapter : nullptr});
    column += adapter.rank;
  }
  return updates;
}

template <class T>
void forward(Device *device, const lethe_linear_args &a) {
  const bool adapters = a.adapter_count > 0 && a.adapted > 0;
  const float *ranks = adapters ? forward_ranks<T>(device, a) : nullptr;
  const std::vector<LowRank> updates = adapters ? output_updates<T>(device, a) : std::vector<LowRank>();
  const Operand w{a.w, a.in, true};
  const T *bias = static_cast<const T *>(a.b);
  if constexpr (sizeof(T) == sizeof(float)) {
    auto *y = static_cast<float *>(a.y);
    const bool residual = a.residual != nullptr;
    if (residual && a.residual != a.y) std::memcpy(y, a.residual, static_cast<size_t>(a.T * a.out) * sizeof(float));
    gemm(device, {LETHE_F32, LETHE_F32, a.T, a.out, a.in, {a.x, a.in}, w, y, a.out, 1.0f, residual ? 1.0f : 0.0f});
    if (adapters || bias != nullptr) {
      Finish<T>{y, a.T, a.out, updates, adapters ? a.adapted : 0, ranks, a.total_rank, nullptr, y, bias}();
    }
  } else {
    float *sums = device->scratch[kSums].of<float>(std::min(kChunkRows, a.T) * a.out);
    for (int64_t first = 0; first < a.T; first += kChunkRows) {
      const int64_t rows = std::min(kChunkRows, a.T - first);
      const T *x = static_cast<const T *>(a.x) + first * a.in;
      gemm(device, {LETHE_BF16, LETHE_F32, rows, a.out, a.in, {x, a.in}, w, sums, a.out});
      const T *residual = a.residual == nullptr ? nullptr : static_cast<const T *>(a.residual) + first * a.out;
      T *y = static_cast<T *>(a.y) + first * a.out;
      const int64_t adapted = adapters ? std::clamp<int64_t>(a.adapted - first, 0, rows) : 0;
      const float *coefficients = adapted > 0 ? ranks + first * a.total_rank : nullptr;
      Finish<T>{sums, rows, a.out, updates, adapted, coefficients, a.total_rank, residual, y, bias}();
    }
  }
}

// du = scale * dy B, stored and as fp32 [T, total_rank].
template <class T>
const float *backward_ranks(Device *device, const lethe_linear_args &a) {
  float *ranks = device->scratch[kRanks].of<float>(a.T * a.total_rank);
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    const T *dy = static_cast<const T *>(a.dy) + adapter.first_out;
    const Matrix<T> b = {static_cast<const T *>(adapter.b), adapter.rank, adapter.part_out, true};
    to_ranks(device, dy, a.out, a.T, b, ranks + column, a.total_rank);
    column += adapter.rank;
  }
  store_ranks<T>(a, a.T, ranks, a.du);
  return ranks;
}

// dx = dy W + du A.
template <class T>
void input_gradient(Device *device, const lethe_linear_args &a, const float *ranks) {
  const std::vector<LowRank> updates = ranks != nullptr ? input_updates<T>(device, a) : std::vector<LowRank>();
  const Operand w{a.w, a.in};
  if constexpr (sizeof(T) == sizeof(float)) {
    auto *dx = static_cast<float *>(a.dx);
    gemm(device, {LETHE_F32, LETHE_F32, a.T, a.in, a.out, {a.dy, a.out}, w, dx, a.in});
    if (ranks != nullptr) {
      Finish<T>{dx, a.T, a.in, updates, a.T, ranks, a.total_rank, nullptr, dx, nullptr, a.row_keys}();
    }
  } else {
    float *sums = device->scratch[kSums].of<float>(std::min(kChunkRows, a.T) * a.in);
    for (int64_t first = 0; first < a.T; first += kChunkRows) {
      const int64_t rows = std::min(kChunkRows, a.T - first);
      const T *dy = static_cast<const T *>(a.dy) + first * a.out;
      gemm(device, {LETHE_BF16, LETHE_F32, rows, a.in, a.out, {dy, a.out}, w, sums, a.in});
      const float *coefficients = ranks != nullptr ? ranks + first * a.total_rank : nullptr;
      T *dx = static_cast<T *>(a.dx) + first * a.in;
      const uint64_t *row_keys = a.row_keys == nullptr ? nullptr : a.row_keys + first;
      Finish<T>{sums,    rows, a.in,    updates, ranks != nullptr ? rows : 0, coefficients, a.total_rank,
                nullptr, dx,   nullptr, row_keys}();
    }
  }
}

// gradient[rows,columns] += left[T,rows]^T right[T,columns].
template <class T>
void add_outer(Device *device, int64_t tokens, const void *left, int64_t left_stride, int64_t rows, const void *right,
               int64_t right_stride, int64_t columns, float *gradient) {
  gemm(device, {dtype_of<T>(),
                LETHE_F32,
                rows,
                columns,
                tokens,
                {left, left_stride, true},
                {right, right_stride},
                gradient,
                columns,
                1.0f,
                1.0f});
}

// gradient[rank, in] += du^T x, or of the whole matrix where the adapters' A are one.
template <class T>
void input_factor_gradient(Device *device, const lethe_linear_args &a, const T *x, int64_t column, int64_t rank,
                           const float *du, float *gradient) {
  if (rank > kMostLowRank) {
    add_outer<T>(device, a.T, static_cast<const T *>(a.du) + column, a.total_rank, rank, x, a.in, a.in, gradient);
    return;
  }
  outer(x, a.in, a.T, a.in, du + column, a.total_rank, rank, {gradient, a.in, 1});
}

// gradient[part_out, rank] += dy^T u.
template <class T>
void output_factor_gradient(Device *device, const lethe_linear_args &a, const lethe_adapter &adapter, int64_t column,
                            const float *u) {
  const T *dy = static_cast<const T *>(a.dy) + adapter.first_out;
  if (adapter.rank > kMostLowRank) {
    add_outer<T>(device, a.T, dy, a.out, adapter.part_out, static_cast<const T *>(a.u) + column, a.total_rank,
                 adapter.rank, adapter.db);
    return;
  }
  outer(dy, a.out, a.T, adapter.part_out, u + column, a.total_rank, adapter.rank, {adapter.db, 1, adapter.rank});
}

// u as fp32.
template <class T>
const float *wide_ranks(Device *device, const lethe_linear_args &a) {
  const auto *u = static_cast<const T *>(a.u);
  if constexpr (sizeof(T) == sizeof(float)) {
    return u;
  } else {
    float *wide = device->scratch[kSums].of<float>(a.T * a.total_rank);
    for (int64_t i = 0; i < a.T * a.total_rank; ++i) wide[i] = to_float(u[i]);
    return wide;
  }
}

// `du` as fp32, of the values that are stored.
template <class T>
void adapter_gradients(Device *device, const lethe_linear_args &a, const float *du) {
  const auto *x = static_cast<const T *>(a.x);
  const bool one = gradients_stacked(a) && !any_drops(a);
  if (one) input_factor_gradient<T>(device, a, x, 0, a.total_rank, du, a.adapters[0].da);
  const float *u = a.adapter_count > 0 ? wide_ranks<T>(device, a) : nullptr;
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    if (!one && adapter.da != nullptr) {
      const T *input = drops(a, adapter) ? masked_input<T>(device, a, adapter, a.T) : x;
      input_factor_gradient<T>(device, a, input, column, adapter.rank, du, adapter.da);
    }
    if (adapter.db != nullptr) output_factor_gradient<T>(device, a, adapter, column, u);
    column += adapter.rank;
  }
}

// db += the column sums of dy. Columns are shared among the threads and rows added in order.
template <class T>
void bias_gradient(const lethe_linear_args &a) {
#pragma omp parallel
  {
    const Range columns = share(a.out, omp_get_thread_num(), omp_get_num_threads());
    for (int64_t t = 0; t < a.T; ++t) {
      const T *dy = static_cast<const T *>(a.dy) + t * a.out;
      int64_t i = columns.begin;
      for (; i + kLanes <= columns.end; i += kLanes) store(a.db + i, load(a.db + i) + load(dy + i));
      for (; i < columns.end; ++i) a.db[i] += to_float(dy[i]);
    }
  }
}

template <class T>
void backward(Device *device, const lethe_linear_args &a) {
  const float *ranks = a.adapter_count > 0 ? backward_ranks<T>(device, a) : nullptr;
  if (a.dx != nullptr) input_gradient<T>(device, a, ranks);
  adapter_gradients<T>(device, a, ranks);
  if (a.dw != nullptr) add_outer<T>(device, a.T, a.dy, a.out, a.out, a.x, a.in, a.in, a.dw);
  if (a.db != nullptr) bias_gradient<T>(a);
}

}  // namespace

int linear_forward(Device *device, const lethe_linear_args *args) {
  return run(device, __func__, [&] {
    if (args->T > 0) args->dtype == LETHE_BF16 ? forward<bf16>(device, *args) : forward<float>(device, *args);
    return static_cast<int>(LETHE_OK);
  });
}

int linear_backward(Device *device, const lethe_linear_args *args) {
  return run(device, __func__, [&] {
    if (args->T > 0) args->dtype == LETHE_BF16 ? backward<bf16>(device, *args) : backward<float>(device, *args);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
