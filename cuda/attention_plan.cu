// What the device makes of a segment table: checked as native/cpu/attention_plan.cpp does, and cut into row tiles.
#include "attention.cuh"

namespace lethe::cuda::attention {
namespace {

constexpr unsigned kThreads = 1024;
constexpr int64_t kNone = 0x7fffffffffffffff;

enum Wrong { kQueries, kOwnKeys, kParentKeys, kTooFewKeys, kShared, kFine };
constexpr int64_t kWrongs = 8;  // Fault::at is segment * kWrongs + Wrong
// Fault::value of two numbers is a pair_of() them.

__device__ bool inside(int64_t begin, int64_t count, int64_t rows) {
  return begin >= 0 && count >= 0 && begin + count <= rows;
}
__device__ Wrong check_one(const lethe_attention_args &a, const Segment &s) {
  if (!inside(s.query, s.queries, a.q_rows)) return kQueries;
  if (!inside(s.own, s.own_keys, a.k_rows)) return kOwnKeys;
  if (!inside(s.parent, s.parent_keys, a.k_rows)) return kParentKeys;
  return s.queries > s.own_keys ? kTooFewKeys : kFine;
}

int what_is_wrong(const Fault &f, std::string *message) {
  const int64_t index = f.at / kWrongs, wrong = f.at % kWrongs;
  const int64_t first = f.value >> 32, second = static_cast<int32_t>(f.value & 0xffffffff);
  const std::string who = "segment " + std::to_string(index) + ": ";
  if (wrong == kShared) {
    *message = "segments " + std::to_string(f.value) + " and " + std::to_string(index) + " share query rows";
    return LETHE_OVERLAP;
  }
  if (wrong == kTooFewKeys) {
    *message = who + std::to_string(first) + " queries but only " + std::to_string(second) + " own keys";
    return LETHE_INVALID_ARGUMENT;
  }
  const char *name = wrong == kQueries ? "queries" : wrong == kOwnKeys ? "own keys" : "parent keys";
  *message = who + name + " are " + std::to_string(first) + " rows from " + std::to_string(second) + " of " +
             std::to_string(f.bound);
  return LETHE_OUT_OF_BOUNDS;
}

// Two numbers of 32 bits in one of 64.
__device__ int64_t pair_of(int64_t first, int64_t second) {
  return static_cast<int64_t>(static_cast<uint64_t>(first) << 32 | static_cast<uint32_t>(second));
}

__device__ void close_for(const Gate &gate, const lethe_attention_args &a, int64_t index) {
  const Segment s = Segment::read(a, index);
  const Wrong wrong = check_one(a, s);
  const int64_t value = wrong == kQueries      ? pair_of(s.queries, s.query)
                        : wrong == kOwnKeys    ? pair_of(s.own_keys, s.own)
                        : wrong == kTooFewKeys ? pair_of(s.queries, s.own_keys)
                                               : pair_of(s.parent_keys, s.parent);
  gate.close(index * kWrongs + wrong, value, wrong == kQueries ? a.q_rows : a.k_rows);
}

// Where a segment with queries stands in the order of first query rows, and among equals of the table.
__device__ int64_t rank_of(const Segment &s, int64_t index) { return pair_of(s.query, index); }

// Reduces to the smallest number of the block.
struct Smallest {
  unsigned long long *shared;
  __device__ int64_t of(int64_t mine) const {
    if (threadIdx.x == 0) *shared = static_cast<unsigned long long>(kNone);
    __syncthreads();  // the block's number may be lowered
    if (mine < kNone) atomicMin(shared, static_cast<unsigned long long>(mine));
    __syncthreads();  // everybody has lowered it
    const auto smallest = static_cast<int64_t>(*shared);
    __syncthreads();  // it may be written again
    return smallest;
  }
};

// The first segment in rank that begins inside of one before it; kNone: there is none. Tables are nearly always in
// order, which a look at neighbours tells.
__device__ int64_t first_shared(const lethe_attention_args &a) {
  int unordered = 0;
  for (int64_t i = threadIdx.x + 1; i < a.segments; i += blockDim.x) {
    const Segment before = Segment::read(a, i - 1), s = Segment::read(a, i);
    unordered |= s.query < before.query + before.queries;
  }
  if (!__syncthreads_or(unordered)) return kNone;
  int64_t first = kNone;
  for (int64_t i = threadIdx.x; i < a.segments; i += blockDim.x) {
    const Segment s = Segment::read(a, i);
    if (s.queries == 0) continue;
    const int64_t rank = rank_of(s, i);
    for (int64_t j = 0; j < a.segments && rank < first; ++j) {
      const Segment other = Segment::read(a, j);
      if (other.queries > 0 && rank_of(other, j) < rank && s.query < other.query + other.queries) first = rank;
    }
  }
  return first;
}

// The segment before `rank`, which is the last of those that share nothing.
__device__ int64_t before(const lethe_attention_args &a, int64_t rank) {
  int64_t distance = kNone;
  for (int64_t i = threadIdx.x; i < a.segments; i += blockDim.x) {
    const Segment s = Segment::read(a, i);
    if (s.queries > 0 && rank_of(s, i) < rank) distance = smaller(distance, rank - rank_of(s, i));
  }
  return distance;
}

__device__ int64_t tiles_of(const Call &c, int64_t index, int tile_rows) {
  const int64_t rows = Segment::read(c.a, index).queries * c.group;
  return rows <= c.decode_rows ? 0 : (rows + tile_rows - 1) / tile_rows;
}

// Numbers the row tiles: ends[i] is the number behind segment i's last.
__device__ int32_t number_tiles(const Call &c, int tile_rows, int32_t *ends) {
  __shared__ int32_t counts[kThreads];
  int32_t total = 0;
  for (int64_t begin = 0; begin < c.a.segments; begin += kThreads) {
    const int64_t i = begin + threadIdx.x;
    counts[threadIdx.x] = i < c.a.segments ? static_cast<int32_t>(tiles_of(c, i, tile_rows)) : 0;
    __syncthreads();  // counts are written
    for (unsigned step = 1; step < kThreads; step *= 2) {
      const int32_t more = threadIdx.x >= step ? counts[threadIdx.x - step] : 0;
      __syncthreads();  // counts are read
      counts[threadIdx.x] += more;
      __syncthreads();  // counts are sums over twice as many
    }
    if (i < c.a.segments) ends[i] = total + counts[threadIdx.x];
    total += counts[kThreads - 1];
    __syncthreads();  // counts may be written again
  }
  return total;
}

__device__ void list_tiles(const Call &c, const int32_t *ends, int32_t total, Tile *tiles) {
  for (int32_t t = static_cast<int32_t>(threadIdx.x); t < total; t += static_cast<int32_t>(kThreads)) {
    int64_t low = 0, high = c.a.segments - 1;  // the first segment with t < ends[i]
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (t < ends[middle]) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    tiles[t] = {static_cast<int32_t>(low), t - (low == 0 ? 0 : ends[low - 1])};
  }
}

__global__ void __launch_bounds__(kThreads)
    plan_kernel(Call c, Gate gate, int tile_rows, PlanHeader *header, Tile *tiles, int32_t *ends) {
  __shared__ unsigned long long lowest, claimed;
  const Smallest smallest = {&lowest};
  int64_t bad = kNone;
  for (int64_t i = threadIdx.x; i < c.a.segments; i += blockDim.x) {
    if (check_one(c.a, Segment::read(c.a, i)) != kFine) {
      bad = i;
      break;  // a thread's later ones come after it
    }
  }
  bad = smallest.of(bad);
  if (bad != kNone) {
    if (threadIdx.x == 0) close_for(gate, c.a, bad);
    return;
  }
  const int64_t shared = smallest.of(first_shared(c.a));
  if (shared != kNone) {
    const int64_t distance = smallest.of(before(c.a, shared));
    const int64_t last = (shared - distance) & 0xffffffff;
    if (threadIdx.x == 0) gate.close((shared & 0xffffffff) * kWrongs + kShared, last, 0);
    return;
  }
  if (threadIdx.x == 0) claimed = 0;
  const int32_t total = number_tiles(c, tile_rows, ends);
  __syncthreads();  // ends are written, and claimed
  list_tiles(c, ends, total, tiles);
  unsigned long long mine = 0;
  for (int64_t i = threadIdx.x; i < c.a.segments; i += blockDim.x) {
    mine += static_cast<unsigned long long>(Segment::read(c.a, i).queries);
  }
  if (mine > 0) atomicAdd(&claimed, mine);
  __syncthreads();  // everybody has claimed
  if (threadIdx.x == 0) *header = {total, static_cast<int64_t>(claimed) == c.a.q_rows};
}

constexpr unsigned kDeltaThreads = 256;

// A warp takes one query and head.
template <class T>
__global__ void __launch_bounds__(kDeltaThreads) delta_kernel(Call c) {
  if (*c.closed != 0) return;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (kDeltaThreads / kWarp) + threadIdx.x / kWarp;
  if (index >= c.a.q_rows * c.a.heads) return;
  const int64_t d = c.a.head_dim, lane = threadIdx.x % kWarp;
  const T *out = static_cast<const T *>(c.a.out) + index * d, *dout = static_cast<const T *>(c.a.dout) + index * d;
  float sum = 0;
  if (c.fast_out) {
    using Vector = Packed<T, kVector<T>>;
    for (int64_t i = lane * kVector<T>; i < d; i += kWarp * kVector<T>) {
      const Vector x = *reinterpret_cast<const Vector *>(out + i), y = *reinterpret_cast<const Vector *>(dout + i);
      for (int k = 0; k < kVector<T>; ++k) sum = __fmaf_rn(to_float(x.lanes[k]), to_float(y.lanes[k]), sum);
    }
  } else {
    // The same lanes take the same numbers as 16 bytes at a time.
    for (int64_t i = lane * kVector<T>; i < d; i += kWarp * kVector<T>) {
      for (int64_t k = i; k < i + kVector<T> && k < d; ++k) sum = __fmaf_rn(to_float(out[k]), to_float(dout[k]), sum);
    }
  }
  for (unsigned step = kWarp / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (lane == 0) c.delta[index] = sum;
  if (c.plan->covered) return;
  T *dq = static_cast<T *>(c.a.dq) + index / c.a.heads * c.a.q_stride + index % c.a.heads * d;
  for (int64_t i = lane; i < d; i += kWarp) from_float(0.0f, dq + i);
}

}  // namespace

int plan(Device *device, const Call &call, int tile_rows, const PlanMemory &memory) {
  const Shape shape = {"attention_plan", {}, kThreads, 0, call.a.segments * LETHE_SEGMENT_FIELDS * 4};
  return launch(device, shape, plan_kernel, call, device->fault.gate("segment_table", what_is_wrong), tile_rows,
                memory.header, memory.tiles, memory.ends);
}

int prepare_backward(Device *device, const Call &call) {
  const int64_t rows = call.a.q_rows * call.a.heads;
  const Shape shape = {"attention_delta",
                       {blocks_of(rows, kDeltaThreads / kWarp)},
                       kDeltaThreads,
                       0,
                       rows * (2 * call.a.head_dim * element_bytes(call.a.dtype) + 4)};
  return call.a.dtype == LETHE_BF16 ? launch(device, shape, delta_kernel<bf16>, call)
                                    : launch(device, shape, delta_kernel<float>, call);
}

}  // namespace lethe::cuda::attention
