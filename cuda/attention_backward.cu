// Attention's backward pass on tensor cores: one kernel for dq, whose blocks take a row tile and let its keys pass by,
// and one for dk and dv, whose blocks take key rows and let pass all that see them, in the order of the table. Weights
// are made anew from lse; they and the scores' gradients are rounded to bf16 where they multiply rows.
#include "attention_mma.cuh"

namespace lethe::cuda::attention {
namespace {

// Sizes that keep a block within 99 KiB and the register file.
template <int D>
struct DqSizes {
  static constexpr int kRows = kBackwardRows;  // 16 a warp
  static constexpr int kKeys = D <= 64 ? 64 : 32;
  static constexpr int kStages = D <= 128 ? 2 : 1;
  static constexpr int kThreads = kMmaThreads;
  static constexpr int kStage = 2 * kKeys * kPitch<D>;  // keys, then values
  static constexpr size_t kBytes = (2 * kRows * kPitch<D> + kStages * kStage) * sizeof(bf16);
};
template <int D>
struct DkvSizes {
  static constexpr int kKeys = 64;                 // 16 a warp
  static constexpr int kParts = D <= 128 ? 1 : 2;  // warps that share keys, and take columns of dk and dv
  static constexpr int kColumns = D / kParts;
  static constexpr int kRows = D <= 64 ? 64 : D <= 128 ? 32 : 16;
  static constexpr int kStages = D <= 128 ? 2 : 1;
  static constexpr int kThreads = kMmaThreads * kParts;
  // For sm_120 ptxas keeps registers free for more blocks than shared memory has room for, and spills at 64; told of
  // one block, it spills at 128. 0 leaves it the choice.
  static constexpr int kBlocks = D <= 64 ? 1 : 0;
  static constexpr int kStage = 2 * kRows * kPitch<D>;  // queries, then dout
  static constexpr size_t kBytes = (2 * kKeys * kPitch<D> + kStages * kStage) * sizeof(bf16);
};

// From products of q and k, and of dout and v: weight, and in `dscore` the gradient of scale q k.
__device__ inline float weight_of(const Scores &scores, float product, float lse, float delta, bool seen,
                                  float *dscore) {
  const float exponent = scores.exponent(product);
  const float weight = seen ? exp2_approx(exponent - lse) : 0.0f;
  *dscore = seen ? weight * (*dscore - delta) * scores.slope(exponent) : 0.0f;
  return weight;
}

// A warp's rows from `first` on.
template <int D>
__device__ void write_dq(const Call &c, const Segment &s, const RowTile &rows, int64_t kv_head, int first,
                         const float (&dq)[D / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), d = static_cast<int>(c.a.head_dim);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = first + fragment_c(lane, 2 * half).row;
    if (r >= rows.rows) continue;
    bf16 *to = static_cast<bf16 *>(c.a.dq) + Row(c, s, rows, kv_head, r).q;
#pragma unroll
    for (int t = 0; t < D / 8; ++t) {
      store_pair(to, t * 8 + lane % 4 * 2, d, c.fast_dq, dq[t][2 * half] * c.a.scale, dq[t][2 * half + 1] * c.a.scale);
    }
  }
}

template <int D>
__global__ void __launch_bounds__(DqSizes<D>::kThreads) dq_kernel(Call c) {
  using Sizes = DqSizes<D>;
  if (*c.closed != 0) return;
  const int64_t kv_head = blockIdx.x % c.a.kv_heads, number = blockIdx.x / c.a.kv_heads;
  if (number >= c.plan->tiles) return;
  const Tile tile = c.tiles[c.plan->tiles - 1 - number];  // those with most keys first
  const Segment s = Segment::read(c.a, tile.segment);
  const RowTile rows(s, int64_t{tile.number} * Sizes::kRows, Sizes::kRows, c.group);
  const Scores scores(c.a);
  bf16 *queries = dynamic_shared<bf16>(), *douts = queries + Sizes::kRows * kPitch<D>;
  bf16 *stages = douts + Sizes::kRows * kPitch<D>;
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int d = static_cast<int>(c.a.head_dim);
  const int64_t end = s.visible(rows.query_of(rows.rows - 1));
  const int64_t start = s.hidden(rows.query, c.a.window) / Sizes::kKeys * Sizes::kKeys;

  const bf16 *q = static_cast<const bf16 *>(c.a.q), *dout = static_cast<const bf16 *>(c.a.dout);
  load_rows<D, Sizes::kRows, Sizes::kThreads>(
      queries, q, d, c.fast_q, [&](int r) { return r < rows.rows ? q + Row(c, s, rows, kv_head, r).q : nullptr; });
  load_rows<D, Sizes::kRows, Sizes::kThreads>(douts, dout, d, c.fast_out, [&](int r) {
    return r < rows.rows ? dout + Row(c, s, rows, kv_head, r).out : nullptr;
  });
  int64_t hidden[2], visible[2];
  float lse[2], delta[2];
  for (int half = 0; half < 2; ++half) {
    // Rows past the end do as the last one does.
    const int r = static_cast<int>(smaller(warp * 16 + fragment_c(lane, 2 * half).row, rows.rows - 1));
    const Row at(c, s, rows, kv_head, r);
    hidden[half] = s.hidden(rows.query_of(r), c.a.window);
    visible[half] = s.visible(rows.query_of(r));
    lse[half] = c.a.lse[at.lse] * kLog2E;
    delta[half] = c.delta[at.lse];
  }
  float dq[D / 8][4];
  clear(dq);
  const auto load = [&](int stage, int64_t begin) {
    bf16 *to = stages + stage * Sizes::kStage;
    load_keys<D, Sizes::kKeys, Sizes::kThreads>(to, s, begin, end, c.a.k, c.a.k_stride, kv_head * d, d, c.fast_k);
    load_keys<D, Sizes::kKeys, Sizes::kThreads>(to + Sizes::kKeys * kPitch<D>, s, begin, end, c.a.v, c.a.v_stride,
                                                kv_head * d, d, c.fast_v);
  };
  stream<Sizes::kStages, kMmaThreads>(start, end, Sizes::kKeys, load, [&](int stage, int64_t begin) {
    const bf16 *keys = stages + stage * Sizes::kStage, *values = keys + Sizes::kKeys * kPitch<D>;
    float p[Sizes::kKeys / 8][4], ds[Sizes::kKeys / 8][4];
    product_of_rows<D>(p, queries + warp * 16 * kPitch<D>, keys);
    product_of_rows<D>(ds, douts + warp * 16 * kPitch<D>, values);
    const Seen seen[2] = {{hidden[0], visible[0], begin, Sizes::kKeys}, {hidden[1], visible[1], begin, Sizes::kKeys}};
#pragma unroll
    for (int t = 0; t < Sizes::kKeys / 8; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool has = seen[i / 2].has(t * 8 + fragment_c(lane, i).column);
        weight_of(scores, p[t][i], lse[i / 2], delta[i / 2], has, &ds[t][i]);
      }
    }
    add_product<D>(dq, ds, keys);
  });
  write_dq<D>(c, s, rows, kv_head, warp * 16, dq);
}

