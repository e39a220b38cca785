// The global gradient norm, and AdamW over one arena (native/cpu/update.cpp has the formulas).
#include <algorithm>
#include <cmath>

#include "adamw.cuh"
#include "device.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

// ---- the norm ----

constexpr unsigned kSumThreads = 256;
// Gradients of one partial sum, or a multiple of it where more than kMostChunks would leave the last block much to do:
// the sums, and so the norm, depend on n alone. Few chunks on the shim, so that its tests meet multiples.
constexpr int64_t kChunk = 1 << 14;
#if defined(LETHE_CUDA_SHIM)
constexpr int64_t kMostChunks = 4;
#else
constexpr int64_t kMostChunks = 4096;
#endif

// Pieces of 16 bytes that a thread has in flight.
constexpr int kBatch = 8;
constexpr int64_t kBatchStep = static_cast<int64_t>(kSumThreads) * kVector<float> * kBatch;
static_assert(kChunk % kBatchStep == 0, "a chunk is a number of batches");

// A thread's squares of a chunk that ends at `end`.
template <bool kWhole>
__device__ double square_sum(const float *g, int64_t begin, int64_t end) {
  double sum = 0.0;
  for (int64_t batch = begin + threadIdx.x * kVector<float>; batch < end; batch += kBatchStep) {
    Vector<float> v[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t at = batch + i * static_cast<int64_t>(kSumThreads) * kVector<float>;
      v[i] = load_vector<kWhole>(g + at, kWhole ? kVector<float> : in_piece<float>(end - at));
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int k = 0; k < kVector<float>; ++k) {
        const double x = v[i].at(k);
        sum += x * x;
      }
    }
  }
  return sum;
}

// The norm, the clip coefficient, and whether all gradients are finite, from the chunks' sums: one block's work.
__device__ inline void finish_norm(int64_t chunks, const volatile double *partial, float max_norm, float *state) {
  double sums[1] = {0.0};
  for (int64_t i = threadIdx.x; i < chunks; i += kSumThreads) sums[0] += partial[i];
  block_sum(sums);
  if (threadIdx.x != 0) return;
  // The square of a finite fp32 number is below 1e77, and no sum of them that fits in memory comes near 1e300; a NaN is
  // not below it, nor is an infinity.
  const bool finite = sums[0] < 1e300;
  const double norm = sqrt(sums[0]), clip = static_cast<double>(max_norm) / (norm + 1e-6);
  state[0] = static_cast<float>(norm);
  state[1] = finite && max_norm > 0.0f && clip < 1.0 ? static_cast<float>(clip) : 1.0f;
  state[2] = finite ? 1.0f : 0.0f;
}

// One launch: a block sums the squares of a chunk in fp64, and the last block to have done so goes over all the sums,
// in an order that does not depend on which block that is. They are read past the L1 cache, which other blocks' writes
// do not reach.
__global__ void __launch_bounds__(kSumThreads)
    gradient_norm_kernel(int64_t n, int64_t chunk, const float *g, bool aligned, double *partial, float max_norm,
                         float *state, int *tickets) {
  __shared__ bool last;
  const int64_t begin = blockIdx.x * chunk, end = begin + chunk < n ? begin + chunk : n;
  double sums[1] = {aligned && end - begin == chunk ? square_sum<true>(g, begin, end)
                                                    : square_sum<false>(g, begin, end)};
  block_sum(sums);
  if (threadIdx.x == kSumThreads - 1) {
    partial[blockIdx.x] = sums[0];
    __threadfence();  // the sum comes before the ticket
    last = atomicAdd(tickets, 1) == static_cast<int>(gridDim.x) - 1;
    __threadfence();  // the others' sums come before what is read of them
    if (last) *tickets = 0;
  }
  __syncthreads();  // who is last is known
  if (last) finish_norm(gridDim.x, partial, max_norm, state);
}

// ---- AdamW ----

constexpr unsigned kThreads = 256;
// Parameters of a thread: 16 bytes of a bf16 copy, twice that of the rest.
constexpr int kMine = kVector<bf16>;

template <bool kWhole>
__device__ void load_eight(const float *from, int n, float (&x)[kMine]) {
#pragma unroll
  for (int half = 0; half < kMine; half += kVector<float>) {
    const Vector<float> v = load_vector<kWhole>(from + half, n - half);
#pragma unroll
    for (int i = 0; i < kVector<float>; ++i) x[half + i] = v.at(i);
  }
}
template <bool kWhole>
__device__ void store_eight(const float (&x)[kMine], int n, float *to) {
#pragma unroll
  for (int half = 0; half < kMine; half += kVector<float>) {
    const float four[] = {x[half], x[half + 1], x[half + 2], x[half + 3]};
    store_vector<kWhole>(packed<float>(four), to + half, n - half);
  }
}
template <bool kWhole>
__device__ void store_eight(const float (&x)[kMine], int n, bf16 *to) {
  store_vector<kWhole>(packed<bf16>(x), to, n);
}

