// The fused head's first product: H W^T in tiles that stay in registers. What leaves a tile is a row's sums over it and
// the weights E (head_fused.cuh).
#include "head_fused_tile.cuh"

namespace lethe::cuda::fused {
namespace {

// Rows in shared memory are padded by 16 bytes: eight neighbours then lie on different banks for ldmatrix.
constexpr int kPitch = kDepth + 8;
constexpr int kStage = (kRows + kColumns) * kPitch;  // numbers
constexpr size_t kBytes = size_t{kStages} * kStage * sizeof(bf16);

// ---- the labels' logits ----

constexpr int kLabelRows = 16;

__device__ inline uint32_t pair_at(const bf16 *row, int64_t column, int64_t d) {
  return column < d ? *reinterpret_cast<const uint32_t *>(row + column) : 0u;
}

// A warp takes 16 rows and their 16 labels, and of that product the diagonal: the same instructions in the same order
// as the tiles', so that a logit that ties with the label's does so to the bit.
__global__ void __launch_bounds__(kWarp) head_fused_labels_kernel(Labels l) {
  if (*l.closed != 0) return;
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t first = int64_t{blockIdx.x} * kLabelRows;
  const bf16 *a[2], *b[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    a[half] = label_hidden(l, first + half * 8 + lane / 4);
    b[half] = label_weight(l, first + half * 8 + lane / 4);
  }
  float c[2][4] = {};
  const int pair = lane % 4 * 2;
#pragma unroll 4
  for (int64_t k = 0; k < l.d; k += 16) {
    const uint32_t x[4] = {pair_at(a[0], k + pair, l.d), pair_at(a[1], k + pair, l.d), pair_at(a[0], k + pair + 8, l.d),
                           pair_at(a[1], k + pair + 8, l.d)};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t y[2] = {pair_at(b[half], k + pair, l.d), pair_at(b[half], k + pair + 8, l.d)};
      mma(c[half], x, y);
    }
  }
  // Row r of a half stands in the lanes 4r to 4r + 3, two columns each.
  const int row = lane / 4;
  if (lane % 4 != row / 2) return;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    write_row(l, first + half * 8 + row, row % 2 == 0 ? c[half][2 * half] : c[half][2 * half + 1]);
  }
}

// ---- the tiles ----

__device__ void load_stage(const Chunk &c, bf16 *stage, int64_t row, int64_t column, int64_t k) {
  constexpr int kPieces = kDepth / 8;
#pragma unroll
  for (int i = 0; i < (kRows + kColumns) * kPieces / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x), r = at / kPieces;
    const int64_t from = k + at % kPieces * 8;
    const bool left = r < kRows;
    const int64_t line = left ? row + r : column + r - kRows;
    const bool there = from < c.d && line < (left ? c.rows : c.V);
    const bf16 *base = left ? c.hidden : c.w;
    copy_16_async(stage + r * kPitch + at % kPieces * 8, there ? base + line * c.d + from : base, there);
  }
}

__device__ void multiply(Tile &c, const bf16 *stage, const Place &place) {
  const bf16 *left = stage + place.row * kPitch, *right = stage + (kRows + place.column) * kPitch;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t a[kWarpRows / 16][4];
#pragma unroll
    for (int i = 0; i < kWarpRows / 16; ++i) load_a(a[i], left + i * 16 * kPitch + k, kPitch);
#pragma unroll
    for (int t = 0; t < kWarpColumns / 8; t += 2) {
      uint32_t b[4];
      load_b(b, right + t * 8 * kPitch + k, kPitch);
#pragma unroll
      for (int i = 0; i < kWarpRows / 16; ++i) {
        mma(c[i][t], a[i], b);
        mma(c[i][t + 1], a[i], b + 2);
      }
    }
  }
}

// What the four warps of a row tell each other.
struct Shared {
  Largest largest[kAcross][kRows];
  Sums sums[kAcross][kRows];
};

