// 4-bit NormalFloat codes (Dettmers et al. 2023) with bitsandbytes' arithmetic: kQuantizeBlockwise and
// kDequantizeBlockwise of csrc/kernels.cu.
#include "device.cuh"
#include "vector.cuh"

namespace lethe::cuda {
namespace {

constexpr int kCodes = 16;
// Numbers of a thread: their codes are one word.
constexpr int kGroup = 8;
// Of the quantisation: as many threads as the largest block of numbers has groups.
constexpr unsigned kQuantizeThreads = 512;
constexpr unsigned kThreads = 256;
// Of the dequantisation: groups of a thread.
constexpr int kGroups = 4;
constexpr int kNestedBlock = 256;

// The value of a code, of which the compiler makes constants where the code is one. The shortest decimals of
// csrc/kernels.cu's fp32 numbers.
__device__ constexpr float value_of(int code) {
  constexpr float kValues[kCodes] = {-1.0f,         -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f,
                                     -0.091050036f, 0.0f,        0.0795803f,   0.1609302f,  0.2461123f,   0.33791524f,
                                     0.44070983f,   0.562617f,   0.72295684f,  1.0f};
  return kValues[code];
}

// A value above the midpoint of codes i and i + 1 has a code above i: dQuantizeNF4's decision tree, all branches at
// once. A NaN, which is above none, has code 0 as there.
__device__ inline uint32_t code_of(float x) {
  uint32_t code = 0;
#pragma unroll
  for (int i = 0; i + 1 < kCodes; ++i) code += x > (value_of(i) + value_of(i + 1)) * 0.5f ? 1 : 0;
  return code;
}

// Number `i` of a group lies in the word of its codes `shift_of(i)` bits up: of two neighbours the first has its byte's
// high half.
__device__ constexpr int shift_of(int i) { return i / 2 * 8 + (i % 2 == 0 ? 4 : 0); }

// A group of which `left` numbers are there; the others are 0.
template <bool kWhole, class T>
__device__ void load_group(const T *from, int64_t left, float (&to)[kGroup]) {
#pragma unroll
  for (int i = 0; i < kGroup; i += kVector<T>) {
    const int n = in_piece<T>(left - i);
    const Vector<T> v = kWhole && left >= kGroup ? load_vector<true>(from + i, n) : load_vector<false>(from + i, n);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) to[i + k] = v.at(k);
  }
}
template <bool kWhole, class T>
__device__ void store_group(const float (&from)[kGroup], T *to, int64_t left) {
#pragma unroll
  for (int i = 0; i < kGroup; i += kVector<T>) {
    float part[kVector<T>];
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) part[k] = from[i + k];
    const int n = in_piece<T>(left - i);
    if (kWhole && left >= kGroup) {
      store_vector<true>(packed<T>(part), to + i, n);
    } else {
      store_vector<false>(packed<T>(part), to + i, n);
    }
  }
}

// The bytes of a group's codes; kWhole: they are aligned.
template <bool kWhole>
__device__ uint32_t load_codes(const uint8_t *from, int64_t left) {
  uint32_t word = 0;
  if (kWhole && left >= kGroup) {
    const void *whole = from;
    std::memcpy(&word, __builtin_assume_aligned(whole, 4), 4);
    return word;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (2 * i < left) word |= static_cast<uint32_t>(from[i]) << (8 * i);
  }
  return word;
}
template <bool kWhole>
__device__ void store_codes(uint32_t word, uint8_t *to, int64_t left) {
  if (kWhole && left >= kGroup) {
    void *whole = to;
    std::memcpy(__builtin_assume_aligned(whole, 4), &word, 4);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (2 * i < left) to[i] = static_cast<uint8_t>(word >> (8 * i));
  }
}

// *first becomes the smallest index of what is not finite; it starts above all.
template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads) finite_kernel(const T *src, int64_t n, unsigned long long *first) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kGroup;
  if (at >= n) return;
  float x[kGroup];
  load_group<kWhole>(src + at, n - at, x);
  int bad = kGroup;
#pragma unroll
  for (int i = kGroup - 1; i >= 0; --i) {
    if ((__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u) bad = i;
  }
  const int64_t index = at + bad;
  if (bad < kGroup) atomicMin(first, static_cast<unsigned long long>(index));
}

