// What the tensor-core kernels of attention share: rows of bf16 in shared memory, scores in fragments.
#pragma once

#include "attention.cuh"

namespace lethe::cuda::attention {

constexpr int kMmaThreads = 128;
constexpr int kMmaWarps = kMmaThreads / static_cast<int>(kWarp);

// Rows in shared memory are padded by 16 bytes: eight neighbours then lie on different banks for ldmatrix.
template <int D>
constexpr int kPitch = D + 8;

// Rows [0, kRows) of a tile into shared memory, D numbers each; zeros where a row has no address and beyond its d
// numbers. `base` is an address where nothing is read. at(r): the row's first number, or null. By kThreads threads: a
// block or a warp.
template <int D, int kRows, int kThreads, class At>
__device__ void load_rows(bf16 *tile, const bf16 *base, int d, bool fast, At &&at) {
  constexpr int kChunks = D / 8;
  for (int i = static_cast<int>(threadIdx.x % kThreads); i < kRows * kChunks; i += kThreads) {
    const int r = i / kChunks, column = i % kChunks * 8;
    const bf16 *row = at(r);
    bf16 *to = tile + r * kPitch<D> + column;
    if (fast) {
      const bool there = row != nullptr && column < d;
      copy_16_async(to, there ? row + column : base, there);
      continue;
    }
    for (int k = 0; k < 8; ++k) to[k] = row != nullptr && column + k < d ? row[column + k] : bf16{0};
  }
}

// The keys [begin, begin + kRows) of the list.
template <int D, int kRows, int kThreads>
__device__ void load_keys(bf16 *tile, const Segment &s, int64_t begin, int64_t end, const void *rows, int64_t stride,
                          int64_t column, int d, bool fast) {
  const bf16 *base = static_cast<const bf16 *>(rows);
  load_rows<D, kRows, kThreads>(tile, base, d, fast, [&](int r) {
    return begin + r < end ? base + s.key_row(begin + r) * stride + column : nullptr;
  });
}

template <int kTiles>
__device__ void clear(float (&c)[kTiles][4]) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) c[t][0] = c[t][1] = c[t][2] = c[t][3] = 0.0f;
}

// c[16 kBlocks, 8 kTiles] = a[16 kBlocks, D] b[8 kTiles, D]^T, both by rows in shared memory.
template <int D, int kBlocks, int kTiles>
__device__ void product_of_rows(float (&c)[kBlocks][kTiles][4], const bf16 *a, const bf16 *b) {
#pragma unroll
  for (int i = 0; i < kBlocks; ++i) clear(c[i]);
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    uint32_t x[kBlocks][4];
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) load_a(x[i], a + i * 16 * kPitch<D> + k, kPitch<D>);
#pragma unroll
    for (int t = 0; t < kTiles; t += 2) {
      uint32_t y[4];
      load_b(y, b + t * 8 * kPitch<D> + k, kPitch<D>);
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        mma(c[i][t], x[i], y);
        mma(c[i][t + 1], x[i], y + 2);
      }
    }
  }
}
template <int D, int kTiles>
__device__ void product_of_rows(float (&c)[kTiles][4], const bf16 *a, const bf16 *b) {
  product_of_rows<D>(reinterpret_cast<float(&)[1][kTiles][4]>(c), a, b);
}

// c[16 kBlocks, 8 kColumns] += a[16 kBlocks, 8 kTiles] b[8 kTiles, 8 kColumns], a in the fragments of a product
// (rounded to bf16), b by rows in shared memory.
template <int D, int kBlocks, int kTiles, int kColumns>
__device__ void add_product(float (&c)[kBlocks][kColumns][4], const float (&a)[kBlocks][kTiles][4], const bf16 *b) {
#pragma unroll
  for (int k = 0; k < kTiles; k += 2) {
    uint32_t x[kBlocks][4];
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
#pragma unroll
      for (int half = 0; half < 4; ++half) {
        const float *pair = a[i][k + half / 2] + half % 2 * 2;
        x[i][half] = pack_bf16(pair[0], pair[1]);
      }
    }
#pragma unroll
    for (int t = 0; t < kColumns; t += 2) {
      uint32_t y[4];
      load_b_rows(y, b + k * 8 * kPitch<D> + t * 8, kPitch<D>);
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        mma(c[i][t], x[i], y);
        mma(c[i][t + 1], x[i], y + 2);
      }
    }
  }
}
template <int D, int kTiles, int kColumns>
__device__ void add_product(float (&c)[kColumns][4], const float (&a)[kTiles][4], const bf16 *b) {
  add_product<D>(reinterpret_cast<float(&)[1][kColumns][4]>(c), reinterpret_cast<const float(&)[1][kTiles][4]>(a), b);
}

// Which keys of a tile a row sees, counted from the tile's first.
struct Seen {
  int hidden, visible;
  __device__ Seen(int64_t first, int64_t end, int64_t begin, int keys)
      : hidden(static_cast<int>(smaller(larger(first - begin, 0), keys))),
        visible(static_cast<int>(smaller(larger(end - begin, 0), keys))) {}
  __device__ bool has(int key) const { return key >= hidden && key < visible; }
};

// Lanes of a quad hold a row of a product together.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// Two neighbours of a row of storage.
__device__ inline void store_pair(bf16 *row, int column, int d, bool fast, float x, float y) {
  if (fast) {
    if (column < d) *reinterpret_cast<uint32_t *>(row + column) = pack_bf16(x, y);
    return;
  }
  if (column < d) from_float(x, row + column);
  if (column + 1 < d) from_float(y, row + column + 1);
}

template <int kThreads>
__device__ void meet() {
  if (kThreads == static_cast<int>(kWarp)) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

// Loads pass by in stages: while one is used, the next is on its way where there is room for two. load(stage, tile) and
// use(stage, tile) for tile = first, first + step, .. below end, by kThreads threads: a block or a warp.
template <int kStages, int kThreads, class Load, class Use>
__device__ void stream(int64_t first, int64_t end, int64_t step, Load &&load, Use &&use) {
  if (first >= end) return;
  load(0, first);
  copies_commit();
  int stage = 0;
  for (int64_t tile = first; tile < end; tile += step) {
    const bool more = tile + step < end;
    if (kStages == 2 && more) {
      load(stage ^ 1, tile + step);
      copies_commit();
      copies_wait<1>();
    } else {
      copies_wait<0>();
    }
    meet<kThreads>();  // the stage is there
    use(stage, tile);
    meet<kThreads>();  // the stage may be overwritten
    if (kStages == 2) {
      stage ^= 1;
    } else if (more) {
      load(0, tile + step);
      copies_commit();
    }
  }
}

// Calls kernel-choosing code with the smallest of the sizes that head_dim fits in.
template <class Body>
auto with_padded_dim(int64_t head_dim, Body &&body) {
  if (head_dim <= 64) return body(std::integral_constant<int, 64>());
  if (head_dim <= 96) return body(std::integral_constant<int, 96>());
  if (head_dim <= 128) return body(std::integral_constant<int, 128>());
  return body(std::integral_constant<int, 256>());
}

}  // namespace lethe::cuda::attention
