#include <algorithm>

#include "dropout.cuh"
#include "philox.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

// Columns that share a counter.
constexpr int kWords = 4;

// keep[i]: 1 where the columns' word i is kept, else 0.
__device__ inline void mask_of(const Mask &mask, uint64_t row_key, int64_t column, float (&keep)[kWords]) {
  uint32_t words[kWords];
  philox(mask.key, row_key, static_cast<uint64_t>(column) / kWords, words);
#pragma unroll
  for (int i = 0; i < kWords; ++i) keep[i] = words[i] >= mask.threshold ? 1.0f : 0.0f;
}

constexpr unsigned kMaskThreads = 256;

// A thread for each piece of 16 bytes.
template <class T>
__global__ void __launch_bounds__(kMaskThreads)
    masked_input_kernel(int64_t rows, int64_t in, const T *x, const uint64_t *row_keys, Mask mask, T *to,
                        bool aligned) {
  const int64_t pieces = (in + kVector<T> - 1) / kVector<T>;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kMaskThreads + threadIdx.x;
  const int64_t row = quotient(index, pieces), column = (index - row * pieces) * kVector<T>;
  if (row >= rows) return;
  const int64_t at = row * in + column;
  const int n = in_piece<T>(in - column);
  const Vector<T> v = load_vector(x + at, n, aligned);
  const uint64_t row_key = row_keys[row];
  float masked[kVector<T>];
#pragma unroll
  for (int i = 0; i < kVector<T>; i += kWords) {
    float keep[kWords];
    mask_of(mask, row_key, column + i, keep);
#pragma unroll
    for (int word = 0; word < kWords; ++word) masked[i + word] = v.at(i + word) * keep[word];
  }
  store_vector(packed<T>(masked), to + at, n, aligned);
}

template <class T>
int masked_input_of(Device *device, int64_t rows, int64_t in, const void *x, const uint64_t *row_keys, Mask mask,
                    void *to) {
  const int64_t pieces = rows * ceil_div(in, kVector<T>);
  const Shape shape = {"masked_input",
                       {blocks_of(pieces, kMaskThreads)},
                       kMaskThreads,
                       0,
                       2 * rows * in * int64_t{sizeof(T)} + 8 * rows};
  return launch(device, shape, masked_input_kernel<T>, rows, in, static_cast<const T *>(x), row_keys, mask,
                static_cast<T *>(to), whole_rows<T>({x, to}, {in}));
}

// A block's tile of dx: each thread has kThreadRows rows of four columns.
constexpr int kTileRows = 32, kTileColumns = 128, kTileRanks = 16;
constexpr unsigned kTileThreads = 128;
constexpr int kThreadRows = kTileRows * kTileColumns / (static_cast<int>(kTileThreads) * kWords);

struct MaskedParts {
  MaskedPart part[kMaskedParts];
  int count;
};

