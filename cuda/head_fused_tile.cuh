// What ends a tile of the fused head's products, whatever instruction left it in a thread's accumulators: for each
// eight columns (`kBlocks` of them) four, as an mma's fragment_c. Lanes of a quad hold a row together.
#pragma once

#include "head_fused.cuh"
#include "head_plan.cuh"
#include "head_statistics.cuh"
#include "lethe.h"

namespace lethe::cuda::fused {

// ---- the labels ----

// Where row `at` of the order has its operands of the label's logit.
__device__ inline const bf16 *label_hidden(const Labels &l, int64_t at) {
  return l.h + head_record(l.records, l.order[at < l.n ? at : l.n - 1]).source * l.d;
}
__device__ inline const bf16 *label_weight(const Labels &l, int64_t at) {
  const int32_t label = head_record(l.records, l.order[at < l.n ? at : l.n - 1]).label;
  return l.w + int64_t{label < 0 ? 0 : label} * l.d;
}

// What the tiles need of a row whose product with its label's is `z`.
__device__ inline void write_row(const Labels &l, int64_t at, float z) {
  if (at >= l.n) return;
  const int64_t record = l.order[at];
  const HeadRecord r = head_record(l.records, record);
  const float beta = l.params == nullptr ? 1.0f : 1.0f / l.params[record * LETHE_ROW_PARAMS];
  const float logit = r.label < 0 ? 0.0f : l.bias == nullptr ? z : z + l.bias[r.label];
  l.row[at] = {beta, logit, r.label, r.kind};
}

// ---- a tile of logits ----

__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
__device__ inline Largest quad_largest(Largest x) {
#pragma unroll
  for (unsigned step = 1; step <= 2; step *= 2) {
    x = larger(x, Largest{__shfl_xor_sync(kAllLanes, x.value, step), __shfl_xor_sync(kAllLanes, x.index, step)});
  }
  return x;
}

// The quad's words as a matrix, transposed: word i of lane q is what was word q of lane i.
__device__ inline void quad_transpose(uint32_t (&words)[4]) {
  const unsigned lane = threadIdx.x;
#pragma unroll
  for (unsigned step = 1; step <= 2; step *= 2) {
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      if ((i & step) != 0) continue;
      const bool upper = (lane & step) != 0;
      const uint32_t got = __shfl_xor_sync(kAllLanes, upper ? words[i] : words[i + step], step);
      if (upper) {
        words[i] = got;
      } else {
        words[i + step] = got;
      }
    }
  }
}

struct Sums {
  float e, ez, ezz, above, kept;  // of Part

  __device__ void add(const Sums &other) {
    e += other.e;
    ez += other.ez;
    ezz += other.ezz;
    above += other.above;
    kept += other.kept;
  }
};

// A thread's columns of a tile.
struct Columns {
  int64_t first;
  int left;  // so many of those from the first on are W's

  __device__ Columns(const Chunk &c, int64_t first_column) : first(first_column) {
    left = c.V - first < kColumns ? static_cast<int>(c.V - first) : kColumns;
  }
};

// Eight blocks at a time: registers have no room for more of the bias on its way.
template <int kBlocks>
__device__ void add_bias(float (&z)[kBlocks][4], int half, const float *bias, const Columns &columns) {
#pragma unroll
  for (int t = 0; t < kBlocks; ++t) {
    if (t % 8 == 0) __syncwarp();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (8 * t + i < columns.left) z[t][2 * half + i] += bias[columns.first + 8 * t + i];
    }
  }
}

// Takes out of the row's sums what is no column of W's, or the label's. Few tiles have such a thing.
template <int kBlocks>
__device__ void take_out(float (&z)[kBlocks][4], int half, int left, int own) {
#pragma unroll
  for (int t = 0; t < kBlocks; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = 8 * t + i;
      if (at >= left || at == own) z[t][2 * half + i] = -infinity();
    }
  }
}

// Adds the bias, takes out what is not to be seen, and gives the row's largest in these columns.
template <int kBlocks>
__device__ Largest finish_logits(float (&z)[kBlocks][4], int half, const Chunk &c, const Columns &columns, int label) {
  if (c.bias != nullptr) add_bias(z, half, c.bias, columns);
  const int64_t own = label - columns.first;
  const bool has_label = own >= 0 && own < 8 * kBlocks;
  if (has_label || columns.left < 8 * kBlocks) take_out(z, half, columns.left, has_label ? static_cast<int>(own) : -1);
  Largest largest = {-infinity(), 0};
#pragma unroll
  for (int t = 0; t < kBlocks; ++t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (z[t][2 * half + i] > largest.value) largest = {z[t][2 * half + i], 8 * t + i};
    }
  }
  if (largest.value > -infinity()) largest.index += static_cast<int>(columns.first);
  return quad_largest(largest);
}

// What a row's logits are seen against: exponents are of 2, 1 / temperature of log2(e).
struct Against {
  float rate, base, label_logit, unit, centre;
};

// 2^x is 0 there, and x still finite.
constexpr float kExponentFloor = -200.0f;

