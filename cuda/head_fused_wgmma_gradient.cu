// The fused head's second product by a warpgroup's: E comes through registers, where a row's power of two meets it, W
// from shared memory (head_fused_wgmma.cuh).
#include "head_fused_wgmma.cuh"

namespace lethe::cuda::fused {
namespace {

// A tile of E's columns is as many stages as the ring has, so that a stage of the ring has its place in the code.
constexpr int kTileStages = kColumns / kBoxColumns;
static_assert(kTileStages == kRing, "the walk through a tile is a walk round the ring");
constexpr int kBox = kBoxColumns * kBoxRow;  // bytes of 64 columns of W's rows in a stage

__device__ inline void load_stages(const Tiled &p, const Ring &ring, int64_t row, int64_t column) {
  const int boxes = kColumns / kBoxColumns / static_cast<int>(cluster_size());
  const int first = static_cast<int>(cluster_rank()) * boxes;
  Turn turn;
  fill(ring, &turn, p.c.tiles * kTileStages, [&](int stage, int step) {
    uint64_t *full = ring.full + stage;
    load_box(ring.left(stage), p.left, int64_t{step} * kBoxColumns, row, full);
    for (int box = first; box < first + boxes; ++box) {
      load_shared_box(ring.right(stage) + box * kBox, p.right, column + box * kBoxColumns, int64_t{step} * kBoxColumns,
                      full);
    }
  });
}

// A stage's E as a warp's operands, each 16 deep.
using Operands = uint32_t[kBoxColumns / 16][4];
// Of the thread's two rows, twice in bf16.
struct Powers {
  uint32_t of[2];

  __device__ void read(const Chunk &c, int64_t row, int tile) {
    const int lane = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = row + fragment_c(lane, 2 * half).row;
      of[half] = at < c.power_ld ? c.powers[tile * c.power_ld + at] : 0u;
    }
  }
};

// When the stage is full.
__device__ inline void read_stage(Operands &a, const Ring &ring, int stage, unsigned parity, const Powers &power) {
  const int lane = static_cast<int>(threadIdx.x % kWarp), row = warp_row() + lane % 16;
  mbarrier_wait(ring.full + stage, parity);
#pragma unroll
  for (int k = 0; k < kBoxColumns / 16; ++k) {
    load_matrices<false>(a[k], reinterpret_cast<const bf16 *>(ring.left(stage) + swizzled_at(row, 2 * k + lane / 16)));
    // Registers 0 and 2 are of the upper row, 1 and 3 of the lower one.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      a[k][half] = times_bf16(a[k][half], power.of[half]);
      a[k][half + 2] = times_bf16(a[k][half + 2], power.of[half]);
    }
  }
}

__device__ inline void multiply_stage(GroupTile<kColumns> &sums, const Operands &a, const Ring &ring, int stage) {
  const uint64_t right = matrix_descriptor(shared_address(ring.right(stage)), kBox, kSwizzleTile);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kBoxColumns / 16; ++k) wgmma_rows(sums, a[k], moved_on(right, 16 * k * kBoxRow));
  wgmma_commit();
}

// While a stage multiplies, the next one's operands are read; the one before it goes back.
__device__ inline void multiply_all(GroupTile<kColumns> &sums, const Chunk &c, const Ring &ring, int64_t row) {
  clear(sums);
  Operands even, odd;
  Powers power;
  power.read(c, row, 0);
  read_stage(even, ring, 0, 0, power);
  for (int tile = 0; tile < c.tiles; ++tile) {
    const unsigned parity = static_cast<unsigned>(tile) & 1u;
    const bool last = tile + 1 == c.tiles;
    Powers next;
    next.read(c, row, last ? tile : tile + 1);
    multiply_stage(sums, even, ring, 0);
    wgmma_wait<1>();
    if (tile > 0) ring.release(3);
    read_stage(odd, ring, 1, parity, power);
    multiply_stage(sums, odd, ring, 1);
    wgmma_wait<1>();
    ring.release(0);
    read_stage(even, ring, 2, parity, power);
    multiply_stage(sums, even, ring, 2);
    wgmma_wait<1>();
    ring.release(1);
    read_stage(odd, ring, 3, parity, power);
    multiply_stage(sums, odd, ring, 3);
    wgmma_wait<1>();
    ring.release(2);
    power = next;
    if (!last) read_stage(even, ring, 0, parity ^ 1u, power);
  }
  wgmma_finish(sums);
}

__device__ inline void end_tile(const Chunk &c, const GroupTile<kColumns> &sums, int64_t row, int64_t column) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  bf16 *out = static_cast<bf16 *>(c.dh_rows);
  const bool aligned = reinterpret_cast<uintptr_t>(out) % sizeof(uint32_t) == 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t at = row + fragment_c(lane, 2 * half).row;
    if (at >= c.rows) continue;
    finish_gradient(c, sums, half, c.ends[at], column + fragment_c(lane, 0).column, out + c.order[at] * c.d, aligned);
  }
}

__global__ void __launch_bounds__(kRingLaunched, 1) head_fused_wgmma_gradient_kernel(const __grid_constant__ Tiled p) {
  if constexpr (kHasWgmma) {
    if (*p.c.closed != 0) return;
    const Ring ring;
    const Tiles tiles(p.c.rows, p.c.d);
    const int at = static_cast<int>(blockIdx.x);
    const int64_t row = tiles.row(at), column = int64_t{tiles.column(at)} * kColumns;
    if (!multiplies()) {
      give_registers<kLoading>();
      if (threadIdx.x == 0) load_stages(p, ring, row, column);
    } else {
      take_registers<kMultiplying>();
      GroupTile<kColumns> sums;
      multiply_all(sums, p.c, ring, row + warp_row());
      end_tile(p.c, sums, row + warp_row(), column);
    }
    ring.meet();
  }
}

}  // namespace

int wgmma_gradient(Device *device, const Chunk &c) {
  const int64_t width = int64_t{c.tiles} * kColumns;
  Tiled p = {c, {}, {}};
  LETHE_CUDA_TRY(tensor_map(device, {c.weights, c.rows, width, width, kRows}, &p.left));
  LETHE_CUDA_TRY(tensor_map(device, {c.w, c.V, c.d, c.d, kBoxColumns}, &p.right));
  const int64_t blocks = tiles_in_pairs(c.rows) * ceil_div(c.d, kColumns);
  const int64_t moved = int64_t{c.rows} * (int64_t{c.tiles} * (kColumns * 2 + 4) + c.d * 2) + c.V * c.d * 2;
  const Shape shape = {"head_fused_wgmma_gradient",
                       {static_cast<unsigned>(blocks)},
                       kRingThreads,
                       kRingBytes,
                       moved,
                       pair_of(c.rows),
                       true};
  return launch(device, shape, head_fused_wgmma_gradient_kernel, p);
}

}  // namespace lethe::cuda::fused
