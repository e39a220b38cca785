// 4-bit NormalFloat codes (Dettmers et al. 2023) with bitsandbytes' arithmetic: kQuantizeBlockwise and
// kDequantizeBlockwise of csrc/kernels.cu.
#include <algorithm>
#include <cmath>

#include "device.h"
#include "number.h"

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

template <class T>
int64_t first_not_finite(const T *src, int64_t n) {
  int64_t first = n;
#pragma omp parallel for schedule(static) reduction(min : first)
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(to_float(src[i]))) first = std::min(first, i);
  }
  return first;
}

template <class T>
void quantize_block(const T *src, int64_t n, uint8_t *packed, float *absmax) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(to_float(src[i])));
  *absmax = largest;
  // Of a block of zeros it is infinite, every product a NaN, and every code 0.
  const float inverse = 1.0f / largest;
  for (int64_t j = 0; j < n / 2; ++j) {
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

template <class T>
void dequantize(const lethe_nf4_args &a) {
  T *dst = static_cast<T *>(a.dst);
  const int64_t blocks = (a.n + a.block - 1) / a.block;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    const float scale = scale_of(a, b);
    float scaled[kCodes];
    for (int code = 0; code < kCodes; ++code) scaled[code] = kValues[code] * scale;
    const int64_t end = std::min(a.n, (b + 1) * a.block);
    for (int64_t i = b * a.block; i < end; ++i) {
      const int both = a.packed[i / 2];
      from_float(scaled[i % 2 == 0 ? both >> 4 : both & 15], dst + i);
    }
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
