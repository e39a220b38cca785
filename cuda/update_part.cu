// The gradient norm and AdamW part by part: with a master or with stochastic rounding, moments in fp32 or in 8 bits
// (native/cpu/update_part.cpp has the formulas).
#include <algorithm>
#include <cstring>

#include "adamw.cuh"
#include "device.cuh"
#include "philox.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

// ---- the norm ----

constexpr unsigned kSumThreads = 256, kTotalThreads = 1024;
// Gradients of one partial sum: the sums, and so the norm, depend on the parts alone.
constexpr int64_t kChunk = 1 << 14;
// Where a state holds the sum of squares of the parts so far, an fp64 number.
constexpr int kSquareSum = 4;

// A block sums the squares of a chunk in fp64.
__global__ void __launch_bounds__(kSumThreads) part_squares_kernel(int64_t n, const float *g, double *partial) {
  const int64_t begin = blockIdx.x * kChunk, end = begin + kChunk < n ? begin + kChunk : n;
  double sums[1] = {0.0};
#pragma unroll 8
  for (int64_t i = begin + threadIdx.x; i < end; i += kSumThreads) {
    const double x = g[i];
    sums[0] += x * x;
  }
  block_sum(sums);
  if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

// One block: norm, clip coefficient and whether all is finite, of this part and those before it.
__global__ void __launch_bounds__(kTotalThreads)
    part_norm_kernel(int64_t chunks, const double *partial, bool begin, float max_norm, float *state) {
  double sums[1] = {0.0};
  for (int64_t i = threadIdx.x; i < chunks; i += kTotalThreads) sums[0] += partial[i];
  block_sum(sums);
  if (threadIdx.x != 0) return;
  double total = 0.0;
  if (!begin) std::memcpy(&total, state + kSquareSum, sizeof total);
  total += sums[0];
  std::memcpy(state + kSquareSum, &total, sizeof total);
  // The square of a finite fp32 number is below 1e77, and no sum of them that fits in memory comes near 1e300; a NaN is
  // not below it, nor is an infinity.
  const bool finite = total < 1e300;
  const double norm = sqrt(total), clip = static_cast<double>(max_norm) / (norm + 1e-6);
  state[0] = static_cast<float>(norm);
  state[1] = finite && max_norm > 0.0f && clip < 1.0 ? static_cast<float>(clip) : 1.0f;
  state[2] = finite ? 1.0f : 0.0f;
}

// ---- AdamW ----

constexpr int kCodes = 256;
// Parameters of a thread: as many as a Philox counter has halves of words, and a warp's are a block of moments.
constexpr int kMine = 8;
constexpr unsigned kThreads = 256, kWarps = kThreads / kWarp;
static_assert(LETHE_MOMENT_BLOCK == kMine * static_cast<int>(kWarp), "a warp has a block of moments");

struct Part {
  lethe_adamw_part_args a;
  bool aligned;
  int *tickets;  // 0 between launches
};

// A map of codes in shared memory, and the midpoints between its values; the last one is above every number.
struct Map {
  float values[kCodes], midpoints[kCodes];

  // A block of kCodes threads fills it.
  __device__ void fill(const float *map) {
    const unsigned i = threadIdx.x;
    values[i] = map[i];
    midpoints[i] = i + 1 < kCodes ? (map[i] + map[i + 1]) * 0.5f : __uint_as_float(0x7f800000u);
  }
  // How many midpoints lie below x: the code of the value nearest to it.
  __device__ int code(float x) const {
    int code = 0;
#pragma unroll
    for (int step = kCodes / 2; step > 0; step /= 2) code += x > midpoints[code + step - 1] ? step : 0;
    return code;
  }
};
static_assert(kThreads == kCodes, "each thread fills one code");

template <bool kWhole, class T>
__device__ void load_eight(const T *from, int n, float (&x)[kMine]) {
#pragma unroll
  for (int begin = 0; begin < kMine; begin += kVector<T>) {
    const Vector<T> v = load_vector<kWhole>(from + begin, n - begin);
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) x[begin + i] = v.at(i);
  }
}
template <bool kWhole, class T>
__device__ void store_eight(const float (&x)[kMine], int n, T *to) {
#pragma unroll
  for (int begin = 0; begin < kMine; begin += kVector<T>) {
    float piece[kVector<T>];
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) piece[i] = x[begin + i];
    store_vector<kWhole>(packed<T>(piece), to + begin, n - begin);
  }
}

