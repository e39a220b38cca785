// The labels' logits by the products of head_fused_wgmma_logits.cu, in the same order, so that a logit that ties with
// the label's does so to the bit.
#include "head_fused_tile.cuh"
#include "tma.cuh"

namespace lethe::cuda::fused {
namespace {

constexpr int kLabelRows = 64;
constexpr int kTileBytes = kLabelRows * kBoxRow;
constexpr size_t kBytes = kSwizzleTile + 2 * kTileBytes;
constexpr int kPieces = 2 * kTileBytes / 16 / kWarpgroup;  // of 16 bytes, of a thread
constexpr int kGroupLaunched = wgmma_threads(kWarpgroup);

// A block takes 64 rows and their 64 labels, and of that product the diagonal. A thread has one piece of 16 bytes in
// each of kPieces rows of either, 16 rows apart.
struct Gather {
  const bf16 *rows[kPieces];
  uint4 pieces[kPieces];
  int row, piece;

  __device__ Gather(const Labels &l, int64_t first) {
    row = static_cast<int>(threadIdx.x) / 8;
    piece = static_cast<int>(threadIdx.x) % 8;
#pragma unroll
    for (int i = 0; i < kPieces / 2; ++i) {
      rows[i] = label_hidden(l, first + row + 16 * i);
      rows[i + kPieces / 2] = label_weight(l, first + row + 16 * i);
    }
  }
  __device__ void load(int64_t k, int64_t d) {
    const int64_t from = k + 8 * piece;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      pieces[i] = from < d ? *reinterpret_cast<const uint4 *>(rows[i] + from) : uint4{0, 0, 0, 0};
    }
  }
  __device__ void store(char *tiles) const {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      *reinterpret_cast<uint4 *>(tiles + i / (kPieces / 2) * kTileBytes +
                                 swizzled_at(row + 16 * (i % (kPieces / 2)), piece)) = pieces[i];
    }
  }
};

__device__ inline void multiply(GroupTile<kLabelRows> &c, const Labels &l, int64_t first) {
  char *memory = dynamic_shared<char>();
  char *tiles = memory + (kSwizzleTile - shared_address(memory) % kSwizzleTile) % kSwizzleTile;
  const uint64_t left = rows_descriptor(shared_address(tiles)), right = moved_on(left, kTileBytes);
  Gather gather(l, first);
  gather.load(0, l.d);
  for (int64_t k = 0; k < l.d; k += kBoxColumns) {
    gather.store(tiles);
    show_stores();
    __syncthreads();  // the rows are there
    gather.load(k + kBoxColumns, l.d);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kBoxRow; i += 32) wgmma(c, moved_on(left, i), moved_on(right, i));
    wgmma_commit();
    wgmma_finish(c);
    __syncthreads();  // the rows have been read
  }
}

__global__ void __launch_bounds__(kGroupLaunched) head_fused_wgmma_labels_kernel(Labels l) {
  if constexpr (kHasWgmma) {
    if (*l.closed != 0) return;
    const int64_t first = int64_t{blockIdx.x} * kLabelRows;
    GroupTile<kLabelRows> c = {};
    multiply(c, l, first);
    // Row 16 warp + 8 half + lane / 4 has its own column in block 2 warp + half of eight, the lane / 4 of them.
    const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
    const int own = lane / 4;
    if (lane % 4 != own / 2) return;
#pragma unroll
    for (int t = 0; t < kLabelRows / 8; ++t) {
      if (t / 2 != warp) continue;
      const float *pair = c[t] + 2 * (t % 2);
      write_row(l, first + 8 * t + own, own % 2 == 0 ? pair[0] : pair[1]);
    }
  }
}

}  // namespace

int wgmma_labels(Device *device, const Labels &l) {
  const Shape shape = {
      "head_fused_wgmma_labels", {blocks_of(l.n, kLabelRows)}, kWarpgroup, kBytes, l.n * (l.d * 4 + 16), 1, true};
  return launch(device, shape, head_fused_wgmma_labels_kernel, l);
}

}  // namespace lethe::cuda::fused