template <class T>
__global__ void not_finite_kernel(const T *src, int64_t n, const unsigned long long *first, Gate gate) {
  if (threadIdx.x != 0 || *first >= static_cast<unsigned long long>(n)) return;
  gate.close(static_cast<int64_t>(*first), __float_as_int(to_float(src[*first])), 0);
}

int not_finite(const Fault &f, std::string *message) {
  const auto bits = static_cast<int32_t>(f.value);
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  *message = std::string(reinterpret_cast<const char *>(f.name)) + "[" + std::to_string(f.at) + "] is " +
             std::to_string(value) + "; only finite numbers have codes";
  return LETHE_INVALID_ARGUMENT;
}

// The largest of what the threads of one block of numbers brought: `groups`, a power of two, of them.
__device__ inline float largest_of(float x, int groups) {
  __shared__ float warps[kQuantizeThreads / kWarp];
  for (int step = 1; step < groups && step < static_cast<int>(kWarp); step *= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, static_cast<unsigned>(step)));
  }
  const int warp = static_cast<int>(threadIdx.x / kWarp), together = groups / static_cast<int>(kWarp);
  if (together <= 1) return x;
  if (threadIdx.x % kWarp == 0) warps[warp] = x;
  __syncthreads();  // the warps' largest are written
  for (int w = warp / together * together; w < (warp / together + 1) * together; ++w) x = fmaxf(x, warps[w]);
  return x;
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kQuantizeThreads)
    nf4_quantize_kernel(const T *src, int64_t n, int block, uint8_t *packed, float *absmax, Gate gate) {
  if (!gate.open()) return;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kQuantizeThreads + threadIdx.x) * kGroup;
  float x[kGroup], largest = 0;
  load_group<kWhole>(src + at, n - at, x);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) largest = fmaxf(largest, fabsf(x[i]));
  largest = largest_of(largest, block / kGroup);
  if (at >= n) return;
  if (at % block == 0) absmax[at / block] = largest;
  // Of a block of zeros it is infinite, every product a NaN, and every code 0.
  const float inverse = 1.0f / largest;
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < kGroup; ++i) word |= code_of(x[i] * inverse) << shift_of(i);
  store_codes<kWhole>(word, packed + at / 2, n - at);
}

// What a block's values are multiplied with: with double quantisation a product and a sum, each rounded.
__device__ inline float scale_of(const lethe_nf4_args &a, int64_t block) {
  if (a.absmax != nullptr) return a.absmax[block];
  const float product = __fmul_rn(a.nested_map[a.nested[block]], a.nested_absmax[block / kNestedBlock]);
  return __fadd_rn(product, a.nested_offset);
}

// A place in rows that lie apart: number `column` of row `row`.
struct Place {
  int64_t width, stride, row, column;

  __device__ int64_t at() const { return row * stride + column; }
  // Moves on by fewer numbers than 2^31, with no division of 64 bits.
  __device__ void advance(int by) {
    column += by;
    if (column < width) return;
    const int64_t rows = width > by ? 1 : static_cast<uint32_t>(column) / static_cast<uint32_t>(width);
    row += rows;
    column -= rows * width;
  }
};

// A group that begins at a place; kWhole: it is whole, in one row and aligned.
template <bool kWhole, class T>
__device__ void store_group_in_rows(const float (&from)[kGroup], T *to, int64_t left, Place place) {
  if constexpr (kWhole) {
    store_group<true>(from, to + place.at(), left);
  } else {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if (i >= left) return;
      from_float(from[i], to + place.at());
      if (++place.column == place.width) {
        place.column = 0;
        ++place.row;
      }
    }
  }
}

// The table lies in sixteen banks of shared memory: lanes that want different values never wait for each other.
template <class T, bool kWhole, bool kApart>
__global__ void __launch_bounds__(kThreads) nf4_dequantize_kernel(lethe_nf4_args a, int block_bits) {
  __shared__ float values[kCodes];
#pragma unroll
  for (int code = 0; code < kCodes; ++code) {
    if (threadIdx.x == static_cast<unsigned>(code)) values[code] = value_of(code);
  }
  __syncthreads();  // the table is written
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kGroups * kThreads + threadIdx.x) * kGroup;
  Place place = {a.row, a.dst_stride, 0, begin};
  if constexpr (kApart) {
    place.row = quotient(begin, a.row);
    place.column = begin - place.row * a.row;
  }
  uint32_t words[kGroups];
  float scales[kGroups];
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const int64_t at = begin + i * int64_t{kThreads} * kGroup;
    words[i] = load_codes<kWhole>(a.packed + at / 2, a.n - at);
    scales[i] = at < a.n ? scale_of(a, at >> block_bits) : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    const int64_t at = begin + i * int64_t{kThreads} * kGroup;
    float x[kGroup];