// Four numbers of a row; 0 behind the n-th.
template <class T>
__device__ void load_four(const T *from, int n, float (&x)[kWords]) {
  using Four = Packed<T, kWords>;
  if (n >= kWords && reinterpret_cast<uintptr_t>(from) % sizeof(Four) == 0) {
    const Four four = *reinterpret_cast<const Four *>(from);
#pragma unroll
    for (int i = 0; i < kWords; ++i) x[i] = to_float(four.lanes[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kWords; ++i) x[i] = i < n ? to_float(from[i]) : 0.0f;
}
template <class T>
__device__ void store_four(const float (&x)[kWords], int n, T *to) {
  using Four = Packed<T, kWords>;
  Four four;
#pragma unroll
  for (int i = 0; i < kWords; ++i) from_float(x[i], four.lanes + i);
  if (n >= kWords && reinterpret_cast<uintptr_t>(to) % sizeof(Four) == 0) {
    *reinterpret_cast<Four *>(to) = four;
    return;
  }
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    if (i < n) to[i] = four.lanes[i];
  }
}

// Ranks of a part at a time, as fp32.
struct Tiles {
  alignas(16) float coefficients[kTileRanks][kTileRows + 4];  // four more spread a column over the banks
  alignas(16) float a[kTileRanks][kTileColumns];
};

template <class T>
__device__ void load_tiles(Tiles *tiles, const MaskedPart &part, int64_t rank, int64_t row, int64_t column,
                           int64_t rows, int64_t in, const T *coefficients, int64_t stride) {
  const int thread = static_cast<int>(threadIdx.x);
  const T *a = static_cast<const T *>(part.a);
  for (int i = thread; i < kTileRanks * kTileRows; i += static_cast<int>(kTileThreads)) {
    const int k = i % kTileRanks, r = i / kTileRanks;  // ranks lie side by side in memory
    const bool inside = rank + k < part.rank && row + r < rows;
    tiles->coefficients[k][r] = inside ? to_float(coefficients[(row + r) * stride + part.column + rank + k]) : 0.0f;
  }
  const int lane = thread % (kTileColumns / kWords) * kWords;
  for (int k = thread / (kTileColumns / kWords); k < kTileRanks;
       k += static_cast<int>(kTileThreads) / (kTileColumns / kWords)) {
    float four[kWords] = {};
    if (rank + k < part.rank && column + lane < in) {
      const int64_t left = in - column - lane;
      load_four(a + (rank + k) * in + column + lane, left < kWords ? static_cast<int>(left) : kWords, four);
    }
#pragma unroll
    for (int i = 0; i < kWords; ++i) tiles->a[k][lane + i] = four[i];
  }
}

// A block for each tile: column tiles of the same rows are neighbours.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    masked_update_kernel(int64_t rows, int64_t in, const T *coefficients, int64_t stride, const uint64_t *row_keys,
                         MaskedParts parts, bool add, T *dx) {
  __shared__ Tiles tiles;
  const int64_t column_tiles = (in + kTileColumns - 1) / kTileColumns;
  const int64_t row = blockIdx.x / column_tiles * kTileRows, column = blockIdx.x % column_tiles * kTileColumns;
  const int lane = static_cast<int>(threadIdx.x) % (kTileColumns / kWords) * kWords;
  const int first = static_cast<int>(threadIdx.x) / (kTileColumns / kWords) * kThreadRows;
  const int64_t left = in - column - lane;
  const int n = left < kWords ? static_cast<int>(left) : kWords;  // 0 or less: none of this thread's
  float total[kThreadRows][kWords] = {};
  for (int r = 0; add && r < kThreadRows; ++r) {
    if (n > 0 && row + first + r < rows) load_four(dx + (row + first + r) * in + column + lane, n, total[r]);
  }
  for (int p = 0; p < parts.count; ++p) {
    const MaskedPart &part = parts.part[p];
    float sums[kThreadRows][kWords] = {};
    for (int64_t rank = 0; rank < part.rank; rank += kTileRanks) {
      __syncthreads();  // tiles may be written
      load_tiles(&tiles, part, rank, row, column, rows, in, coefficients, stride);
      __syncthreads();  // tiles are written
#pragma unroll
      for (int k = 0; k < kTileRanks; ++k) {
#pragma unroll
        for (int r = 0; r < kThreadRows; ++r) {
#pragma unroll
          for (int i = 0; i < kWords; ++i) sums[r][i] += tiles.coefficients[k][first + r] * tiles.a[k][lane + i];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      float keep[kWords] = {1.0f, 1.0f, 1.0f, 1.0f};
      if (part.mask.threshold != 0 && row + first + r < rows) {
        mask_of(part.mask, row_keys[row + first + r], column + lane, keep);
      }
#pragma unroll
      for (int i = 0; i < kWords; ++i) total[r][i] += keep[i] * sums[r][i];
    }
  }
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    if (n > 0 && row + first + r < rows) store_four(total[r], n, dx + (row + first + r) * in + column + lane);
  }
}

template <class T>
int masked_update_of(Device *device, int64_t rows, int64_t in, const void *coefficients, int64_t stride,
                     const uint64_t *row_keys, const std::vector<MaskedPart> &parts, void *dx) {
  for (size_t first = 0; first < parts.size(); first += kMaskedParts) {
    MaskedParts some = {};
    some.count = static_cast<int>(std::min(parts.size() - first, size_t{kMaskedParts}));
    std::copy_n(parts.begin() + static_cast<std::ptrdiff_t>(first), some.count, some.part);
    const int64_t tiles = ceil_div(rows, kTileRows) * ceil_div(in, kTileColumns);
    const Shape shape = {"masked_update",
                         {static_cast<unsigned>(tiles)},
                         kTileThreads,
                         0,
                         rows * (in * (first > 0 ? 2 : 1) + stride) * int64_t{sizeof(T)}};
    LETHE_CUDA_TRY(launch(device, shape, masked_update_kernel<T>, rows, in, static_cast<const T *>(coefficients),
                          stride, row_keys, some, first > 0, static_cast<T *>(dx)));
  }
  return LETHE_OK;
}

}  // namespace

int masked_input(Device *device, int32_t dtype, int64_t rows, int64_t in, const void *x, const uint64_t *row_keys,
                 Mask mask, void *to) {
  return dtype == LETHE_BF16 ? masked_input_of<bf16>(device, rows, in, x, row_keys, mask, to)
                             : masked_input_of<float>(device, rows, in, x, row_keys, mask, to);
}

int masked_update(Device *device, int32_t dtype, int64_t T, int64_t in, const void *coefficients, int64_t stride,
                  const uint64_t *row_keys, const std::vector<MaskedPart> &parts, void *dx) {
  return dtype == LETHE_BF16 ? masked_update_of<bf16>(device, T, in, coefficients, stride, row_keys, parts, dx)
                             : masked_update_of<float>(device, T, in, coefficients, stride, row_keys, parts, dx);
}

}  // namespace lethe::cuda
