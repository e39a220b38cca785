// Sampling from the head (native/cpu/head_sample.cpp): logits by a product, then a block for each row.
//
// Weights are e^((z - max) / temperature) in (0, 1], so their bits, as numbers, have their order: that is a weight's
// key. The largest weights are cut off at a key, and among the equal ones at an index. Sums are fp64, in a fixed order.
#include <algorithm>

#include "gemm.h"
#include "head_logits.cuh"
#include "head_plan.cuh"
#include "head_sums.cuh"
#include "philox.cuh"
#include "prefix.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 1024;
constexpr int64_t kColumnsOfThread = 16;  // at least, where there are so many: sums over a block cost as much
constexpr int32_t kBroken = -1;           // drawn from logits that are not finite

struct Sample {
  float *z;  // [rows, ld]: logits, then weights
  int64_t ld;
  int V;
  const float *bias;  // [V] or null
  SoftCap cap;
  float inverse_temperature;
  int32_t top_k;
  float top_p;
  uint64_t seed;
  const int64_t *draws;  // [rows]
  int32_t *drawn;        // [rows]
};

// The weights whose key is above `key`, and those of that key up to column `last`.
struct Kept {
  uint32_t key;
  int last;

  __device__ bool has(uint32_t other, int v) const { return other > key || (other == key && v <= last); }
};

struct Weights {
  const float *w;
  int V;

  __device__ uint32_t key(int v) const { return __float_as_uint(w[v]); }
};

__device__ double uniform(uint64_t seed, int64_t draw) {
  uint32_t words[4];
  philox(seed, static_cast<uint64_t>(draw), 0, words);
  return static_cast<double>((static_cast<uint64_t>(words[0]) << 32 | words[1]) >> 11) * 0x1p-53;
}

// Turns a row's logits into weights. False when they hold a NaN or an infinite maximum.
__device__ bool to_weights(const Sample &s, float *z) {
  Largest largest = {-__int_as_float(0x7f800000), 0};
  int nan = 0;
  for (int v = static_cast<int>(threadIdx.x); v < s.V; v += static_cast<int>(blockDim.x)) {
    const float x = s.cap(s.bias == nullptr ? z[v] : z[v] + s.bias[v]);
    z[v] = x;
    nan |= x != x ? 1 : 0;
    largest = larger(largest, {x, v});
  }
  nan = __syncthreads_or(nan);
  const float max = block_largest(largest).value;
  if (nan != 0 || !(fabsf(max) < __int_as_float(0x7f800000))) return false;
  for (int v = static_cast<int>(threadIdx.x); v < s.V; v += static_cast<int>(blockDim.x)) {
    z[v] = expf((z[v] - max) * s.inverse_temperature);
  }
  __syncthreads();  // weights are written
  return true;
}

