// What follows a linear layer's product while its sums are in the cache: bias, low-rank updates, residual, rounding.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "device.h"
#include "low_rank.h"
#include "number.h"
#include "philox.h"

namespace lethe::cpu {

// Rows that share the loads of an update's basis, and columns of it that stay in the first cache meanwhile.
inline constexpr int64_t kTileRows = 4, kTileColumns = 512;

// The least word that keeps a column; below 2^32, as no float lies between 1 - 2^-24 and 1.
inline uint32_t threshold_of(const lethe_adapter &adapter) {
  return static_cast<uint32_t>(std::ceil(static_cast<double>(adapter.dropout) * 0x1p32));
}

// sums[:, first : first + width] += coefficients[:, column : column + rank] * basis[rank, width].
struct LowRank {
  int64_t first, width, column, rank;
  const float *basis;
  const lethe_adapter *dropped = nullptr;  // the update is masked as this adapter's input was
};

// sums[rows, width] gets the bias, and its low-rank updates in the first `adapted` rows; then y = round(sums
// (+ residual)), unless y is the sums themselves. `coefficients` has a row of `stride` for each of sums. A row's terms
// are added in the same order wherever the row stands.
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
  const T *bias = nullptr;             // [width]
  const uint64_t *row_keys = nullptr;  // of the rows, where an update is masked

  // Threads share rows; each goes through its own once for every block of columns.
  void operator()() const {
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
#pragma omp parallel
    {
      const Range own = share(tiles, omp_get_thread_num(), omp_get_num_threads());
      for (int64_t column = 0; column < width; column += kTileColumns) {
        const Range columns = {column, std::min(width, column + kTileColumns)};
        for (int64_t tile = own.begin; tile < own.end; ++tile) {
          finish({tile * kTileRows, std::min(rows, (tile + 1) * kTileRows)}, columns);
        }
      }
    }
  }

  void finish(Range tile, Range columns) const {
    const int64_t last_adapted = std::min(tile.end, adapted);
    for (int64_t row = tile.begin; bias != nullptr && row < tile.end; ++row) add_bias(row, columns);
    if (last_adapted - tile.begin == kTileRows) {
      update<kTileRows>(tile.begin, columns);
    } else {
      for (int64_t row = tile.begin; row < last_adapted; ++row) update<1>(row, columns);
    }
    if (static_cast<const void *>(y) == sums) return;
    for (int64_t row = tile.begin; row < tile.end; ++row) round(row, columns);
  }

  template <int64_t Rows>
  void update(int64_t row, Range columns) const {
    for (const LowRank &u : updates) {
      const Range own = {std::max<int64_t>(0, columns.begin - u.first), std::min(u.width, columns.end - u.first)};
      if (own.begin >= own.end) continue;
      if (u.dropped != nullptr) {
        for (int64_t r = row; r < row + Rows; ++r) masked_update(u, r, own);
        continue;
      }
      low_rank_tile<Rows>(sums + row * width + u.first + own.begin, width, coefficients + row * stride + u.column,
                          stride, u.rank, u.basis + own.begin, own.end - own.begin, u.width);
    }
  }

  void masked_update(const LowRank &u, int64_t row, Range own) const {
    static_assert(kTileColumns % kMaskBlock == 0, "an update without an offset is cut between blocks of its mask");
    const uint32_t threshold = threshold_of(*u.dropped);
    for (int64_t first = own.begin; first < own.end; first += kMaskBlock) {
      float mask[kMaskBlock], part[kMaskBlock] = {};
      const int64_t count = std::min(kMaskBlock, own.end - first);
      dropout_mask(u.dropped->key, row_keys[row], threshold, first, mask);
      low_rank_tile<1>(part, kMaskBlock, coefficients + row * stride + u.column, stride, u.rank, u.basis + first, count,
                       u.width);
      float *to = sums + row * width + u.first + first;
      for (int64_t i = 0; i < count; ++i) to[i] += mask[i] * part[i];
    }
  }

  void add_bias(int64_t row, Range columns) const {
    float *to = sums + row * width;
    int64_t i = columns.begin;
    for (; i + kLanes <= columns.end; i += kLanes) store(to + i, load(to + i) + load(bias + i));
    for (; i < columns.end; ++i) to[i] += to_float(bias[i]);
  }

  void round(int64_t row, Range columns) const {
    const float *from = sums + row * width;
    const T *beside = residual == nullptr ? nullptr : residual + row * width;
    T *to = y + row * width;
    int64_t i = columns.begin;
    for (; i + kLanes <= columns.end; i += kLanes) {
      f32x16 v = load(from + i);
      if (beside != nullptr) v += load(beside + i);
      store(to + i, v);
    }
    for (; i < columns.end; ++i) from_float(beside == nullptr ? from[i] : from[i] + to_float(beside[i]), to + i);
  }
};

}  // namespace lethe::cpu
