// The fused head's second product: dH = (2^k E) W and what rows lack, straight to where the rows' gradients stand.
#include "head_fused_tile.cuh"

namespace lethe::cuda::fused {
namespace {

// As in the first product; a row of W's tile is 256 columns.
constexpr int kPitch = kDepth + 8, kWide = kColumns + 8;
constexpr int kLeft = kRows * kPitch, kRight = kDepth * kWide;  // numbers
constexpr int kStage = kLeft + kRight + 2 * kRows;              // and the rows' powers
constexpr size_t kBytes = size_t{kStages} * kStage * sizeof(bf16);

__device__ void load_stage(const Chunk &c, bf16 *stage, int64_t row, int64_t column, int64_t v) {
  const int64_t ld = int64_t{c.tiles} * kColumns;
  const int thread = static_cast<int>(threadIdx.x);
  constexpr int kPieces = kDepth / 8;
#pragma unroll
  for (int i = 0; i < kRows * kPieces / kThreads; ++i) {
    const int at = i * kThreads + thread, r = at / kPieces, from = at % kPieces * 8;
    const bool there = row + r < c.rows;
    copy_16_async(stage + r * kPitch + from, there ? c.weights + (row + r) * ld + v + from : c.weights, there);
  }
  bf16 *right = stage + kLeft;
  constexpr int kWidePieces = kColumns / 8;
#pragma unroll
  for (int i = 0; i < kDepth * kWidePieces / kThreads; ++i) {
    const int at = i * kThreads + thread, r = at / kWidePieces, from = at % kWidePieces * 8;
    const bool there = v + r < c.V && column + from < c.d;
    copy_16_async(right + r * kWide + from, there ? c.w + (v + r) * c.d + column + from : c.w, there);
  }
  if (thread < kRows / 4) {
    const uint32_t *from = c.powers + v / kColumns * c.power_ld + row + 4 * thread;
    copy_16_async(right + kRight + 8 * thread, reinterpret_cast<const bf16 *>(from), true);
  }
}

__device__ void multiply(Tile &c, const bf16 *stage, const Place &place) {
  const bf16 *left = stage + place.row * kPitch, *right = stage + kLeft + place.column;
  const auto *powers = reinterpret_cast<const uint32_t *>(stage + kLeft + kRight);
  uint32_t power[kWarpRows / 16][2];
#pragma unroll
  for (int i = 0; i < kWarpRows / 16; ++i) {
    power[i][0] = powers[place.row_of(i, 0)];
    power[i][1] = powers[place.row_of(i, 1)];
  }
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t a[kWarpRows / 16][4];
#pragma unroll
    for (int i = 0; i < kWarpRows / 16; ++i) {
      load_a(a[i], left + i * 16 * kPitch + k, kPitch);
      // Registers 0 and 2 are of the upper row, 1 and 3 of the lower one.
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        a[i][half] = times_bf16(a[i][half], power[i][half]);
        a[i][half + 2] = times_bf16(a[i][half + 2], power[i][half]);
      }
    }
#pragma unroll
    for (int t = 0; t < kWarpColumns / 8; t += 2) {
      uint32_t b[4];
      load_b_rows(b, right + k * kWide + t * 8, kWide);
#pragma unroll
      for (int i = 0; i < kWarpRows / 16; ++i) {
        mma(c[i][t], a[i], b);
        mma(c[i][t + 1], a[i], b + 2);
      }
    }
  }
}

// Blocks pass along W together, so that each of its rows comes from memory once.
__global__ void __launch_bounds__(kThreads, 1) head_fused_gradient_kernel(Chunk c) {
  if (*c.closed != 0) return;
  const int row_tiles = (c.rows + kRows - 1) / kRows;
  const int64_t row = int64_t{static_cast<int>(blockIdx.x) % row_tiles} * kRows;
  const int64_t column = int64_t{static_cast<int>(blockIdx.x) / row_tiles} * kColumns;
  bf16 *stages = dynamic_shared<bf16>();
  const Place place;
  Tile sums;
  clear(sums);
  pass_by(
      static_cast<int>((c.V + kDepth - 1) / kDepth),
      [&](int stage, int step) { load_stage(c, stages + stage * kStage, row, column, int64_t{step} * kDepth); },
      [&](int stage, int) { multiply(sums, stages + stage * kStage, place); });
  bf16 *out = static_cast<bf16 *>(c.dh_rows);
  const bool aligned = reinterpret_cast<uintptr_t>(out) % sizeof(uint32_t) == 0;
#pragma unroll
  for (int j = 0; j < kWarpRows / 8; ++j) {
    const int i = j / 2, half = j % 2;
    const int64_t at = row + place.row_of(i, half);
    if (at >= c.rows) continue;
    finish_gradient(c, sums[i], half, c.ends[at], column + place.column_of(0), out + c.order[at] * c.d, aligned);
  }
}

}  // namespace

int gradient(Device *device, const Chunk &c) {
  if (device->head_form == HeadForm::kFusedWgmma) return wgmma_gradient(device, c);
  const int64_t row_tiles = ceil_div(c.rows, kRows);
  const int64_t moved = int64_t{c.rows} * (int64_t{c.tiles} * (kColumns * 2 + 4) + c.d * 2) + c.V * c.d * 2;
  const Shape shape = {
      "head_fused_gradient", {static_cast<unsigned>(row_tiles * ceil_div(c.d, kColumns))}, kThreads, kBytes, moved};
  return launch(device, shape, head_fused_gradient_kernel, c);
}

}  // namespace lethe::cuda::fused