#pragma unroll
    for (int k = 0; k < kGroup; ++k) x[k] = values[words[i] >> shift_of(k) & 15] * scales[i];
    if constexpr (!kApart) {
      store_group<kWhole>(x, static_cast<T *>(a.dst) + at, a.n - at);
    } else {
      store_group_in_rows<kWhole>(x, static_cast<T *>(a.dst), a.n - at, place);
      place.advance(static_cast<int>(kThreads) * kGroup);
    }
  }
}

bool aligned(const void *p, uintptr_t to) { return reinterpret_cast<uintptr_t>(p) % to == 0; }

template <class T>
int quantize(Device *device, const lethe_nf4_args &a) {
  if (a.n == 0) return LETHE_OK;
  const T *src = static_cast<const T *>(a.src);
  const Gate gate = device->fault.gate("src", not_finite);
  char *memory = nullptr;
  LETHE_CUDA_TRY(scratch(device, sizeof(unsigned long long), &memory));
  LETHE_CUDA_CALL(device, cudaMemsetAsync(memory, 0xff, sizeof(unsigned long long), device->stream));
  auto *first = reinterpret_cast<unsigned long long *>(memory);
  const int64_t read = a.n * int64_t{sizeof(T)};
  return with_bool(aligned(a.src, 16) && aligned(a.packed, 4), [&](auto is) {
    constexpr bool kWhole = decltype(is)::value;
    const Shape look = {"nf4_finite", {blocks_of(a.n, kThreads * kGroup)}, kThreads, 0, read};
    LETHE_CUDA_TRY((launch(device, look, finite_kernel<T, kWhole>, src, a.n, first)));
    LETHE_CUDA_TRY((launch(device, {"nf4_not_finite", {}, kWarp}, not_finite_kernel<T>, src, a.n, first, gate)));
    const Shape shape = {"nf4_quantize",
                         {blocks_of(a.n, kQuantizeThreads * kGroup)},
                         kQuantizeThreads,
                         0,
                         read + a.n / 2 + ceil_div(a.n, a.block) * 4};
    return launch(device, shape, nf4_quantize_kernel<T, kWhole>, src, a.n, static_cast<int>(a.block), a.packed,
                  a.absmax, gate);
  });
}

template <class T>
int dequantize(Device *device, const lethe_nf4_args &a) {
  int block_bits = 0;
  while (int64_t{1} << block_bits < a.block) ++block_bits;
  const Shape shape = {"nf4_dequantize",
                       {blocks_of(a.n, int64_t{kThreads} * kGroup * kGroups)},
                       kThreads,
                       0,
                       a.n * int64_t{sizeof(T)} + a.n / 2 + ceil_div(a.n, a.block) * (a.absmax == nullptr ? 1 : 4)};
  const bool apart = a.row != 0 && a.dst_stride != a.row;
  const bool whole_rows = !apart || (a.row % kGroup == 0 && a.dst_stride % kVector<T> == 0);
  return with_bool(aligned(a.dst, 16) && aligned(a.packed, 4) && whole_rows, [&](auto is) {
    return with_bool(apart, [&](auto rows) {
      return launch(device, shape, nf4_dequantize_kernel<T, decltype(is)::value, decltype(rows)::value>, a, block_bits);
    });
  });
}

}  // namespace

int nf4_quantize(Device *device, const lethe_nf4_args *args) {
  return run(device, __func__, [&] {
    return args->dtype == LETHE_BF16 ? quantize<bf16>(device, *args) : quantize<float>(device, *args);
  });
}

int nf4_dequantize(Device *device, const lethe_nf4_args *args) {
  return run(device, __func__, [&] {
    return args->dtype == LETHE_BF16 ? dequantize<bf16>(device, *args) : dequantize<float>(device, *args);
  });
}

}  // namespace lethe::cuda