template <bool kWhole>
__device__ void load_codes(const uint8_t *from, int n, uint8_t (&codes)[kMine]) {
  if constexpr (kWhole) {
    const void *piece = from;
    std::memcpy(codes, __builtin_assume_aligned(piece, kMine), kMine);
  } else {
#pragma unroll
    for (int i = 0; i < kMine; ++i) codes[i] = i < n ? from[i] : 0;
  }
}
template <bool kWhole>
__device__ void store_codes(const uint8_t (&codes)[kMine], int n, uint8_t *to) {
  if constexpr (kWhole) {
    void *piece = to;
    std::memcpy(__builtin_assume_aligned(piece, kMine), codes, kMine);
  } else {
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      if (i < n) to[i] = codes[i];
    }
  }
}

// Moments of a thread; those behind the end are 0.
template <bool kWhole>
__device__ void load_moments(const void *from, const float *scale, const Map &map, int64_t at, int n,
                             float (&x)[kMine]) {
  uint8_t codes[kMine];
  load_codes<kWhole>(static_cast<const uint8_t *>(from) + at, n, codes);
  const float of_block = scale[at / LETHE_MOMENT_BLOCK];
#pragma unroll
  for (int i = 0; i < kMine; ++i) x[i] = i < n ? __fmul_rn(map.values[codes[i]], of_block) : 0.0f;
}

// The warp's largest magnitude becomes the scale; a block of zeros has the scale 0 and the codes of 0. kSquares: a
// number above 0 never takes code 0.
template <bool kWhole, bool kSquares>
__device__ void store_moments(const float (&x)[kMine], const Map &map, int64_t at, int n, void *to, float *scale) {
  float largest = 0.0f;
#pragma unroll
  for (int i = 0; i < kMine; ++i) largest = fmaxf(largest, fabsf(x[i]));
#pragma unroll
  for (unsigned step = kWarp / 2; step > 0; step /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
  }
  if (threadIdx.x % kWarp == 0) scale[at / LETHE_MOMENT_BLOCK] = largest;
  uint8_t codes[kMine];
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const int code = map.code(largest > 0.0f ? x[i] / largest : 0.0f);
    codes[i] = static_cast<uint8_t>(kSquares && x[i] > 0.0f && code == 0 ? 1 : code);
  }
  store_codes<kWhole>(codes, n, static_cast<uint8_t *>(to) + at);
}

// The fp32 bits plus sixteen random ones, cut off: what is cut off is the probability of the number next farther from
// zero. A NaN stays one.
template <bool kWhole>
__device__ void store_stochastically(const lethe_adamw_part_args &a, float steps, int64_t at, int n,
                                     const float (&x)[kMine], bf16 *to) {
  uint32_t words[4];
  philox(a.seed, static_cast<uint64_t>(a.first + at) / kMine, static_cast<uint64_t>(steps) + 1, words);
  float kept[kMine];
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const uint32_t draw = words[i / 2] >> (16 * (i % 2)) & 0xffffu, bits = __float_as_uint(x[i]);
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    kept[i] = __uint_as_float(finite ? (bits + draw) & 0xffff0000u : bits);
  }
  // They are bf16 numbers, which rounding leaves as they are.
  store_eight<kWhole>(kept, n, to);
}

// A thread's parameters from `at` on, `n` of them; kWhole: all eight, and all is aligned.
template <bool kWhole, bool kMaster, bool kCoded, class T>
__device__ void update_eight(const lethe_adamw_part_args &a, const AdamwStep &s, float steps, const Map *maps,
                             int64_t at, int n) {
  float p[kMine], m[kMine], v[kMine], g[kMine];
  auto *copy = static_cast<T *>(a.copy);
  load_eight<kWhole>(a.g + at, n, g);
  if constexpr (kMaster) {
    load_eight<kWhole>(a.p + at, n, p);
  } else {
    load_eight<kWhole>(copy + at, n, p);
  }
  if constexpr (kCoded) {
    load_moments<kWhole>(a.m, a.m_scale, maps[0], at, n, m);
    load_moments<kWhole>(a.v, a.v_scale, maps[1], at, n, v);
  } else {
    load_eight<kWhole>(static_cast<const float *>(a.m) + at, n, m);
    load_eight<kWhole>(static_cast<const float *>(a.v) + at, n, v);
  }
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    p[i] = adamw_moved(s, a.beta1, a.beta2, a.eps, __fmul_rn(a.lr, a.weight_decay), p[i], g[i], m + i, v + i);
  }
  if constexpr (kMaster) {
    store_eight<kWhole>(p, n, a.p + at);
    if (copy != nullptr) store_eight<kWhole>(p, n, copy + at);
  } else {
    store_stochastically<kWhole>(a, steps, at, n, p, copy + at);
  }
  if constexpr (kCoded) {
    store_moments<kWhole, false>(m, maps[0], at, n, a.m, a.m_scale);
    store_moments<kWhole, true>(v, maps[1], at, n, a.v, a.v_scale);
  } else {
    store_eight<kWhole>(m, n, static_cast<float *>(a.m) + at);
    store_eight<kWhole>(v, n, static_cast<float *>(a.v) + at);
  }
}