// What a row tile's rows see of the block's keys, counted from the first of them.
template <int kRows>
struct Seers {
  int hidden[kRows], visible[kRows];
  float lse[kRows], delta[kRows];  // lse: an exponent of 2
};

// `list`: where the block's first key row would stand in the segment's list; those of [from, to) are meant.
template <int kRows, int kKeys>
__device__ void find_seers(Seers<kRows> *seers, const Call &c, const Segment &s, const RowTile &rows, int64_t kv_head,
                           int64_t list, int64_t from, int64_t to) {
  const int r = static_cast<int>(threadIdx.x);
  if (r >= kRows) return;
  const bool there = r < rows.rows;
  const int64_t query = rows.query_of(there ? r : 0);
  const Row at(c, s, rows, kv_head, there ? r : 0);
  const Seen seen(larger(s.hidden(query, c.a.window), from), smaller(s.visible(query), to), list, kKeys);
  seers->hidden[r] = seen.hidden;
  seers->visible[r] = there ? seen.visible : 0;
  seers->lse[r] = there ? c.a.lse[at.lse] * kLog2E : 0.0f;
  seers->delta[r] = there ? c.delta[at.lse] : 0.0f;
}

template <int D>
struct KeyBlock {
  using Sizes = DkvSizes<D>;
  const bf16 *keys, *values;  // of the warp
  bf16 *stages;
  Seers<Sizes::kRows> *seers;  // by stage
  int64_t kv_head;
  int first_column, first_key;  // of the warp
  float dk[Sizes::kColumns / 8][4], dv[Sizes::kColumns / 8][4];

  __device__ void load(const Call &c, const Segment &s, const RowTile &rows, int stage) const {
    const int d = static_cast<int>(c.a.head_dim);
    bf16 *queries = stages + stage * Sizes::kStage, *douts = queries + Sizes::kRows * kPitch<D>;
    const bf16 *q = static_cast<const bf16 *>(c.a.q), *dout = static_cast<const bf16 *>(c.a.dout);
    load_rows<D, Sizes::kRows, Sizes::kThreads>(
        queries, q, d, c.fast_q, [&](int r) { return r < rows.rows ? q + Row(c, s, rows, kv_head, r).q : nullptr; });
    load_rows<D, Sizes::kRows, Sizes::kThreads>(douts, dout, d, c.fast_out, [&](int r) {
      return r < rows.rows ? dout + Row(c, s, rows, kv_head, r).out : nullptr;
    });
  }