struct Arena {
  int64_t n, n_decay;
  float *p, *m, *v;
  const float *g;
  float lr, beta1, beta2, eps, decay;  // lr * weight_decay
  bool aligned;
  float *state;
  int *tickets;  // 0 between launches
};

// A thread's parameters from `first` on, `n` of them; kWhole: kMine, and all is aligned.
template <bool kWhole, class T>
__device__ void update_eight(const Arena &a, const AdamwStep &s, int64_t first, int n, T *copy) {
  float p[kMine], m[kMine], v[kMine], g[kMine];
  load_eight<kWhole>(a.g + first, n, g);
  load_eight<kWhole>(a.m + first, n, m);
  load_eight<kWhole>(a.v + first, n, v);
  load_eight<kWhole>(a.p + first, n, p);
#pragma unroll
  for (int i = 0; i < kMine; ++i) {
    const float decay = first + i < a.n_decay ? a.decay : 0.0f;
    p[i] = adamw_moved(s, a.beta1, a.beta2, a.eps, decay, p[i], g[i], m + i, v + i);
  }
  store_eight<kWhole>(m, n, a.m + first);
  store_eight<kWhole>(v, n, a.v + first);
  store_eight<kWhole>(p, n, a.p + first);
  if (copy != nullptr) store_eight<kWhole>(p, n, copy + first);
}

// One launch: a block works the step out once, as its powers are dear, and goes over many pieces. The last block to
// have read the count of steps raises it.
template <class T>
__global__ void __launch_bounds__(kThreads) adamw_kernel(Arena a, T *copy) {
  __shared__ AdamwStep step;
  if (a.state[2] != 1.0f) return;
  if (threadIdx.x == 0) {
    const float steps = a.state[3];
    step = adamw_step(a.state[1], steps, a.lr, a.beta1, a.beta2);
    __threadfence();
    if (atomicAdd(a.tickets, 1) == static_cast<int>(gridDim.x) - 1) {
      __threadfence();  // the others' reads come before
      a.state[3] = steps + 1.0f;
      *a.tickets = 0;
    }
  }
  __syncthreads();  // the step is written
  const AdamwStep s = step;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * kMine;
  for (int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kMine; first < a.n;
       first += stride) {
    const int n = in_piece<bf16>(a.n - first);
    if (a.aligned && n == kMine) {
      update_eight<true>(a, s, first, kMine, copy);
    } else if (n > 0) {
      update_eight<false>(a, s, first, n, copy);
    }
  }
}

template <class T>
int update(Device *device, const lethe_adamw_args &a) {
  const Arena arena = {a.n,
                       a.n_decay,
                       a.p,
                       a.m,
                       a.v,
                       a.g,
                       a.lr,
                       a.beta1,
                       a.beta2,
                       a.eps,
                       a.lr * a.weight_decay,
                       whole_rows<T>({a.p, a.m, a.v, a.g, a.copy}, {}),
                       a.state,
                       device->tickets};
  // As many blocks as run at once.
  constexpr unsigned kBlocksEach = 8;
  const unsigned most = static_cast<unsigned>(device->properties.multiProcessorCount) * kBlocksEach;
  const unsigned blocks = std::clamp(blocks_of(a.n, int64_t{kThreads} * kMine), 1u, most);
  const int64_t bytes = a.n * (28 + (a.copy == nullptr ? 0 : int64_t{sizeof(T)}));
  return launch(device, {"adamw", {blocks}, kThreads, 0, bytes}, adamw_kernel<T>, arena, static_cast<T *>(a.copy));
}

}  // namespace

int gradient_norm(Device *device, int64_t n, const float *g, float max_norm, float *state) {
  return run(device, __func__, [&] {
    const int64_t chunk = kChunk * std::max(ceil_div(n, kChunk * kMostChunks), int64_t{1});
    const int64_t chunks = std::max(ceil_div(n, chunk), int64_t{1});
    char *partial = nullptr;
    LETHE_CUDA_TRY(scratch(device, chunks * int64_t{sizeof(double)}, &partial));
    const Shape shape = {"gradient_norm", {static_cast<unsigned>(chunks)}, kSumThreads, 0, 4 * n + 16 * chunks + 12};
    return launch(device, shape, gradient_norm_kernel, n, chunk, g, whole_rows<float>({g}, {}),
                  reinterpret_cast<double *>(partial), max_norm, state, device->tickets);
  });
}

int adamw(Device *device, const lethe_adamw_args *args) {
  return run(device, __func__,
             [&] { return args->dtype == LETHE_BF16 ? update<bf16>(device, *args) : update<float>(device, *args); });
}

}  // namespace lethe::cuda