__device__ Largest largest_of(const Shared &shared, int row) {
  Largest largest = shared.largest[0][row];
#pragma unroll
  for (int i = 1; i < kAcross; ++i) largest = larger(largest, shared.largest[i][row]);
  return largest;
}

__device__ Sums sums_of(const Shared &shared, int row) {
  Sums sums = shared.sums[0][row];
#pragma unroll
  for (int i = 1; i < kAcross; ++i) sums.add(shared.sums[i][row]);
  return sums;
}

__device__ void finish_tile(const Chunk &c, Tile &z, const Place &place, Shared *shared, int64_t row, int tile) {
  const Columns columns(c, int64_t{tile} * kColumns + place.column_of(0));
#pragma unroll
  for (int j = 0; j < kWarpRows / 8; ++j) {
    const int i = j / 2, half = j % 2, r = place.row_of(i, half);
    const int label = row + r < c.rows ? c.row[row + r].label : -1;
    const Largest largest = finish_logits(z[i], half, c, columns, label);
    if (place.lane % 4 == 0) shared->largest[place.across][r] = largest;
  }
  __syncthreads();  // the largest are there
#pragma unroll
  for (int j = 0; j < kWarpRows / 8; ++j) {
    const int i = j / 2, half = j % 2, r = place.row_of(i, half);
    const Sums sums = sum_columns(z[i], half, TileRow(c, row + r), columns, largest_of(*shared, r).value,
                                  weights_at(c, row + r, int64_t{tile} * kColumns + place.column));
    if (place.lane % 4 == 0) shared->sums[place.across][r] = sums;
  }
  __syncthreads();  // the sums are there
  const int r = static_cast<int>(threadIdx.x);
  if (r >= kRows || row + r >= c.rows) return;
  c.parts[(row + r) * c.tiles + tile] = part_of(TileRow(c, row + r), largest_of(*shared, r), sums_of(*shared, r));
}

// Blocks of one tile of columns stand side by side: its part of W comes from memory once.
__global__ void __launch_bounds__(kThreads, 1) head_fused_logits_kernel(Chunk c) {
  if (*c.closed != 0) return;
  const int row_tiles = (c.rows + kRows - 1) / kRows;
  const int64_t row = int64_t{static_cast<int>(blockIdx.x) % row_tiles} * kRows;
  const int tile = static_cast<int>(blockIdx.x) / row_tiles;
  bf16 *stages = dynamic_shared<bf16>();
  const Place place;
  Tile z;
  clear(z);
  pass_by(
      static_cast<int>((c.d + kDepth - 1) / kDepth),
      [&](int stage, int step) {
        load_stage(c, stages + stage * kStage, row, int64_t{tile} * kColumns, int64_t{step} * kDepth);
      },
      [&](int stage, int) { multiply(z, stages + stage * kStage, place); });
  __syncthreads();  // the stages have been read
  finish_tile(c, z, place, reinterpret_cast<Shared *>(stages), row, tile);
}

static_assert(sizeof(Shared) <= kBytes, "what warps tell each other lies over the stages");

}  // namespace

int labels(Device *device, const Labels &l) {
  if (device->head_form == HeadForm::kFusedWgmma) return wgmma_labels(device, l);
  const Shape shape = {"head_fused_labels", {blocks_of(l.n, kLabelRows)}, kWarp, 0, l.n * (l.d * 4 + 16)};
  return launch(device, shape, head_fused_labels_kernel, l);
}

int logits(Device *device, const Chunk &c) {
  if (device->head_form == HeadForm::kFusedWgmma) return wgmma_logits(device, c);
  const int64_t row_tiles = ceil_div(c.rows, kRows);
  const int64_t weights = c.weights == nullptr ? 0 : kColumns * 2;
  const int64_t moved = (int64_t{c.rows} + c.V) * c.d * 2 + int64_t{c.rows} * c.tiles * (weights + 32);
  const Shape shape = {"head_fused_logits", {static_cast<unsigned>(row_tiles * c.tiles)}, kThreads, kBytes, moved};
  return launch(device, shape, head_fused_logits_kernel, c);
}

}  // namespace lethe::cuda::fused
