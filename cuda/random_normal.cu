// Normal numbers by Box & Muller (1958) from Philox's words: each a function of the seed and its place alone.
#include "device.cuh"
#include "philox.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kWords = 4;

// (word + 1/2) 2^-32, of which fp32 keeps 24 bits wherever it lies.
__device__ inline float unit(uint32_t word) { return (static_cast<float>(word) + 0.5f) * 0x1p-32f; }

// sqrt(-2 ln u) with u = unit(word): near 1, ln u is ln(1 - (1 - u)), and 1 - u is the unit of ~word.
__device__ inline float radius(uint32_t word) {
  const float ln = word >> 31 == 0 ? logf(unit(word)) : log1pf(-unit(~word));
  return sqrtf(-2.0f * ln);
}

// Of the four numbers of counter {j, 0}.
__device__ inline void normals(uint64_t seed, uint64_t j, float std, float *out) {
  uint32_t words[kWords];
  philox(seed, j, 0, words);
#pragma unroll
  for (int i = 0; i < kWords; i += 2) {
    // u's angle less a whole turn where it is beyond half of one: smaller numbers keep more of their bits.
    const float half_turns = (static_cast<float>(static_cast<int32_t>(words[i + 1])) + 0.5f) * 0x1p-31f;
    float sine, cosine;
    sincospif(half_turns, &sine, &cosine);
    const float r = std * radius(words[i]);
    out[i] = r * cosine;
    out[i + 1] = r * sine;
  }
}

// A thread makes a piece's numbers: those of one counter or two. Places are relative to `first`, so that nothing
// overflows. kWhole: pieces are aligned.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads)
    random_normal_kernel(int64_t n, uint64_t seed, int64_t first, float std, T *dst) {
  const int64_t piece = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t at = piece * kVector<T> - first % kVector<T>;
  if (at >= n) return;
  const uint64_t counter = static_cast<uint64_t>(first / kVector<T> + piece) * (kVector<T> / kWords);
  float numbers[kVector<T>];
#pragma unroll
  for (int i = 0; i < kVector<T> / kWords; ++i) normals(seed, counter + i, std, numbers + i * kWords);
  if (kWhole && at >= 0 && at + kVector<T> <= n) {
    store_vector<true>(packed<T>(numbers), dst + at, kVector<T>);
    return;
  }
#pragma unroll
  for (int k = 0; k < kVector<T>; ++k) {
    if (at + k >= 0 && at + k < n) from_float(numbers[k], dst + at + k);
  }
}

template <class T>
int fill(Device *device, int64_t n, uint64_t seed, int64_t first, float std, T *dst) {
  if (n == 0) return LETHE_OK;
  const int64_t skipped = first % kVector<T>;
  const bool whole = (reinterpret_cast<uintptr_t>(dst) - static_cast<uintptr_t>(skipped) * sizeof(T)) % 16 == 0;
  const Shape shape = {
      "random_normal", {blocks_of(ceil_div(skipped + n, kVector<T>), kThreads)}, kThreads, 0, n * int64_t{sizeof(T)}};
  return with_bool(whole, [&](auto is) {
    return launch(device, shape, random_normal_kernel<T, decltype(is)::value>, n, seed, first, std, dst);
  });
}

}  // namespace

int random_normal(Device *device, int32_t dtype, int64_t n, uint64_t seed, int64_t first, float std, void *dst) {
  return run(device, __func__, [&] {
    return dtype == LETHE_BF16 ? fill(device, n, seed, first, std, static_cast<bf16 *>(dst))
                               : fill(device, n, seed, first, std, static_cast<float *>(dst));
  });
}

}  // namespace lethe::cuda
