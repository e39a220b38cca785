// Attention of few queries over many keys, as in generation: the keys of a segment are split among warps, and what they
// find is put together in the order of the keys. How keys are split is a matter of the segment alone.
//
// A block takes a round of splits, one a warp. A segment of one round is finished by its block; what more rounds find
// goes through memory to a second kernel. Rounds are for the keys of tokens that came before the queries, as in
// generation: few such queries would leave a device idle. In a pass over whole sequences own keys are as many as
// queries, other segments keep the device busy, and memory for rounds would be needed for every row.
#include "attention_softmax.cuh"

namespace lethe::cuda::attention {
namespace {

constexpr int kKeys = 16;            // of a warp at a time
constexpr int64_t kRoundKeys = 512;  // fewer are not worth another round
constexpr int64_t kMostRounds = 8;

template <int D>
struct Sizes {
  static constexpr int kStages = D <= 128 ? 2 : 1;
  static constexpr int kStage = 2 * kKeys * kPitch<D>;  // keys, then values
  static constexpr int kWarpNumbers = kStages * kStage;
  static constexpr size_t kBytes = (kDecodeRows * kPitch<D> + kMmaWarps * kWarpNumbers) * sizeof(bf16);
  // Where a warp's keys and values were, its sums are put.
  static constexpr int kOutPitch = D + 8;
  static_assert(kDecodeRows * kOutPitch * sizeof(float) <= kWarpNumbers * sizeof(bf16));
};

__host__ __device__ constexpr int64_t rounds_of(int64_t keys) {
  return smaller((keys + kRoundKeys - 1) / kRoundKeys, kMostRounds);
}

// What a block works on.
struct Unit {
  int64_t segment, kv_head;
  Segment s;
  int64_t start, end, rounds;
  __device__ Unit(const Call &c, int64_t index, int64_t most_rounds)
      : segment(index / c.a.kv_heads), kv_head(index % c.a.kv_heads), s(Segment::read(c.a, segment)) {
    start = s.hidden(0, c.a.window) / kKeys * kKeys;
    end = s.keys();
    rounds = s.own_keys > s.queries ? smaller(rounds_of(end - start), most_rounds) : 1;
  }
  __device__ bool decodes(const Call &c) const { return s.queries > 0 && s.queries * c.group <= kDecodeRows; }
};

// Exponents of 2, and numbers relative to the largest.
struct Sums {
  float max, sum;
};

// Adds what is relative to another maximum: both are scaled by the factors.
struct Factors {
  float mine, more;
  __device__ Factors(Sums *to, Sums from) {
    const float max = fmaxf(to->max, from.max), base = max == negative_infinity() ? 0.0f : max;
    mine = exp2_approx(to->max - base);
    more = exp2_approx(from.max - base);
    *to = {max, to->sum * mine + from.sum * more};
  }
};

// Eight threads have a row; two neighbouring columns of every sixteen each.
template <int D>
struct Share {
  static constexpr int kPairs = D / 16;
  int r = static_cast<int>(threadIdx.x) / 8, column = static_cast<int>(threadIdx.x) % 8 * 2;
  Sums sums = {negative_infinity(), 0};
  float out[kPairs][2] = {};

  __device__ void add(Sums more, const float *row) {
    const Factors f(&sums, more);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      for (int k = 0; k < 2; ++k) out[i][k] = out[i][k] * f.mine + row[i * 16 + column + k] * f.more;
    }
  }
  __device__ void finish(const Call &c, const Row &at) const {
    const float inverse = 1.0f / sums.sum;
    bf16 *to = static_cast<bf16 *>(c.a.out) + at.out;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      store_pair(to, i * 16 + column, static_cast<int>(c.a.head_dim), c.fast_out, out[i][0] * inverse,
                 out[i][1] * inverse);
    }
    if (c.a.lse != nullptr && column == 0) c.a.lse[at.lse] = sums.max * kLn2 + logf(sums.sum);
  }
};