// The first column at which the running sum of weight(v) is above target(total); never one of weight 0, and the last
// other one where rounding keeps the sum below. Each thread looks at neighbouring columns.
template <class Weight, class Target>
__device__ int invert(int V, Weight &&weight, Target &&target) {
  __shared__ int found, last;
  const int each = (V + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
  const int from = static_cast<int>(threadIdx.x) * each, begin = from < V ? from : V;
  const int end = begin + each < V ? begin + each : V;
  if (threadIdx.x == 0) {
    found = V;
    last = 0;
  }
  double sum = 0;
  for (int v = begin; v < end; ++v) sum += weight(v);
  double total = 0;
  double running = block_prefix(sum, &total);
  const double wanted = target(total);
  int own_last = 0;
  for (int v = begin; v < end; ++v) {
    const double w = weight(v);
    running += w;
    if (w > 0) own_last = v;
    if (w > 0 && running > wanted) {
      atomicMin(&found, v);
      break;
    }
  }
  atomicMax(&last, own_last);
  __syncthreads();  // all threads have looked
  const int at = found < V ? found : last;
  __syncthreads();  // found and last may be written again
  return at;
}

// The column of number `rank`, counted from 0, of the kept weights with the key.
__device__ int find_equal(const Weights &w, const Kept &kept, uint32_t key, double rank) {
  return invert(
      w.V, [&](int v) { return w.key(v) == key && kept.has(key, v) ? 1.0 : 0.0; }, [rank](double) { return rank; });
}

// The largest key such that the kept weights of at least that key reach something: their number (kCount) or sum. With
// all of them they do. Two bits of the key a step, until it is the only one left.
template <bool kCount, class Reaches>
__device__ uint32_t find_key(const Weights &w, const Kept &kept, Reaches &&reaches) {
  constexpr double kScale = 0x1p-32;
  uint32_t key = 0;
  for (int shift = 28; shift >= 0; shift -= 2) {
    const uint32_t step = 1u << shift;
    // Of the weights from the three keys between on; and 1 + key 2^-32 of each whose key may still be it.
    double sums[4] = {};
    for (int v = static_cast<int>(threadIdx.x); v < w.V; v += static_cast<int>(blockDim.x)) {
      const uint32_t own = w.key(v);
      if (own < key || !kept.has(own, v)) continue;
      const double x = kCount ? 1.0 : static_cast<double>(w.w[v]);
      if (own - key >= step) sums[0] += x;
      if (own - key >= 2 * step) sums[1] += x;
      if (own - key >= 3 * step) sums[2] += x;
      if (own - key < 4 * step) sums[3] += 1.0 + static_cast<double>(own) * kScale;
    }
    block_sum(sums);
    if (sums[3] < 2.0) return static_cast<uint32_t>((sums[3] - 1.0) / kScale);
    key += reaches(sums[2]) ? 3 * step : reaches(sums[1]) ? 2 * step : reaches(sums[0]) ? step : 0;
  }
  return key;
}

// The sum of the kept weights above a key, how many have that key, and the sum of all.
struct Split {
  double above, equal, total, above_count;
};
__device__ Split split_at(const Weights &w, const Kept &kept, uint32_t key) {
  double sums[4] = {};
  for (int v = static_cast<int>(threadIdx.x); v < w.V; v += static_cast<int>(blockDim.x)) {
    const uint32_t own = w.key(v);
    if (!kept.has(own, v)) continue;
    const auto x = static_cast<double>(w.w[v]);
    sums[0] += own > key ? x : 0.0;
    sums[1] += own == key ? 1.0 : 0.0;
    sums[2] += x;
    sums[3] += own > key ? 1.0 : 0.0;
  }
  block_sum(sums);
  return {sums[0], sums[1], sums[2], sums[3]};
}

// How many weights of the key it takes, one at least, until the sum passes `target`: reaches it, or is above it.
template <bool kAbove>
__device__ double how_many(const Split &s, double weight, double target) {
  const auto passes = [&](double n) {
    const double sum = s.above + n * weight;
    return kAbove ? sum > target : sum >= target;
  };
  double n = floor((target - s.above) / weight);
  n = n < 1.0 ? 1.0 : n > s.equal ? s.equal : n;
  while (n > 1.0 && passes(n - 1.0)) n -= 1.0;
  while (n < s.equal && !passes(n)) n += 1.0;
  return n;
}

// The largest weights, equal ones by column, `count` of them.
__device__ Kept keep_count(const Weights &w, const Kept &all, double count) {
  const uint32_t key = find_key<true>(w, all, [count](double n) { return n >= count; });
  const Split split = split_at(w, all, key);
  return {key, find_equal(w, all, key, count - split.above_count - 1.0)};
}

// The largest of the kept weights, equal ones by column, until their share reaches top_p.
__device__ Kept keep_share(const Weights &w, const Kept &kept, float top_p) {
  const double target = static_cast<double>(top_p) * split_at(w, kept, 0).total;
  const uint32_t key = find_key<false>(w, kept, [target](double sum) { return sum >= target; });
  const double n = how_many<false>(split_at(w, kept, key), static_cast<double>(__uint_as_float(key)), target);
  return {key, find_equal(w, kept, key, n - 1.0)};
}

__device__ int draw(const Sample &s, const Weights &w, double u) {
  Kept kept = {0, w.V};
  if (s.top_k > 0 && s.top_k < w.V) kept = keep_count(w, kept, static_cast<double>(s.top_k));
  if (!(s.top_p < 1.0f)) {
    return invert(
        w.V, [&](int v) { return kept.has(w.key(v), v) ? static_cast<double>(w.w[v]) : 0.0; },
        [u](double total) { return u * total; });
  }
  // What a share is cut to is drawn from in falling order.
  kept = keep_share(w, kept, s.top_p);
  const double total = split_at(w, kept, 0).total, target = u * total;
  const uint32_t key = find_key<false>(w, kept, [target, total](double sum) { return sum > target || sum >= total; });
  const double n = how_many<true>(split_at(w, kept, key), static_cast<double>(__uint_as_float(key)), target);
  return find_equal(w, kept, key, n - 1.0);
}

__global__ void __launch_bounds__(kThreads) head_sample_kernel(Sample s) {
  const int64_t row = blockIdx.x;
  float *z = s.z + row * s.ld;
  const bool sound = to_weights(s, z);
  const int at = sound ? draw(s, {z, s.V}, uniform(s.seed, s.draws[row])) : kBroken;
  if (threadIdx.x == 0) s.drawn[row] = at;
}

// One block: ids[n] = drawn[n], or the first broken row closes the gate.
__global__ void __launch_bounds__(kThreads)
    head_drawn_kernel(int64_t n, const int32_t *drawn, int32_t *ids, Gate gate) {
  __shared__ int first;
  const bool open = gate.open();
  if (threadIdx.x == 0) first = 0x7fffffff;
  __syncthreads();  // no row is broken yet
  for (int64_t row = threadIdx.x; row < n; row += blockDim.x) {
    if (drawn[row] == kBroken) atomicMin(&first, static_cast<int>(row));
  }
  __syncthreads();  // all rows are looked at
  if (first != 0x7fffffff) {
    if (threadIdx.x == 0) gate.close(first, 0, 0);
    return;
  }
  for (int64_t row = threadIdx.x; open && row < n; row += blockDim.x) ids[row] = drawn[row];
}

int broken(const Fault &f, std::string *message) {
  *message = "row " + std::to_string(f.at) + ": its logits are not finite, nothing can be drawn";
  return LETHE_INVALID_ARGUMENT;
}

// Threads for so many numbers, of which each should have `each`.
unsigned threads_for(int64_t numbers, int64_t each) {
  return static_cast<unsigned>(std::min<int64_t>(kThreads, ceil_div(ceil_div(numbers, each), kWarp) * kWarp));
}

int sample(Device *device, const lethe_sample_args &a) {
  const int64_t ld = logit_stride(a.V), row_bytes = ld * 4;
  const auto address = reinterpret_cast<uintptr_t>(a.workspace);
  const int64_t skipped = static_cast<int64_t>((16 - address % 16) % 16);
  const int64_t capacity = std::max<int64_t>(0, a.workspace_bytes - skipped) / row_bytes;
  if (capacity < 1) {
    return LETHE_CUDA_FAIL(device, LETHE_INVALID_ARGUMENT,
                           "the workspace has " + std::to_string(a.workspace_bytes) + " bytes, sampling needs " +
                               std::to_string(skipped + row_bytes));
  }
  Pieces pieces;
  const int64_t drawn_at = pieces.add<int32_t>(a.n), bias_at = pieces.add<float>(a.bias == nullptr ? 0 : a.V),
                mean_at = pieces.add<float>(1);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
  auto *drawn = reinterpret_cast<int32_t *>(memory + drawn_at);
  auto *bias = a.bias == nullptr ? nullptr : reinterpret_cast<float *>(memory + bias_at);
  if (bias != nullptr) {
    LETHE_CUDA_TRY(widen_bias(device, a.dtype, a.V, a.bias, bias, reinterpret_cast<float *>(memory + mean_at)));
  }
  auto *z = reinterpret_cast<float *>(static_cast<char *>(a.workspace) + skipped);
  for (int64_t begin = 0; begin < a.n; begin += capacity) {
    const int64_t count = std::min(capacity, a.n - begin);
    const void *h = static_cast<const char *>(a.h) + begin * a.d * element_bytes(a.dtype);
    LETHE_CUDA_TRY(gemm(device, {a.dtype, LETHE_F32, count, a.V, a.d, {h, a.d}, {a.w, a.d, true}, z, ld}));
    const Sample s = {z,
                      ld,
                      static_cast<int>(a.V),
                      bias,
                      {a.soft_cap, a.soft_cap > 0 ? 1.0f / a.soft_cap : 0.0f},
                      1.0f / a.temperature,
                      a.top_k,
                      a.top_p,
                      static_cast<uint64_t>(a.seed),
                      a.draws + begin,
                      drawn + begin};
    const Shape shape = {
        "head_sample", {static_cast<unsigned>(count)}, threads_for(a.V, kColumnsOfThread), 0, count * a.V * 12};
    LETHE_CUDA_TRY(launch(device, shape, head_sample_kernel, s));
  }
  const Shape shape = {"head_drawn", {}, threads_for(a.n, 1), 0, a.n * 8};
  return launch(device, shape, head_drawn_kernel, a.n, static_cast<const int32_t *>(drawn), a.ids,
                device->fault.gate("ids", broken));
}

}  // namespace

int head_sample(Device *device, const lethe_sample_args *args) {
  return run(device, __func__, [&] { return args->n == 0 ? static_cast<int>(LETHE_OK) : sample(device, *args); });
}

}  // namespace lethe::cuda
