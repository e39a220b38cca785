// Attention's forward pass on tensor cores (Dao 2023): a block takes a row tile, its keys pass by in tiles, the softmax
// goes along online in fp32. Weights are rounded to bf16 where they multiply values; their sum is not.
#include "attention_softmax.cuh"

namespace lethe::cuda::attention {
namespace {

// Sizes that keep a block within 99 KiB and the register file. Two blocks of 16 rows a warp take twice from what is
// loaded for one.
template <int D>
struct Sizes {
  static constexpr int kBlocks = D <= 128 ? 2 : 1;
  static constexpr int kWarpRows = 16 * kBlocks;
  static constexpr int kRows = kMmaWarps * kWarpRows;
  static constexpr int kKeys = D <= 64 ? 64 : 32;
  static constexpr size_t kBytes = (kRows + 2 * kKeys) * kPitch<D> * sizeof(bf16);
};

template <int D>
__device__ void write_out(const Call &c, const Segment &s, const RowTile &rows, int64_t kv_head, int first,
                          const float (&out)[D / 8][4], const RowState &row) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = quad_sum(row.sum[half]);
    const int r = first + fragment_c(lane, 2 * half).row;
    if (r >= rows.rows) continue;
    const Row at(c, s, rows, kv_head, r);
    const float inverse = 1.0f / sum;
    bf16 *to = static_cast<bf16 *>(c.a.out) + at.out;
#pragma unroll
    for (int t = 0; t < D / 8; ++t) {
      store_pair(to, t * 8 + lane % 4 * 2, static_cast<int>(c.a.head_dim), c.fast_out, out[t][2 * half] * inverse,
                 out[t][2 * half + 1] * inverse);
    }
    if (c.a.lse != nullptr && lane % 4 == 0) c.a.lse[at.lse] = row.max[half] * kLn2 + logf(sum);
  }
}

template <int D>
__global__ void __launch_bounds__(kMmaThreads) forward_kernel(Call c) {
  using S = Sizes<D>;
  if (*c.closed != 0) return;
  const int64_t kv_head = blockIdx.x % c.a.kv_heads, number = blockIdx.x / c.a.kv_heads;
  if (number >= c.plan->tiles) return;
  // The last rows of a segment see most keys: they go first.
  const Tile tile = c.tiles[c.plan->tiles - 1 - number];
  const Segment s = Segment::read(c.a, tile.segment);
  const RowTile rows(s, int64_t{tile.number} * S::kRows, S::kRows, c.group);
  const Scores scores(c.a);
  bf16 *queries = dynamic_shared<bf16>(), *keys = queries + S::kRows * kPitch<D>;
  bf16 *values = keys + S::kKeys * kPitch<D>;
  const int first = static_cast<int>(threadIdx.x / kWarp) * S::kWarpRows;  // of the warp
  const int d = static_cast<int>(c.a.head_dim);
  const int64_t end = s.visible(rows.query_of(rows.rows - 1));
  const int64_t start = s.hidden(rows.query, c.a.window) / S::kKeys * S::kKeys;
  const bf16 *q = static_cast<const bf16 *>(c.a.q);
  const auto load = [&](bf16 *to, const void *from, int64_t stride, bool fast, int64_t begin) {
    load_keys<D, S::kKeys, kMmaThreads>(to, s, begin, end, from, stride, kv_head * d, d, fast);
    copies_commit();
  };

  load_rows<D, S::kRows, kMmaThreads>(
      queries, q, d, c.fast_q, [&](int r) { return r < rows.rows ? q + Row(c, s, rows, kv_head, r).q : nullptr; });
  load(keys, c.a.k, c.a.k_stride, c.fast_k, start);
  float out[S::kBlocks][D / 8][4];
  RowState row[S::kBlocks];
#pragma unroll
  for (int i = 0; i < S::kBlocks; ++i) {
    clear(out[i]);
    row[i].clear();
  }
  const Bounds seen(s, rows, first, S::kWarpRows, c.a.window);
  for (int64_t begin = start; begin < end; begin += S::kKeys) {
    const bool some = seen.some(begin, S::kKeys);
    copies_wait<0>();
    __syncthreads();  // keys are there, values may be overwritten
    load(values, c.a.v, c.a.v_stride, c.fast_v, begin);
    float weights[S::kBlocks][S::kKeys / 8][4];
    if (some) {
      product_of_rows<D>(weights, queries + first * kPitch<D>, keys);
#pragma unroll
      for (int i = 0; i < S::kBlocks; ++i) {
        score(weights[i], scores);
        if (!seen.all(begin, S::kKeys)) mask(weights[i], c, s, rows, first + 16 * i, begin);
        soften(weights[i], out[i], &row[i]);
      }
    }
    copies_wait<0>();
    __syncthreads();  // values are there, keys may be overwritten
    if (begin + S::kKeys < end) load(keys, c.a.k, c.a.k_stride, c.fast_k, begin + S::kKeys);
    if (some) add_product<D>(out, weights, values);
  }
#pragma unroll
  for (int i = 0; i < S::kBlocks; ++i) write_out<D>(c, s, rows, kv_head, first + 16 * i, out[i], row[i]);
}

}  // namespace

int mma_tile_rows(int64_t head_dim, bool backward) {
  if (backward) return kBackwardRows;
  return with_padded_dim(head_dim, [](auto dim) { return Sizes<decltype(dim)::value>::kRows; });
}

int mma_forward(Device *device, const Call &call) {
  const lethe_attention_args &a = call.a;
  if (a.q_rows * call.group <= kDecodeRows) return LETHE_OK;  // every segment decodes
  return with_padded_dim(a.head_dim, [&](auto dim) {
    using S = Sizes<decltype(dim)::value>;
    const Shape shape = {"attention_forward",
                         {static_cast<unsigned>(most_tiles(a, S::kRows) * a.kv_heads)},
                         kMmaThreads,
                         S::kBytes,
                         mostly_decodes(a) ? 0 : least_bytes(a, 2, 2)};
    return launch(device, shape, forward_kernel<decltype(dim)::value>, call);
  });
}

}  // namespace lethe::cuda::attention