// What rounds find: {max, sum, D numbers} for every row and round, rows numbered in the shorter of two ways.
template <int D>
struct Found {
  float *numbers;
  bool by_query;
  int64_t rounds;
  __device__ float *at(const Call &c, const Unit &unit, int r, const Row &row, int64_t round) const {
    const int64_t index = by_query ? row.lse : (unit.segment * c.a.kv_heads + unit.kv_head) * kDecodeRows + r;
    return numbers + (index * rounds + round) * (D + 2);
  }
};

// A warp's keys [first, last) into its place in shared memory: sums by row.
template <int D>
__device__ void sum_keys(const Call &c, const Unit &unit, const RowTile &rows, const bf16 *queries, bf16 *mine,
                         int64_t first, int64_t last, Sums *sums) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), d = static_cast<int>(c.a.head_dim);
  constexpr int kLanes = static_cast<int>(kWarp);
  const Scores scores(c.a);
  RowState row;
  row.clear();
  const Bounds seen(unit.s, rows, 0, kDecodeRows, c.a.window);
  float out[D / 8][4];
  clear(out);
  const auto load = [&](int stage, int64_t begin) {
    bf16 *to = mine + stage * Sizes<D>::kStage;
    const int64_t column = unit.kv_head * d;
    load_keys<D, kKeys, kLanes>(to, unit.s, begin, last, c.a.k, c.a.k_stride, column, d, c.fast_k);
    load_keys<D, kKeys, kLanes>(to + kKeys * kPitch<D>, unit.s, begin, last, c.a.v, c.a.v_stride, column, d, c.fast_v);
  };
  stream<Sizes<D>::kStages, kLanes>(first, last, kKeys, load, [&](int stage, int64_t begin) {
    const bf16 *keys = mine + stage * Sizes<D>::kStage;
    float weights[kKeys / 8][4];
    product_of_rows<D>(weights, queries, keys);
    score(weights, scores);
    if (!seen.all(begin, kKeys)) mask(weights, c, unit.s, rows, 0, begin);
    soften(weights, out, &row);
    add_product<D>(out, weights, keys + kKeys * kPitch<D>);
  });
  auto *place = reinterpret_cast<float *>(mine);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = fragment_c(lane, 2 * half).row;
    const float sum = quad_sum(row.sum[half]);
    if (lane % 4 == 0) sums[r] = {row.max[half], sum};
#pragma unroll
    for (int t = 0; t < D / 8; ++t) {
      float *to = place + r * Sizes<D>::kOutPitch + t * 8 + lane % 4 * 2;
      to[0] = out[t][2 * half];
      to[1] = out[t][2 * half + 1];
    }
  }
}

template <int D>
__global__ void __launch_bounds__(kMmaThreads) decode_kernel(Call c, Found<D> found) {
  __shared__ Sums sums[kMmaWarps][kDecodeRows];
  if (*c.closed != 0) return;
  const Unit unit(c, blockIdx.x / found.rounds, found.rounds);
  const int64_t round = blockIdx.x % found.rounds;
  if (!unit.decodes(c) || round >= unit.rounds) return;
  const RowTile rows(unit.s, 0, kDecodeRows, c.group);
  bf16 *queries = dynamic_shared<bf16>(), *warps = queries + kDecodeRows * kPitch<D>;
  const bf16 *q = static_cast<const bf16 *>(c.a.q);
  load_rows<D, kDecodeRows, kMmaThreads>(queries, q, static_cast<int>(c.a.head_dim), c.fast_q, [&](int r) {
    return r < rows.rows ? q + Row(c, unit.s, rows, unit.kv_head, r).q : nullptr;
  });
  copies_commit();
  copies_wait<0>();
  __syncthreads();  // queries are there
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const int64_t splits = unit.rounds * kMmaWarps;
  const int64_t each = ((unit.end - unit.start + splits - 1) / splits + kKeys - 1) / kKeys * kKeys;
  const int64_t first = unit.start + (round * kMmaWarps + warp) * each;
  sum_keys<D>(c, unit, rows, queries, warps + warp * Sizes<D>::kWarpNumbers, first, smaller(first + each, unit.end),
              sums[warp]);
  __syncthreads();  // all warps' sums are there
  Share<D> share;
  for (int w = 0; w < kMmaWarps; ++w) {
    const auto *place = reinterpret_cast<const float *>(warps + w * Sizes<D>::kWarpNumbers);
    share.add(sums[w][share.r], place + share.r * Sizes<D>::kOutPitch);
  }
  if (share.r >= rows.rows) return;
  const Row at(c, unit.s, rows, unit.kv_head, share.r);
  if (unit.rounds == 1) return share.finish(c, at);
  float *to = found.at(c, unit, share.r, at, round);
  if (share.column == 0) {
    to[0] = share.sums.max;
    to[1] = share.sums.sum;
  }
  for (int i = 0; i < Share<D>::kPairs; ++i) {
    for (int k = 0; k < 2; ++k) to[2 + i * 16 + share.column + k] = share.out[i][k];
  }
}

