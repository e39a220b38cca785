// Attention's forward pass on tensor cores (Dao 2023): a block takes a row tile, its keys pass by in tiles, the softmax
// goes along online in fp32. Weights are rounded to bf16 where they multiply values; their sum is not.
#include "attention_mma.cuh"

namespace lethe::cuda::attention {
namespace {

constexpr int kTileRows = 64;  // 16 a warp
// Fewer where keys, values and queries together would not fit 99 KiB.
template <int D>
constexpr int kTileKeys = D <= 128 ? 64 : 32;

template <int D>
struct Shared {
  bf16 *queries, *keys, *values;
  __device__ Shared() {
    queries = dynamic_shared<bf16>();
    keys = queries + kTileRows * kPitch<D>;
    values = keys + kTileKeys<D> * kPitch<D>;
  }
  static constexpr size_t kBytes = (kTileRows + 2 * kTileKeys<D>)*kPitch<D> * sizeof(bf16);
};

// What a lane knows of its two rows.
struct RowState {
  int64_t hidden[2], visible[2];
  float max[2], sum[2];  // exponents of 2; the lane's share of the sum
};

// Scores to weights; what has been summed moves to the new maximum.
template <int kTiles, int kColumns>
__device__ void soften(float (&s)[kTiles][4], float (&out)[kColumns][4], RowState *row) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float max = row->max[half];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) max = fmaxf(max, fmaxf(s[t][2 * half], s[t][2 * half + 1]));
    max = quad_max(max);
    const float base = max == negative_infinity() ? 0.0f : max;
    const float shrink = exp2_approx(row->max[half] - base);
    row->max[half] = max;
    float sum = 0;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        s[t][i] = exp2_approx(s[t][i] - base);
        sum += s[t][i];
      }
    }
    row->sum[half] = row->sum[half] * shrink + sum;
#pragma unroll
    for (int t = 0; t < kColumns; ++t) {
      out[t][2 * half] *= shrink;
      out[t][2 * half + 1] *= shrink;
    }
  }
}

// Products to exponents of 2, minus infinity where a row does not see the key.
template <int kTiles>
__device__ void score(float (&s)[kTiles][4], const Scores &scores, const RowState &row, int64_t begin) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) s[t][i] = scores.exponent(s[t][i]);
  }
  const Seen seen[2] = {{row.hidden[0], row.visible[0], begin, kTiles * 8},
                        {row.hidden[1], row.visible[1], begin, kTiles * 8}};
  if (seen[0].all(kTiles * 8) && seen[1].all(kTiles * 8)) return;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!seen[i / 2].has(t * 8 + fragment_c(lane, i).column)) s[t][i] = negative_infinity();
    }
  }
}

template <int D>
__device__ void write_out(const Call &c, const Segment &s, const RowTile &rows, int64_t kv_head,
                          const float (&out)[D / 8][4], const RowState &row) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = quad_sum(row.sum[half]);
    const int r = warp * 16 + fragment_c(lane, 2 * half).row;
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
  constexpr int kKeys = kTileKeys<D>;
  if (*c.closed != 0) return;
  const int64_t kv_head = blockIdx.x % c.a.kv_heads, number = blockIdx.x / c.a.kv_heads;
  if (number >= c.plan->tiles) return;
  // The last rows of a segment see most keys: they go first.
  const Tile tile = c.tiles[c.plan->tiles - 1 - number];
  const Segment s = Segment::read(c.a, tile.segment);
  const RowTile rows(s, int64_t{tile.number} * kTileRows, kTileRows, c.group);
  const Scores scores(c.a);
  const Shared<D> shared;
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int d = static_cast<int>(c.a.head_dim);
  const int64_t end = s.visible(rows.query_of(rows.rows - 1));
  const int64_t start = s.hidden(rows.query, c.a.window) / kKeys * kKeys;
  const bf16 *q = static_cast<const bf16 *>(c.a.q);
  const auto load = [&](bf16 *to, const void *from, int64_t stride, bool fast, int64_t begin) {
    load_keys<D, kKeys, kMmaThreads>(to, s, begin, end, from, stride, kv_head * d, d, fast);
    copies_commit();
  };

  load_rows<D, kTileRows, kMmaThreads>(shared.queries, q, d, c.fast_q, [&](int r) {
    return r < rows.rows ? q + Row(c, s, rows, kv_head, r).q : nullptr;
  });
  load(shared.keys, c.a.k, c.a.k_stride, c.fast_k, start);
  RowState row;
  float out[D / 8][4];
#pragma unroll
  for (int t = 0; t < D / 8; ++t) out[t][0] = out[t][1] = out[t][2] = out[t][3] = 0.0f;
  for (int half = 0; half < 2; ++half) {
    // Rows past the end do as the last one does.
    const int r = warp * 16 + fragment_c(lane, 2 * half).row;
    const int64_t query = rows.query_of(r < rows.rows ? r : rows.rows - 1);
    row.hidden[half] = s.hidden(query, c.a.window);
    row.visible[half] = s.visible(query);
    row.max[half] = negative_infinity();
    row.sum[half] = 0;
  }
  for (int64_t begin = start; begin < end; begin += kKeys) {
    copies_wait<0>();
    __syncthreads();  // keys are there, values may be overwritten
    load(shared.values, c.a.v, c.a.v_stride, c.fast_v, begin);
    float weights[kKeys / 8][4];
    product_of_rows<D>(weights, shared.queries + warp * 16 * kPitch<D>, shared.keys);
    score(weights, scores, row, begin);
    soften(weights, out, &row);
    copies_wait<0>();
    __syncthreads();  // values are there, keys may be overwritten
    if (begin + kKeys < end) load(shared.keys, c.a.k, c.a.k_stride, c.fast_k, begin + kKeys);
    add_product<D>(out, weights, shared.values);
  }
  write_out<D>(c, s, rows, kv_head, out, row);
}

}  // namespace

int mma_tile_rows(int64_t, bool) { return kTileRows; }

int mma_forward(Device *device, const Call &call) {
  const lethe_attention_args &a = call.a;
  return with_padded_dim(a.head_dim, [&](auto dim) {
    constexpr int D = decltype(dim)::value;
    const Shape shape = {"attention_forward",
                         {static_cast<unsigned>(most_tiles(a, kTileRows) * a.kv_heads)},
                         kMmaThreads,
                         Shared<D>::kBytes,
                         2 * (2 * a.q_rows * a.heads + 2 * a.k_rows * a.kv_heads) * a.head_dim};
    return launch(device, shape, forward_kernel<D>, call);
  });
}

}  // namespace lethe::cuda::attention