// One launch: a block works the step out once, and its warps go over many blocks of moments. With `last`, the last
// block to have read the count of steps raises it.
template <bool kMaster, bool kCoded, class T>
__global__ void __launch_bounds__(kThreads, 3) adamw_part_kernel(Part part) {
  __shared__ AdamwStep step;
  __shared__ float steps_before;
  __shared__ Map maps[kCoded ? 2 : 1];
  const lethe_adamw_part_args &a = part.a;
  if (a.state[2] != 1.0f) return;
  if constexpr (kCoded) {
    maps[0].fill(a.maps);
    maps[1].fill(a.maps + kCodes);
  }
  if (threadIdx.x == 0) {
    const float steps = a.state[3];
    steps_before = steps;
    step = adamw_step(a.state[1], steps, a.lr, a.beta1, a.beta2);
    __threadfence();
    if (a.last != 0 && atomicAdd(part.tickets, 1) == static_cast<int>(gridDim.x) - 1) {
      __threadfence();  // the others' reads come before
      a.state[3] = steps + 1.0f;
      *part.tickets = 0;
    }
  }
  __syncthreads();  // the step and the maps are written
  const AdamwStep s = step;
  const float steps = steps_before;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * kMine;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  // A warp stays together: its lanes find their largest moment.
  for (int64_t block = warp * LETHE_MOMENT_BLOCK; block < a.n; block += stride) {
    const int64_t at = block + threadIdx.x % kWarp * kMine;
    if (part.aligned && block + LETHE_MOMENT_BLOCK <= a.n) {
      update_eight<true, kMaster, kCoded, T>(a, s, steps, maps, at, kMine);
    } else {
      update_eight<false, kMaster, kCoded, T>(a, s, steps, maps, at, in_piece<bf16>(a.n - at));
    }
  }
}

template <bool kMaster, class T>
int update(Device *device, const lethe_adamw_part_args &a) {
  const bool coded = a.m_scale != nullptr;
  const Part part = {a, whole_rows<T>({a.p, a.m, a.v, a.g, a.copy}, {}), device->tickets};
  // As many blocks as run at once.
  constexpr unsigned kBlocksEach = 8;
  const unsigned most = static_cast<unsigned>(device->properties.multiProcessorCount) * kBlocksEach;
  const unsigned blocks = std::clamp(blocks_of(a.n, int64_t{kThreads} * kMine), 1u, most);
  const int64_t width = sizeof(T), moments = coded ? 4 : 16;
  const int64_t parameter = (a.p == nullptr ? width : 8) + (a.copy == nullptr ? 0 : width);
  const Shape shape = {"adamw_part", {blocks}, kThreads, 0, a.n * (4 + moments + parameter)};
  return with_bool(
      coded, [&](auto is) { return launch(device, shape, adamw_part_kernel<kMaster, decltype(is)::value, T>, part); });
}

}  // namespace

int gradient_norm_part(Device *device, int64_t n, const float *g, int32_t begin, float max_norm, float *state) {
  return run(device, __func__, [&] {
    const int64_t chunks = ceil_div(n, kChunk);
    Pieces pieces;
    const int64_t at = pieces.add<double>(chunks + 1);
    char *memory = nullptr;
    LETHE_CUDA_TRY(scratch(device, pieces.bytes(), &memory));
    auto *partial = reinterpret_cast<double *>(memory + at);
    const Shape sums = {"part_squares", {blocks_of(n, kChunk)}, kSumThreads, 0, 4 * n + 8 * chunks};
    LETHE_CUDA_TRY(launch(device, sums, part_squares_kernel, n, g, partial));
    const Shape total = {"part_norm", {}, kTotalThreads, 0, 8 * chunks + 28};
    return launch(device, total, part_norm_kernel, chunks, static_cast<const double *>(partial), begin != 0, max_norm,
                  state);
  });
}

int adamw_part(Device *device, const lethe_adamw_part_args *args) {
  return run(device, __func__, [&] {
    if (args->p == nullptr) return update<false, bf16>(device, *args);
    return args->dtype == LETHE_BF16 ? update<true, bf16>(device, *args) : update<true, float>(device, *args);
  });
}

}  // namespace lethe::cuda