template <int D>
__global__ void __launch_bounds__(kMmaThreads) decode_merge_kernel(Call c, Found<D> found) {
  if (*c.closed != 0) return;
  const Unit unit(c, blockIdx.x, found.rounds);
  if (!unit.decodes(c) || unit.rounds == 1) return;
  const RowTile rows(unit.s, 0, kDecodeRows, c.group);
  Share<D> share;
  if (share.r >= rows.rows) return;
  const Row at(c, unit.s, rows, unit.kv_head, share.r);
  for (int64_t round = 0; round < unit.rounds; ++round) {
    const float *from = found.at(c, unit, share.r, at, round);
    share.add({from[0], from[1]}, from + 2);
  }
  share.finish(c, at);
}

// The most rounds that a segment may need. Own keys that no two segments share are as many as queries, each of which is
// somebody's, where there are no more of them: no segment has rounds then. One that shares its own keys does with one.
int64_t most_rounds(const lethe_attention_args &a) {
  if (a.k_rows <= a.q_rows) return 1;
  const int64_t keys = 2 * a.k_rows;
  return rounds_of(a.window == 0 ? keys : smaller(keys, a.window + kDecodeRows + kKeys));
}
int64_t most_rows(const lethe_attention_args &a) {
  return smaller(a.q_rows * a.heads, a.segments * a.kv_heads * kDecodeRows);
}

}  // namespace

int64_t decode_bytes(const lethe_attention_args &a) {
  const int64_t rounds = most_rounds(a);
  return rounds <= 1 ? 0 : with_padded_dim(a.head_dim, [&](auto dim) {
    return most_rows(a) * rounds * (decltype(dim)::value + 2) * int64_t{4};
  });
}

int decode_forward(Device *device, const Call &call, float *found) {
  const lethe_attention_args &a = call.a;
  if (call.group > kDecodeRows) return LETHE_OK;
  return static_cast<int>(with_padded_dim(a.head_dim, [&](auto dim) -> int64_t {
    constexpr int D = decltype(dim)::value;
    const int64_t units = a.segments * a.kv_heads, rounds = most_rounds(a);
    const Found<D> places = {found, a.q_rows * a.heads <= units * kDecodeRows, rounds};
    const Shape shape = {"attention_decode", {static_cast<unsigned>(units * rounds)}, kMmaThreads, Sizes<D>::kBytes, 0};
    LETHE_CUDA_TRY(launch(device, shape, decode_kernel<D>, call, places));
    if (rounds <= 1) return LETHE_OK;
    const Shape merge = {"attention_decode_merge", {static_cast<unsigned>(units)}, kMmaThreads, 0, 0};
    return launch(device, merge, decode_merge_kernel<D>, call, places);
  }));
}

}  // namespace lethe::cuda::attention
