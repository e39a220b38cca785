// The linear layer with LoRA adapters: y = x W^T + b (+ residual) + sum over adapters of u B^T, u = scale * x A^T.
//
// With dropout x A^T is (m o x) A^T / (1 - p): the mask is applied to x, exactly, and 1 / (1 - p) joins the scale.
//
// What is rounded to bf16, in bf16 storage: u and du once, where they are stored, and all that follows uses the stored
// values; y and dx once, from fp32 sums of all their terms. Gradients are summed in fp32.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "device.h"
#include "gemm.h"
#include "number.h"
#include "philox.h"

namespace lethe::cpu {
namespace {

// Rows of fp32 sums that exist at a time in bf16 storage.
constexpr int64_t kChunkRows = 512;
// Rows that share the loads of a low-rank update's basis.
constexpr int64_t kTileRows = 4;

// Elements that are not worth waking the other threads.
constexpr int64_t kSmall = 1 << 14;

enum ScratchSlot { kSums, kRanks, kBasis, kDropped, kDelta };

template <class T>
constexpr int32_t dtype_of() {
  return sizeof(T) == sizeof(bf16) ? LETHE_BF16 : LETHE_F32;
}

// sums[Rows, width] += coefficients[Rows, rank] * basis[rank, width].
template <int64_t Rows>
void low_rank_tile(float *sums, int64_t sums_stride, const float *coefficients, int64_t coefficients_stride,
                   int64_t rank, const float *basis, int64_t width) {
  int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes) {
    f32x16 acc[Rows];
    for (int64_t r = 0; r < Rows; ++r) acc[r] = load(sums + r * sums_stride + j);
    for (int64_t k = 0; k < rank; ++k) {
      const f32x16 b = load(basis + k * width + j);
      for (int64_t r = 0; r < Rows; ++r) acc[r] += b * coefficients[r * coefficients_stride + k];
    }
    for (int64_t r = 0; r < Rows; ++r) store(sums + r * sums_stride + j, acc[r]);
  }
  for (; j < width; ++j) {
    for (int64_t r = 0; r < Rows; ++r) {
      float acc = sums[r * sums_stride + j];
      for (int64_t k = 0; k < rank; ++k) acc += basis[k * width + j] * coefficients[r * coefficients_stride + k];
      sums[r * sums_stride + j] = acc;
    }
  }
}

// sums[:, first : first + width] += coefficients[:, column : column + rank] * basis[rank, width].
struct LowRank {
  int64_t first, width, column, rank;
  const float *basis;
};

// What follows a product: sums[rows, width] gets the bias, and its low-rank updates in the first `adapted` rows; then
// y = round(sums (+ residual)), unless y is the sums themselves. `coefficients` has a row of `stride` for each of sums.
// A row's terms are added in the same order wherever the row stands.
template <class T>
struct Finish {
  float *sums;
  int64_t rows, width;
  const std::vector<LowRank> &updates;
  int64_t adapted;
  const float *coefficients;
  int64_t stride;
  const T *residual;
  T *y;
  const T *bias = nullptr;  // [width]

  void operator()() const {
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
#pragma omp parallel for schedule(static)
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = tile * kTileRows;
      const int64_t end = std::min(rows, first + kTileRows);
      const int64_t last_adapted = std::min(end, adapted);
      for (int64_t row = first; bias != nullptr && row < end; ++row) add_bias(sums + row * width);
      if (last_adapted - first == kTileRows) {
        update<kTileRows>(first);
      } else {
        for (int64_t row = first; row < last_adapted; ++row) update<1>(row);
      }
      if (static_cast<const void *>(y) != sums) round(first * width, end * width);
    }
  }

  template <int64_t Rows>
  void update(int64_t row) const {
    for (const LowRank &u : updates) {
      low_rank_tile<Rows>(sums + row * width + u.first, width, coefficients + row * stride + u.column, stride, u.rank,
                          u.basis, u.width);
    }
  }