// Adds four blocks of a thread's columns to its sums, and gives their weights, two by two. kWhole: all columns are W's,
// which is worth the code where a thread has many.
template <bool kWhole, int kBlocks>
__device__ void sum_blocks(Sums *sums, const float (&z)[kBlocks][4], int group, int half, int left, const Against &a,
                           uint32_t (&words)[4]) {
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    float weight[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float logit = z[group + t][2 * half + i], exponent = (logit - a.base) * a.rate;
      const float x = exponent < kExponentFloor ? kExponentFloor : exponent, e = exp2_approx(x);
      sums->e += e;
      sums->ez += e * x;
      sums->ezz += e * x * x;
      sums->above += logit > a.label_logit ? 1.0f : 0.0f;
      weight[i] = kWhole || 8 * (group + t) + i < left ? e * a.unit - a.centre : 0.0f;
    }
    words[t] = pack_bf16(weight[0], weight[1]);
    sums->kept += __uint_as_float(words[t] << 16) + __uint_as_float(words[t] & 0xffff0000u);
  }
}

// A row's sums over a thread's columns, of which those in front of `left` are there, and the quad's weights of the row,
// 16 bytes a lane. Groups of columns that are none of W's add nothing; that each is a branch of its own keeps what a
// thread has on its way within its registers.
template <int kBlocks>
__device__ Sums sum_row(const float (&z)[kBlocks][4], int half, int left, const Against &a, bf16 *to) {
  Sums sums = {};
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp_left = left + fragment_c(lane, 0).column;
#pragma unroll
  for (int group = 0; group < kBlocks; group += 4) {
    uint32_t words[4] = {};
    if (kBlocks > 8 && 8 * group + 32 <= warp_left) {
      sum_blocks<true>(&sums, z, group, half, left, a, words);
      quad_transpose(words);
    } else if (8 * group < warp_left) {
      sum_blocks<false>(&sums, z, group, half, left, a, words);
      quad_transpose(words);
    }
    if (to != nullptr) {
      *reinterpret_cast<uint4 *>(to + 8 * (group + lane % 4)) = uint4{words[0], words[1], words[2], words[3]};
    }
  }
  constexpr float kLn2 = 0.693147181f;
  return {quad_sum(sums.e), quad_sum(kLn2 * sums.ez), quad_sum(kLn2 * kLn2 * sums.ezz), quad_sum(sums.above),
          quad_sum(sums.kept)};
}

// A row of a tile: nothing of it is read where it is not there.
struct TileRow {
  Row own;
  float mean;
  bool there;

  __device__ TileRow(const Chunk &c, int64_t row) : own{1.0f, 0.0f, -1, 0}, mean(0.0f), there(row < c.rows) {
    if (!there) return;
    own = c.row[row];
    mean = c.means[row];
  }
};

// Where `max` is the largest logit of a row over the tile: its sums over a thread's columns; the weights of the quad's
// columns go to `to`.
template <int kBlocks>
__device__ Sums sum_columns(const float (&z)[kBlocks][4], int half, const TileRow &row, const Columns &columns,
                            float max, bf16 *to) {
  const Scale scale(row.own.beta);
  const float power = scale.power(max, row.mean), base = max == -infinity() ? 0.0f : max;
  const Against against = {scale.high, base, row.own.label_logit, scale.weight(max, power),
                           scale.weight(row.mean, power)};
  return sum_row(z, half, columns.left, against, row.there ? to : nullptr);
}

__device__ inline Part part_of(const TileRow &row, const Largest &largest, const Sums &sums) {
  const Scale scale(row.own.beta);
  const float centre = scale.weight(row.mean, scale.power(largest.value, row.mean));
  return {largest.value, largest.index, sums.e, sums.ez, sums.ezz, sums.above, centre, sums.kept};
}

// Where row `row` of E begins at column `column`; null where nothing is asked for.
__device__ inline bf16 *weights_at(const Chunk &c, int64_t row, int64_t column) {
  return c.weights == nullptr ? nullptr : c.weights + row * c.tiles * kColumns + column;
}

// ---- a tile of the gradient ----

// A term whose coefficient is 0 is 0 whatever the weight holds.
__device__ inline float term(float coefficient, float x) { return coefficient == 0.0f ? 0.0f : coefficient * x; }

template <int kBlocks>
__device__ void finish_gradient(const Chunk &c, const float (&sums)[kBlocks][4], int half, const Ends &ends,
                                int64_t column, bf16 *to, bool aligned) {
  const bf16 *line = ends.column < 0 ? nullptr : c.w + ends.column * c.d;
#pragma unroll
  for (int t = 0; t < kBlocks; ++t) {
    const int64_t at = column + 8 * t;
    if (at >= c.d) continue;
    float x[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      x[i] = term(ends.scale, sums[t][2 * half + i]) + term(ends.of_mean, c.mean[at + i]);
      if (line != nullptr) x[i] += term(ends.of_column, to_float(line[at + i]));
    }
    if (aligned) {
      *reinterpret_cast<uint32_t *>(to + at) = pack_bf16(x[0], x[1]);
    } else {
      from_float(x[0], to + at);
      from_float(x[1], to + at + 1);
    }
  }
}

}  // namespace lethe::cuda::fused
