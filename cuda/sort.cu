// Radix sort from the lowest digit on (Knuth, volume 3, 5.2.5). In each pass a block counts the digits of its tile;
// then each finds from all counts where its own keys go, and ranks equal digits by place: the order of equal keys is
// that of before, whatever the scheduling.
#include <algorithm>

#include "sort.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 1024;
constexpr unsigned kWarps = kThreads / kWarp;
constexpr int kBits = 9;
constexpr unsigned kDigits = 1u << kBits;
constexpr int64_t kMostBlocks = 64;

// One pass: `order` null is 0, 1, 2 ...
struct Pass {
  const int32_t *keys, *order;
  int32_t *to_keys, *to_order, *counts;  // counts[blocks, kDigits]
  int64_t n, tile;
  int shift;

  __device__ unsigned digit(int32_t key) const { return static_cast<uint32_t>(key) >> shift & (kDigits - 1); }
  __device__ int64_t begin() const { return blockIdx.x * tile; }
  __device__ int64_t end() const { return begin() + tile < n ? begin() + tile : n; }
};

__global__ void __launch_bounds__(kThreads) sort_count_kernel(Pass pass, Gate gate) {
  __shared__ int counts[kDigits];
  if (!gate.open()) return;
  if (threadIdx.x < kDigits) counts[threadIdx.x] = 0;
  __syncthreads();  // the counts are 0
  for (int64_t i = pass.begin() + threadIdx.x; i < pass.end(); i += kThreads) {
    atomicAdd(&counts[pass.digit(pass.keys[i])], 1);
  }
  __syncthreads();  // the tile is counted
  if (threadIdx.x < kDigits) pass.counts[blockIdx.x * kDigits + threadIdx.x] = counts[threadIdx.x];
}

// The sum of what the threads before this one brought.
__device__ int sum_before(int mine) {
  __shared__ int sums[kWarps];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int sum = mine;
  for (unsigned step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(kAllLanes, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == kWarp - 1) sums[warp] = sum;
  __syncthreads();  // the warps' sums are written
  int before = 0;
  for (unsigned w = 0; w < warp; ++w) before += sums[w];
  return before + sum - mine;
}

__global__ void __launch_bounds__(kThreads) sort_move_kernel(Pass pass, Gate gate) {
  __shared__ int start[kDigits];                // where a digit's next key goes
  __shared__ uint16_t counts[kWarps][kDigits];  // of each warp, then of the warps before it
  if (!gate.open()) return;
  const unsigned thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  int total = 0, before = 0;
  for (unsigned b = 0; thread < kDigits && b < gridDim.x; ++b) {
    const int count = pass.counts[b * kDigits + thread];
    total += count;
    before += b < blockIdx.x ? count : 0;
  }
  before += sum_before(total);
  if (thread < kDigits) start[thread] = before;
  for (int64_t from = pass.begin(); from < pass.end(); from += kThreads) {
    for (unsigned i = thread; i < kWarps * kDigits; i += kThreads) counts[i / kDigits][i % kDigits] = 0;
    __syncthreads();  // counts are 0, start is written
    const int64_t i = from + thread;
    const bool here = i < pass.end();
    const int32_t key = here ? pass.keys[i] : 0;
    const unsigned digit = here ? pass.digit(key) : kDigits;
    const unsigned same = __match_any_sync(kAllLanes, digit);
    const int rank = __popc(same & ((1u << lane) - 1));
    if (here && rank == 0) counts[warp][digit] = static_cast<uint16_t>(__popc(same));
    __syncthreads();  // the warps have counted
    int moved = 0;
    for (unsigned w = 0; thread < kDigits && w < kWarps; ++w) {
      const int count = counts[w][thread];
      counts[w][thread] = static_cast<uint16_t>(moved);
      moved += count;
    }
    __syncthreads();  // counts are those of the warps before
    if (here) {
      const int to = start[digit] + counts[warp][digit] + rank;
      pass.to_keys[to] = key;
      pass.to_order[to] = pass.order == nullptr ? static_cast<int32_t>(i) : pass.order[i];
    }
    __syncthreads();  // start and counts are read
    if (thread < kDigits) start[thread] += moved;
  }
}

}  // namespace

KeySort::KeySort(int64_t n, int64_t bound, Pieces *pieces) : n_(n), passes_(1) {
  while (passes_ * kBits < 31 && (bound - 1) >> (passes_ * kBits) != 0) ++passes_;
  tile_ = ceil_div(ceil_div(n, kMostBlocks), kThreads) * kThreads;
  blocks_ = n == 0 ? 0 : ceil_div(n, tile_);
  counts_at_ = pieces->add<int32_t>(blocks_ * kDigits);
  for (int i = 0; i < 2; ++i) {
    keys_at_[i] = pieces->add<int32_t>(n);
    order_at_[i] = pieces->add<int32_t>(n);
  }
}

int KeySort::run(Device *device, const int32_t *keys, const Gate &gate, char *memory) {
  const auto piece = [&](int64_t at) { return reinterpret_cast<int32_t *>(memory + at); };
  keys_ = keys;
  order_ = nullptr;
  for (int64_t i = 0; i < passes_; ++i) {
    const Pass pass = {keys_, order_, piece(keys_at_[i % 2]),     piece(order_at_[i % 2]), piece(counts_at_),
                       n_,    tile_,  static_cast<int>(i) * kBits};
    const Grid grid = {static_cast<unsigned>(blocks_)};
    LETHE_CUDA_TRY((launch(device, {"sort_count", grid, kThreads, 0, n_ * 4}, sort_count_kernel, pass, gate)));
    const int64_t bytes = n_ * (order_ == nullptr ? 12 : 16);
    LETHE_CUDA_TRY((launch(device, {"sort_move", grid, kThreads, 0, bytes}, sort_move_kernel, pass, gate)));
    keys_ = pass.to_keys;
    order_ = pass.to_order;
  }
  return LETHE_OK;
}

}  // namespace lethe::cuda