  void add_bias(float *row) const {
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) store(row + i, load(row + i) + load(bias + i));
    for (; i < width; ++i) row[i] += to_float(bias[i]);
  }

  void round(int64_t begin, int64_t end) const {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      f32x16 v = load(sums + i);
      if (residual != nullptr) v += load(residual + i);
      store(y + i, v);
    }
    for (; i < end; ++i) from_float(residual == nullptr ? sums[i] : sums[i] + to_float(residual[i]), y + i);
  }
};

bool drops(const lethe_linear_args &a, const lethe_adapter &adapter) {
  return a.row_keys != nullptr && adapter.dropout > 0;
}
bool drops(const lethe_linear_args &a) {
  return std::any_of(a.adapters, a.adapters + a.adapter_count,
                     [&a](const lethe_adapter &adapter) { return drops(a, adapter); });
}

// Calls visit(j, kept) for the columns [0, columns) of a row.
template <class Visit>
void mask_row(uint64_t row_key, const lethe_adapter &adapter, int64_t columns, Visit &&visit) {
  // A word is below 2^32, so that the comparison with p 2^32 is one of integers.
  const auto least = static_cast<uint64_t>(std::ceil(static_cast<double>(adapter.dropout) * 0x1p32));
  for (int64_t j = 0; j < columns; j += 4) {
    const Philox4x32 words = philox4x32(adapter.key, row_key, static_cast<uint64_t>(j / 4));
    const int64_t end = std::min<int64_t>(4, columns - j);
    for (int64_t k = 0; k < end; ++k) visit(j + k, words.word[k] >= least);
  }
}

// x[rows,in] without what the adapter's mask drops; x itself where it drops nothing.
template <class T>
const T *dropped(Device *device, const lethe_linear_args &a, const lethe_adapter &adapter, int64_t rows) {
  const T *x = static_cast<const T *>(a.x);
  if (!drops(a, adapter)) return x;
  T *to = device->scratch[kDropped].of<T>(rows * a.in);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; ++row) {
    mask_row(a.row_keys[row], adapter, a.in,
             [&](int64_t j, bool kept) { to[row * a.in + j] = kept ? x[row * a.in + j] : T{}; });
  }
  return to;
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
      const float scale = drops(a, adapter) ? adapter.scale / (1.0f - adapter.dropout) : adapter.scale;
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

// u = scale * x A^T for the adapted rows, stored and as fp32 [adapted, total_rank].
template <class T>
const float *forward_ranks(Device *device, const lethe_linear_args &a) {
  float *ranks = device->scratch[kRanks].of<float>(a.adapted * a.total_rank);
  const auto project = [&](const void *x, const void *matrix, int64_t rank, int64_t first) {
    gemm(device, {dtype_of<T>(),
                  LETHE_F32,
                  a.adapted,
                  rank,
                  a.in,
                  {x, a.in},
                  {matrix, a.in, true},
                  ranks + first,
                  a.total_rank});
  };
  if (stacked<T>(a) && !drops(a)) {
    project(a.x, a.adapters[0].a, a.total_rank, 0);
  } else {
    int64_t first = 0;
    for (int64_t i = 0; i < a.adapter_count; first += a.adapters[i].rank, ++i) {
      project(dropped<T>(device, a, a.adapters[i], a.adapted), a.adapters[i].a, a.adapters[i].rank, first);
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

// The adapters' part of dx: all their A as one fp32 basis.
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
  return {{0, a.in, 0, a.total_rank, basis}};
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
    gemm(device, {dtype_of<T>(),
                  LETHE_F32,
                  a.T,
                  adapter.rank,
                  adapter.part_out,
                  {dy, a.out},
                  {adapter.b, adapter.rank},
                  ranks + column,
                  a.total_rank});
    column += adapter.rank;
  }
  store_ranks<T>(a, a.T, ranks, a.du);
  return ranks;
}

// sums[rows,in] += m o (du A) of every adapter, for the rows from `first` on. The adapters' A stand in one fp32 basis.
void masked_updates(Device *device, const lethe_linear_args &a, const LowRank &all, const float *ranks, int64_t first,
                    int64_t rows, float *sums) {
  float *delta = device->scratch[kDelta].of<float>(rows * a.in);
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    gemm(device, {LETHE_F32,
                  LETHE_F32,
                  rows,
                  a.in,
                  adapter.rank,
                  {ranks + first * a.total_rank + column, a.total_rank},
                  {all.basis + column * a.in, a.in},
                  delta,
                  a.in});
    const bool masked = drops(a, adapter);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      float *to = sums + row * a.in;
      const float *from = delta + row * a.in;
      const auto add = [&](int64_t j, bool kept) { to[j] += kept ? from[j] : 0.0f; };
      if (masked) {
        mask_row(a.row_keys[first + row], adapter, a.in, add);
      } else {
        for (int64_t j = 0; j < a.in; ++j) add(j, true);
      }
    }
    column += adapter.rank;
  }
}

