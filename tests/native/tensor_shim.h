// What the tests of the shim's tensor instructions share: launches and how they end, matrices, and shared memory.
#pragma once

#include <cstdio>
#include <cstring>
#include <vector>

#include "launch.cuh"
#include "tma.cuh"

namespace lethe::test {

using namespace lethe::cuda;

inline int checks = 0, failures = 0;

inline void expect(bool condition, const char *what) {
  ++checks;
  if (!condition && ++failures > 0) std::fprintf(stderr, "FAILED %s: %s\n", what, lethe_shim_message());
}

constexpr size_t kShared = size_t{100} << 10;

template <class... Parameters, class... Arguments>
cudaError_t run(unsigned blocks, void (*kernel)(Parameters...), Arguments... arguments) {
  const Shape shape = {"kernel", {blocks}, kWarpgroup, kShared, 0, blocks, true};
  return launch_on(nullptr, shape, kernel, arguments...);
}
template <class... Parameters, class... Arguments>
void caught(const char *what, const char *message, void (*kernel)(Parameters...), Arguments... arguments) {
  // Loads last longer in one of two launches, products in the other.
  for (int i = 0; i < 2; ++i) {
    expect(run(1, kernel, arguments...) == cudaErrorLaunchFailure, what);
    expect(std::strstr(lethe_shim_message(), message) != nullptr, what);
    lethe_shim_fail_launch(-1, cudaSuccess);
  }
}

// A matrix of small whole numbers, exact in bf16, no two near ones alike.
struct Matrix {
  int64_t rows, columns;
  std::vector<uint16_t> bits;

  Matrix(int64_t r, int64_t c, unsigned seed) : rows(r), columns(c) {
    for (int64_t i = 0; i < r * c; ++i) {
      seed = seed * 1664525u + 1013904223u;
      bits.push_back(bf16_bits(static_cast<float>(static_cast<int>(seed >> 24) % 17 - 8)));
    }
  }
  float at(int64_t r, int64_t c) const {
    if (r < 0 || c < 0 || r >= rows || c >= columns) return 0.0f;
    return __uint_as_float(uint32_t{bits[static_cast<size_t>(r * columns + c)]} << 16);
  }
  CUtensorMap map(uint32_t box_rows) {
    CUtensorMap m;
    const uint64_t sizes[] = {static_cast<uint64_t>(columns), static_cast<uint64_t>(rows)}, pitch[] = {sizes[0] * 2};
    const uint32_t box[] = {64, box_rows}, steps[] = {1, 1};
    expect(
        cuTensorMapEncodeTiled(&m, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, bits.data(), sizes, pitch, box, steps,
                               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS,
        "a map");
    return m;
  }
};

// Shared memory from a pattern's start on, and a barrier in front of it.
struct Memory {
  char *tiles;
  uint64_t *barrier;

  Memory() {
    char *memory = dynamic_shared<char>();
    barrier = reinterpret_cast<uint64_t *>(memory);
    tiles = memory + 8 + (kSwizzleTile - shared_address(memory + 8) % kSwizzleTile) % kSwizzleTile;
  }
  void make(unsigned arrivals) const {
    if (threadIdx.x == 0) {
      mbarrier_init(barrier, arrivals);
      mbarriers_made();
    }
    __syncthreads();
  }
};

}  // namespace lethe::test
