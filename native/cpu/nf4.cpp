// 4-bit NormalFloat codes (Dettmers et al. 2023) with bitsandbytes' arithmetic: kQuantizeBlockwise and
// kDequantizeBlockwise of csrc/kernels.cu.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "device.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

constexpr int kCodes = 16;
// The shortest decimals of csrc/kernels.cu's fp32 numbers.
constexpr float kValues[kCodes] = {-1.0f,         -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f,
                                   -0.091050036f, 0.0f,        0.0795803f,   0.1609302f,  0.2461123f,   0.33791524f,
                                   0.44070983f,   0.562617f,   0.72295684f,  1.0f};

// A value above the midpoint of codes i and i + 1 has a code above i: dQuantizeNF4's decision tree, all branches at
// once. A NaN, which is above none, has code 0 as there.
struct Midpoints {
  float of[kCodes - 1];
  constexpr Midpoints() : of() {
    for (int i = 0; i + 1 < kCodes; ++i) of[i] = (kValues[i] + kValues[i + 1]) * 0.5f;
  }
};
constexpr Midpoints kMidpoints;

inline int code_of(float x) {
  int code = 0;
  for (const float midpoint : kMidpoints.of) code += x > midpoint ? 1 : 0;
  return code;
}

// Eight numbers at a time, which are four bytes of codes.
constexpr int64_t kGroup = 8;

inline f32x8 load_group(const float *p) {
  f32x8 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
inline f32x8 load_group(const bf16 *p) {
  u16x8 half;
  std::memcpy(&half, p, sizeof half);
  return (f32x8)(__builtin_convertvector(half, u32x8) << 16);
}

// The first of two codes is the high half of its byte.
constexpr i32x8 kShifts = {4, 0, 12, 8, 20, 16, 28, 24};

// All lanes' bits.
inline int32_t together(i32x8 x) {
  x |= __builtin_shuffle(x, i32x8{4, 5, 6, 7, 0, 1, 2, 3});
  x |= __builtin_shuffle(x, i32x8{2, 3, 0, 1, 6, 7, 4, 5});
  return x[0] | x[1];
}

// The largest magnitude; infinite where there is an infinity or a NaN.
template <class T>
float largest_of(const T *src, int64_t n) {
  const int64_t grouped = n / kGroup * kGroup;
  i32x8 bits = {};
  for (int64_t i = 0; i < grouped; i += kGroup) {
    // Magnitudes are in the order of their bits.
    const i32x8 x = (i32x8)load_group(src + i) & 0x7fffffff;
    bits = x > bits ? x : bits;
  }
  constexpr int32_t kInfinity = 0x7f800000;
  int32_t most = 0;
  for (int k = 0; k < kGroup; ++k) most = std::max(most, bits[k]);
  for (int64_t i = grouped; i < n; ++i) {
    const float x = std::fabs(to_float(src[i]));
    int32_t own;
    std::memcpy(&own, &x, sizeof own);
    most = std::max(most, own);
  }
  most = std::min(most, kInfinity);
  float largest;
  std::memcpy(&largest, &most, sizeof largest);
  return largest;
}

template <class T>
int64_t first_not_finite(const T *src, int64_t n) {
  constexpr int64_t kPiece = 4096;
  int64_t first = n;
#pragma omp parallel for schedule(static) reduction(min : first)
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = std::min(n, begin + kPiece);
    if (std::isfinite(largest_of(src + begin, end - begin))) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (!std::isfinite(to_float(src[i]))) first = std::min(first, i);
    }
  }
  return first;
}

template <class T>
void quantize_block(const T *src, int64_t n, uint8_t *packed, float *absmax) {
  const float largest = largest_of(src, n);
  *absmax = largest;
  // Of a block of zeros it is infinite, every product a NaN, and every code 0.
  const float inverse = 1.0f / largest;
  const int64_t grouped = n / kGroup * kGroup;
  for (int64_t i = 0; i < grouped; i += kGroup) {
    const f32x8 x = load_group(src + i) * inverse;
    i32x8 code = {};
    for (const float midpoint : kMidpoints.of) code -= x > midpoint;
    const int32_t word = together(code << kShifts);
    std::memcpy(packed + i / 2, &word, sizeof word);
  }
  for (int64_t j = grouped / 2; j < n / 2; ++j) {
    const int high = code_of(to_float(src[2 * j]) * inverse);
    packed[j] = static_cast<uint8_t>(high << 4 | code_of(to_float(src[2 * j + 1]) * inverse));
  }
  // An odd end is filled up with 0.
  if (n % 2 != 0) {
    packed[n / 2] = static_cast<uint8_t>(code_of(to_float(src[n - 1]) * inverse) << 4 | code_of(0.0f * inverse));
  }
}