// dx = dy W + du A.
template <class T>
void input_gradient(Device *device, const lethe_linear_args &a, const float *ranks) {
  const std::vector<LowRank> all = ranks != nullptr ? input_updates<T>(device, a) : std::vector<LowRank>();
  const bool masked = ranks != nullptr && drops(a);
  const std::vector<LowRank> updates = masked ? std::vector<LowRank>() : all;
  const Operand w{a.w, a.in};
  if constexpr (sizeof(T) == sizeof(float)) {
    auto *dx = static_cast<float *>(a.dx);
    gemm(device, {LETHE_F32, LETHE_F32, a.T, a.in, a.out, {a.dy, a.out}, w, dx, a.in});
    if (masked) masked_updates(device, a, all[0], ranks, 0, a.T, dx);
    if (ranks != nullptr) Finish<T>{dx, a.T, a.in, updates, a.T, ranks, a.total_rank, nullptr, dx}();
  } else {
    float *sums = device->scratch[kSums].of<float>(std::min(kChunkRows, a.T) * a.in);
    for (int64_t first = 0; first < a.T; first += kChunkRows) {
      const int64_t rows = std::min(kChunkRows, a.T - first);
      const T *dy = static_cast<const T *>(a.dy) + first * a.out;
      gemm(device, {LETHE_BF16, LETHE_F32, rows, a.in, a.out, {dy, a.out}, w, sums, a.in});
      if (masked) masked_updates(device, a, all[0], ranks, first, rows, sums);
      const float *coefficients = ranks != nullptr ? ranks + first * a.total_rank : nullptr;
      T *dx = static_cast<T *>(a.dx) + first * a.in;
      Finish<T>{sums, rows, a.in, updates, ranks != nullptr ? rows : 0, coefficients, a.total_rank, nullptr, dx}();
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

template <class T>
void adapter_gradients(Device *device, const lethe_linear_args &a) {
  const bool one = gradients_stacked(a) && !drops(a);
  if (one) add_outer<T>(device, a.T, a.du, a.total_rank, a.total_rank, a.x, a.in, a.in, a.adapters[0].da);
  int64_t column = 0;
  for (int64_t i = 0; i < a.adapter_count; ++i) {
    const lethe_adapter &adapter = a.adapters[i];
    if (!one && adapter.da != nullptr) {
      add_outer<T>(device, a.T, static_cast<const T *>(a.du) + column, a.total_rank, adapter.rank,
                   dropped<T>(device, a, adapter, a.T), a.in, a.in, adapter.da);
    }
    if (adapter.db != nullptr) {
      add_outer<T>(device, a.T, static_cast<const T *>(a.dy) + adapter.first_out, a.out, adapter.part_out,
                   static_cast<const T *>(a.u) + column, a.total_rank, adapter.rank, adapter.db);
    }
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
  adapter_gradients<T>(device, a);
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
