// The fused head's products by a warpgroup's (compute capability 9.0a): what their kernels have in common.
//
// A block has a tile of 128 rows by 256 columns. One thread of the first warpgroup has boxes loaded into a ring of
// stages, each 64 deep; two warpgroups multiply, 64 rows each, and hand stages back. Blocks come in pairs where there
// are rows for two: each loads half of the columns' side, to both, so that it comes from L2 once for 256 rows.
#pragma once

#include "head_fused_tile.cuh"
#include "tma.cuh"

namespace lethe::cuda::fused {

constexpr int kRing = 4;
constexpr int kGroups = 2;  // that multiply
constexpr int kGroupRows = kRows / kGroups;
constexpr int kRingThreads = (1 + kGroups) * kWarpgroup;
constexpr int kRingLaunched = wgmma_threads(kRingThreads);
// Registers of a thread, of the 168 that each has at first.
constexpr int kFirst = 168, kLoading = 40, kMultiplying = 232;
static_assert(kFirst * kRingThreads <= (1 << 16) && kLoading + kGroups * kMultiplying <= (1 + kGroups) * kFirst,
              "the block takes no more registers than it was launched with");

constexpr int kLeftBytes = kRows * kBoxRow, kRightBytes = kColumns * kBoxRow, kStageBytes = kLeftBytes + kRightBytes;
constexpr size_t kRingBytes = kSwizzleTile + size_t{kRing} * kStageBytes + 2 * kRing * sizeof(uint64_t);

struct Tiled {
  Chunk c;
  CUtensorMap left, right;
};

// The stages and, for each, when it is full and when it is empty.
struct Ring {
  char *stages;
  uint64_t *full, *empty;

  __device__ Ring() {
    char *memory = dynamic_shared<char>();
    stages = memory + (kSwizzleTile - shared_address(memory) % kSwizzleTile) % kSwizzleTile;
    full = reinterpret_cast<uint64_t *>(stages + kRing * kStageBytes);
    empty = full + kRing;
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < kRing; ++stage) {
        mbarrier_init(full + stage, 1);
        mbarrier_init(empty + stage, kGroups * kWarpgroup / kWarp * cluster_size());
      }
      mbarriers_made();
    }
    meet();
  }
  __device__ char *left(int stage) const { return stages + stage * kStageBytes; }
  __device__ char *right(int stage) const { return left(stage) + kLeftBytes; }
  // Also in front of the end: a block of the pair may still be written to.
  __device__ void meet() const {
    __syncwarp();
    if (cluster_size() > 1) {
      cluster_sync();
    } else {
      __syncthreads();
    }
  }
  // By each warp that has read the stage: to all who load into it.
  __device__ void release(int stage) const {
    if (threadIdx.x % kWarp != 0) return;
    for (unsigned rank = 0; rank < cluster_size(); ++rank) mbarrier_arrive_at(empty + stage, rank);
  }
};

// Where a walk round the ring stands.
struct Turn {
  int stage = 0;
  unsigned parity = 0;

  __device__ void next() {
    if (++stage < kRing) return;
    stage = 0;
    parity ^= 1u;
  }
};

// By one thread: load(stage, step) for each step, when its stage is empty.
template <class Load>
__device__ void fill(const Ring &ring, Turn *turn, int steps, Load &&load) {
  for (int step = 0; step < steps; ++step) {
    mbarrier_wait(ring.empty + turn->stage, turn->parity ^ 1u);
    mbarrier_expect(ring.full + turn->stage, kStageBytes);
    load(turn->stage, step);
    turn->next();
  }
}
// To this block, or to both of its pair.
__device__ inline void load_shared_box(void *to, const CUtensorMap &map, int64_t column, int64_t row, uint64_t *full) {
  if (cluster_size() > 1) {
    load_box_to((1u << cluster_size()) - 1, to, map, column, row, full);
  } else {
    load_box(to, map, column, row, full);
  }
}

// Tiles of rows by tiles of columns, those of rows side by side; a pair has two of them, of which the last may be none.
struct Tiles {
  int rows, all;

  __device__ Tiles(int row_count, int64_t columns) {
    const int size = static_cast<int>(cluster_size());
    rows = (row_count + kRows - 1) / kRows;
    rows = (rows + size - 1) / size * size;
    all = rows * static_cast<int>((columns + kColumns - 1) / kColumns);
  }
  __device__ int64_t row(int at) const { return int64_t{at % rows} * kRows; }
  __device__ int column(int at) const { return at / rows; }
};

// Whether this thread multiplies, and where in the block's tile its warp's rows begin.
__device__ inline bool multiplies() { return threadIdx.x >= kWarpgroup; }
__device__ inline int group_row() { return static_cast<int>(threadIdx.x / kWarpgroup - 1) * kGroupRows; }
__device__ inline int warp_row() { return group_row() + static_cast<int>(threadIdx.x % kWarpgroup / kWarp) * 16; }

__device__ inline void clear(GroupTile<kColumns> &c) {
#pragma unroll
  for (int t = 0; t < kColumns / 8; ++t) c[t][0] = c[t][1] = c[t][2] = c[t][3] = 0.0f;
}

// Pairs where the odd block of the last one costs little.
inline unsigned pair_of(int64_t rows) {
  const int64_t tiles = ceil_div(rows, kRows);
  return tiles > 1 && (tiles % 2 == 0 || tiles > 8) ? 2 : 1;
}
inline int64_t tiles_in_pairs(int64_t rows) {
  const int64_t pair = pair_of(rows);
  return ceil_div(ceil_div(rows, kRows), pair) * pair;
}

}  // namespace lethe::cuda::fused