template <class T>
int quantize(Device *device, const lethe_nf4_args &a) {
  const T *src = static_cast<const T *>(a.src);
  const int64_t bad = first_not_finite(src, a.n);
  if (bad < a.n) {
    return LETHE_CPU_FAIL(device, LETHE_INVALID_ARGUMENT,
                          "src[" + std::to_string(bad) + "] is " + std::to_string(to_float(src[bad])) +
                              "; only finite numbers have codes");
  }
  const int64_t blocks = (a.n + a.block - 1) / a.block;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * a.block;
    quantize_block(src + begin, std::min(a.block, a.n - begin), a.packed + begin / 2, a.absmax + b);
  }
  return LETHE_OK;
}

constexpr int64_t kNestedBlock = 256;

// A product and a sum, each rounded: this file is compiled without contraction.
float scale_of(const lethe_nf4_args &a, int64_t block) {
  if (a.absmax != nullptr) return a.absmax[block];
  const float product = a.nested_map[a.nested[block]] * a.nested_absmax[block / kNestedBlock];
  return product + a.nested_offset;
}

// What the codes of a block mean in storage: the bits, of codes below eight and of the others.
struct Table {
  i32x8 low, high;
};
template <class T>
Table table_of(float scale) {
  Table table = {};
  for (int code = 0; code < kCodes; ++code) {
    T stored;
    from_float(kValues[code] * scale, &stored);
    int32_t bits = 0;
    std::memcpy(&bits, &stored, sizeof stored);
    (code < kCodes / 2 ? table.low : table.high)[code % (kCodes / 2)] = bits;
  }
  return table;
}

inline void store_group(i32x8 bits, float *to) { std::memcpy(to, &bits, sizeof bits); }
inline void store_group(i32x8 bits, bf16 *to) {
  const u16x8 half = __builtin_convertvector((u32x8)bits, u16x8);
  std::memcpy(to, &half, sizeof half);
}

template <class T>
void dequantize_block(const uint8_t *packed, int64_t n, const Table &table, T *dst) {
  const int64_t grouped = n / kGroup * kGroup;
  for (int64_t i = 0; i < grouped; i += kGroup) {
    int32_t word;
    std::memcpy(&word, packed + i / 2, sizeof word);
    const i32x8 code = ((i32x8{} + word) >> kShifts) & 15;
    const i32x8 low = __builtin_shuffle(table.low, code & 7), high = __builtin_shuffle(table.high, code & 7);
    store_group(code > 7 ? high : low, dst + i);
  }
  for (int64_t i = grouped; i < n; ++i) {
    const int both = packed[i / 2], code = i % 2 == 0 ? both >> 4 : both & 15;
    const int32_t bits = code < kCodes / 2 ? table.low[code] : table.high[code - kCodes / 2];
    std::memcpy(dst + i, &bits, sizeof(T));
  }
}

template <class T>
void dequantize(const lethe_nf4_args &a) {
  T *dst = static_cast<T *>(a.dst);
  const int64_t blocks = (a.n + a.block - 1) / a.block;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t begin = b * a.block;
    dequantize_block(a.packed + begin / 2, std::min(a.block, a.n - begin), table_of<T>(scale_of(a, b)), dst + begin);
  }
}

}  // namespace

int nf4_quantize(Device *device, const lethe_nf4_args *args) {
  return run(device, __func__, [&] {
    return args->dtype == LETHE_BF16 ? quantize<bf16>(device, *args) : quantize<float>(device, *args);
  });
}

int nf4_dequantize(Device *device, const lethe_nf4_args *args) {
  return run(device, __func__, [&] {
    args->dtype == LETHE_BF16 ? dequantize<bf16>(*args) : dequantize<float>(*args);
    return static_cast<int>(LETHE_OK);
  });
}

}  // namespace lethe::cpu
