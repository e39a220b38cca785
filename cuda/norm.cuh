// One vector's norm, forward and backward, by a team of threads that hold it in registers. native/cpu/norm.cpp has the
// formulas; where a product is added to something, the fma is written out, so that every instance of a kernel gives
// the same bits.
#pragma once

#include "lethe_backend.h"
#include "vector.cuh"

namespace lethe::cuda {

// Threads that share a vector: some of a warp's lanes, a power of two, or a whole block.
struct Lanes {
  int size, rank;
  template <int N>
  __device__ void sum(float (&values)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      for (int step = size / 2; step > 0; step /= 2) {
        values[i] += __shfl_xor_sync(kAllLanes, values[i], static_cast<unsigned>(step));
      }
    }
  }
};
struct WholeBlock {
  int size, rank;
  __device__ WholeBlock() : size(static_cast<int>(blockDim.x)), rank(static_cast<int>(threadIdx.x)) {}
  template <int N>
  __device__ void sum(float (&values)[N]) const {
    block_sum(values);
  }
};

// A thread's share of a vector: kPieces pieces of 16 bytes, dealt out to the team in turn.
// kWhole as for load_vector.
template <class T, int kPieces, bool kWhole>
struct Share {
  Vector<T> pieces[kPieces];

  // Where piece i starts.
  template <class Team>
  __device__ static int column(const Team &team, int i) {
    return (i * team.size + team.rank) * kVector<T>;
  }
  // What lies beyond `d` is 0.
  template <class Team>
  __device__ void load(const T *row, int d, const Team &team) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) pieces[i] = load_vector<kWhole>(row + column(team, i), d - column(team, i));
  }
  __device__ float at(int piece, int i) const { return pieces[piece].at(i); }
};
// The same numbers in fp32, of a vector that is made on the way.
template <class T, int kPieces>
struct WideShare {
  float numbers[kPieces][kVector<T>];
  __device__ float at(int piece, int i) const { return numbers[piece][i]; }
};

struct NormStatistics {
  float mean, rstd;
};

template <class T, int kPieces, bool kWhole, class Team>
__device__ NormStatistics norm_statistics(const Share<T, kPieces, kWhole> &x, int d, float width, float eps, bool layer,
                                          const Team &team) {
  float total[1] = {0.0f};
  if (layer) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) total[0] += x.at(i, k);
    }
    team.sum(total);
  }
  const float mean = total[0] / width;
  float squares[1] = {0.0f};
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int left = d - x.column(team, i);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      const float c = (kWhole ? 0 : k) < left ? x.at(i, k) - mean : 0.0f;
      squares[0] = __fmaf_rn(c, c, squares[0]);
    }
  }
  team.sum(squares);
  return {mean, 1.0f / sqrtf(squares[0] / width + eps)};
}

// What dx needs besides dy, w and x.
struct NormSlope {
  float mean, rstd;
  float g_mean, k;  // mean(g), which is 0 for RMSNorm; r^2 mean(g (x - mean))

  // dx, added to what stood there.
  __device__ float dx(float g, float x, float before) const {
    return __fmaf_rn(__fmaf_rn(mean - x, k, g - g_mean), rstd, before);
  }
};
// Of the sums of g and of g (x - mean).
__device__ inline NormSlope norm_slope(float mean, float rstd, const float (&sums)[2], float width, bool layer) {
  return {mean, rstd, layer ? sums[0] / width : 0.0f, rstd * rstd * sums[1] / width};
}

// dy is a Share or a WideShare.
template <class T, int kPieces, bool kWhole, class Dy, class Team>
__device__ NormSlope norm_slope(const Dy &dy, const Share<T, kPieces, kWhole> &x, const T *w, float shift, float mean,
                                float rstd, int d, float width, bool layer, const Team &team) {
  float sums[2] = {0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int at = x.column(team, i);
    const Vector<T> weight = load_vector<kWhole>(w + at, d - at);
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      // Beyond the end dy is 0.
      const float g = dy.at(i, k) * (weight.at(k) + shift);
      sums[0] += g;
      sums[1] = __fmaf_rn(g, x.at(i, k) - mean, sums[1]);
    }
  }
  team.sum(sums);
  return norm_slope(mean, rstd, sums, width, layer);
}

// Writes dx, or adds it to what stands there.
template <class T, int kPieces, bool kWhole, class Dy, class Team>
__device__ void norm_write_dx(const Dy &dy, const Share<T, kPieces, kWhole> &x, const T *w, float shift,
                              const NormSlope &slope, T *dx, bool accumulate, int d, const Team &team) {
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int at = x.column(team, i);
    const Vector<T> weight = load_vector<kWhole>(w + at, d - at);
    Vector<T> before = {};
    if (accumulate) before = load_vector<kWhole>(dx + at, d - at);
    float v[kVector<T>];
#pragma unroll
    for (int k = 0; k < kVector<T>; ++k) {
      v[k] = slope.dx(dy.at(i, k) * (weight.at(k) + shift), x.at(i, k), before.at(k));
    }
    store_vector<kWhole>(packed<T>(v), dx + at, d - at);
  }
}

// A thread's columns of the gradients of w and b, over the vectors it sees.
template <class T, int kPieces>
struct NormSums {
  float dw[kPieces][kVector<T>] = {}, db[kPieces][kVector<T>] = {};

  // Beyond the end dy is 0.
  template <class Dy, bool kWhole>
  __device__ void add(const Dy &dy, const Share<T, kPieces, kWhole> &x, float mean, float rstd) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) {
        dw[i][k] = __fmaf_rn(dy.at(i, k), (x.at(i, k) - mean) * rstd, dw[i][k]);
        db[i][k] += dy.at(i, k);
      }
    }
  }
};

// dw[d] and db[d] (null: not wanted) += partial sums of theirs, [parts, d] each, in the order of the parts.
int add_norm_sums(lethe_device *device, int64_t parts, int64_t d, const float *dw_parts, float *dw,
                  const float *db_parts, float *db);

}  // namespace lethe::cuda
