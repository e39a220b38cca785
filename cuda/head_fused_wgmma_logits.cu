// The fused head's first product by a warpgroup's: blocks walk over the tiles, and their next ones are loaded while
// they end one (head_fused_wgmma.cuh).
#include <algorithm>

#include "head_fused_wgmma.cuh"

namespace lethe::cuda::fused {
namespace {

__device__ inline int steps_of(const Chunk &c) { return static_cast<int>((c.d + kBoxColumns - 1) / kBoxColumns); }

// A pair's W comes in as many parts as it has blocks, each in boxes of kRows.
__device__ inline void load_tiles(const Tiled &p, const Ring &ring, const Tiles &tiles) {
  const int boxes = kColumns / kRows / static_cast<int>(cluster_size());
  const int first = static_cast<int>(cluster_rank()) * boxes;
  Turn turn;
  for (int at = static_cast<int>(blockIdx.x); at < tiles.all; at += static_cast<int>(gridDim.x)) {
    fill(ring, &turn, steps_of(p.c), [&](int stage, int step) {
      uint64_t *full = ring.full + stage;
      load_box(ring.left(stage), p.left, int64_t{step} * kBoxColumns, tiles.row(at), full);
      for (int box = first; box < first + boxes; ++box) {
        load_shared_box(ring.right(stage) + box * kRows * kBoxRow, p.right, int64_t{step} * kBoxColumns,
                        int64_t{tiles.column(at)} * kColumns + box * kRows, full);
      }
    });
  }
}

__device__ inline void multiply_stage(GroupTile<kColumns> &z, const Ring &ring, int stage) {
  const uint64_t left = rows_descriptor(shared_address(ring.left(stage) + group_row() * kBoxRow));
  const uint64_t right = rows_descriptor(shared_address(ring.right(stage)));
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kBoxRow; k += 32) wgmma(z, moved_on(left, k), moved_on(right, k));
  wgmma_commit();
}

// A stage goes back when the next one's product has begun.
__device__ inline void multiply_tile(GroupTile<kColumns> &z, const Ring &ring, Turn *turn, int steps) {
  clear(z);
  int before = 0;
  for (int step = 0; step < steps; ++step) {
    mbarrier_wait(ring.full + turn->stage, turn->parity);
    multiply_stage(z, ring, turn->stage);
    wgmma_wait<1>();
    if (step > 0) ring.release(before);
    before = turn->stage;
    turn->next();
  }
  wgmma_finish(z);
  ring.release(before);
}

// A row's columns are all in one quad.
__device__ inline void end_tile(const Chunk &c, GroupTile<kColumns> &z, int64_t row, int tile) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t first = int64_t{tile} * kColumns;
  const Columns columns(c, first + fragment_c(lane, 0).column);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t at = row + fragment_c(lane, 2 * half).row;
    const TileRow line(c, at);
    const Largest largest = finish_logits(z, half, c, columns, line.own.label);
    const Sums sums = sum_columns(z, half, line, columns, largest.value, weights_at(c, at, first));
    if (line.there && lane % 4 == 0) c.parts[at * c.tiles + tile] = part_of(line, largest, sums);
  }
}

__global__ void __launch_bounds__(kRingLaunched, 1) head_fused_wgmma_logits_kernel(const __grid_constant__ Tiled p) {
  if constexpr (kHasWgmma) {
    if (*p.c.closed != 0) return;
    const Ring ring;
    const Tiles tiles(p.c.rows, p.c.V);
    if (!multiplies()) {
      give_registers<kLoading>();
      if (threadIdx.x == 0) load_tiles(p, ring, tiles);
    } else {
      take_registers<kMultiplying>();
      Turn turn;
      GroupTile<kColumns> z;
      for (int at = static_cast<int>(blockIdx.x); at < tiles.all; at += static_cast<int>(gridDim.x)) {
        multiply_tile(z, ring, &turn, steps_of(p.c));
        end_tile(p.c, z, tiles.row(at) + warp_row(), tiles.column(at));
      }
    }
    ring.meet();
  }
}

}  // namespace

int has_wgmma(Device *device, bool *has) {
  LETHE_CUDA_TRY(wgmma_image(device, head_fused_wgmma_logits_kernel, kRingThreads, has));
  if (!*has) return LETHE_OK;
  const Shape pair = {"head_fused_wgmma_logits", {2}, kRingThreads, kRingBytes, 0, 2, true};
  LETHE_CUDA_CALL(device, resident_clusters(pair, head_fused_wgmma_logits_kernel, &device->resident_pairs));
  return require_tensor_maps(device);
}

int wgmma_logits(Device *device, const Chunk &c) {
  Tiled p = {c, {}, {}};
  LETHE_CUDA_TRY(tensor_map(device, {c.hidden, c.rows, c.d, c.d, kRows}, &p.left));
  LETHE_CUDA_TRY(tensor_map(device, {c.w, c.V, c.d, c.d, kRows}, &p.right));
  const unsigned pair = pair_of(c.rows);
  const int64_t resident = pair == 1 ? device->properties.multiProcessorCount : 2 * int64_t{device->resident_pairs};
  const int64_t blocks = std::min(tiles_in_pairs(c.rows) * c.tiles, std::max<int64_t>(resident, pair));
  const int64_t weights = c.weights == nullptr ? 0 : kColumns * 2;
  const int64_t moved = (int64_t{c.rows} + c.V) * c.d * 2 + int64_t{c.rows} * c.tiles * (weights + 32);
  const Shape shape = {
      "head_fused_wgmma_logits", {static_cast<unsigned>(blocks)}, kRingThreads, kRingBytes, moved, pair, true};
  return launch(device, shape, head_fused_wgmma_logits_kernel, p);
}

}  // namespace lethe::cuda::fused