  __device__ void use(const Scores &scores, int stage) {
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    const bf16 *queries = stages + stage * Sizes::kStage, *douts = queries + Sizes::kRows * kPitch<D>;
    const Seers<Sizes::kRows> &seen_by = seers[stage];
    float p[Sizes::kRows / 8][4], ds[Sizes::kRows / 8][4];  // [key][row]
    product_of_rows<D>(p, keys, queries);
    product_of_rows<D>(ds, values, douts);
#pragma unroll
    for (int t = 0; t < Sizes::kRows / 8; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const At at = fragment_c(lane, i);
        const int r = t * 8 + at.column, key = first_key + at.row;
        const bool seen = key >= seen_by.hidden[r] && key < seen_by.visible[r];
        p[t][i] = weight_of(scores, p[t][i], seen_by.lse[r], seen_by.delta[r], seen, &ds[t][i]);
      }
    }
    add_product<D>(dv, p, douts + first_column);
    add_product<D>(dk, ds, queries + first_column);
  }
};

template <int D>
__global__ void __launch_bounds__(DkvSizes<D>::kThreads, DkvSizes<D>::kBlocks) dkv_kernel(Call c) {
  using Sizes = DkvSizes<D>;
  __shared__ Seers<Sizes::kRows> seers[Sizes::kStages];
  if (*c.closed != 0) return;
  const int64_t begin = blockIdx.x / c.a.kv_heads * Sizes::kKeys, end = smaller(begin + Sizes::kKeys, c.a.k_rows);
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int d = static_cast<int>(c.a.head_dim);
  const Scores scores(c.a);
  bf16 *keys = dynamic_shared<bf16>(), *values = keys + Sizes::kKeys * kPitch<D>;
  KeyBlock<D> block;
  block.kv_head = blockIdx.x % c.a.kv_heads;
  block.first_key = warp % kMmaWarps * 16;
  block.first_column = warp / kMmaWarps * Sizes::kColumns;
  block.keys = keys + block.first_key * kPitch<D>;
  block.values = values + block.first_key * kPitch<D>;
  block.stages = values + Sizes::kKeys * kPitch<D>;
  block.seers = seers;
  clear(block.dk);
  clear(block.dv);
  const Segment all = {0, 0, 0, c.a.k_rows, 0, 0};
  const int64_t column = block.kv_head * d;
  load_keys<D, Sizes::kKeys, Sizes::kThreads>(keys, all, begin, end, c.a.k, c.a.k_stride, column, d, c.fast_k);
  load_keys<D, Sizes::kKeys, Sizes::kThreads>(values, all, begin, end, c.a.v, c.a.v_stride, column, d, c.fast_v);
  copies_commit();

  for_segments_of_keys(c.a, begin, end, [&](const Segment &s, int64_t list, int64_t from, int64_t to) {
    const SeenBy seen_by(s, from, to, c.a.window, c.group, Sizes::kRows);
    const auto load = [&](int stage, int64_t number) {
      const RowTile rows(s, number * Sizes::kRows, Sizes::kRows, c.group);
      block.load(c, s, rows, stage);
      find_seers<Sizes::kRows, Sizes::kKeys>(seers + stage, c, s, rows, block.kv_head, list, from, to);
    };
    stream<Sizes::kStages, Sizes::kThreads>(seen_by.first, seen_by.end, 1, load,
                                            [&](int stage, int64_t) { block.use(scores, stage); });
  });
  copies_wait<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = begin + block.first_key + fragment_c(lane, 2 * half).row;
    if (row >= end) continue;
    bf16 *dk = static_cast<bf16 *>(c.a.dk) + row * c.a.k_stride + column;
    bf16 *dv = static_cast<bf16 *>(c.a.dv) + row * c.a.v_stride + column;
#pragma unroll
    for (int t = 0; t < Sizes::kColumns / 8; ++t) {
      const int at = block.first_column + t * 8 + lane % 4 * 2;
      store_pair(dk, at, d, c.fast_dk, block.dk[t][2 * half] * c.a.scale, block.dk[t][2 * half + 1] * c.a.scale);
      store_pair(dv, at, d, c.fast_dv, block.dv[t][2 * half], block.dv[t][2 * half + 1]);
    }
  }
}

}  // namespace

int mma_backward(Device *device, const Call &call) {
  const lethe_attention_args &a = call.a;
  return with_padded_dim(a.head_dim, [&](auto dim) {
    constexpr int D = decltype(dim)::value;
    using Dq = DqSizes<D>;
    using Dkv = DkvSizes<D>;
    const Shape dq = {"attention_dq",
                      {static_cast<unsigned>(most_tiles(a, Dq::kRows) * a.kv_heads)},
                      static_cast<unsigned>(Dq::kThreads),
                      Dq::kBytes,
                      least_bytes(a, 3, 2)};
    LETHE_CUDA_TRY(launch(device, dq, dq_kernel<D>, call));
    const Shape dkv = {"attention_dkv",
                       {static_cast<unsigned>(ceil_div(a.k_rows, Dkv::kKeys) * a.kv_heads)},
                       static_cast<unsigned>(Dkv::kThreads),
                       Dkv::kBytes,
                       least_bytes(a, 2, 4)};
    return launch(device, dkv, dkv_kernel<D>, call);
  });
}

}  // namespace lethe::cuda::attention
