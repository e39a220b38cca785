// Logits from what the head's GEMM gives: bias, soft cap, and the reference's mix and label shift.
#pragma once

#include "head_rows.cuh"
#include "lethe.h"

namespace lethe::cuda {

constexpr int kGroup = 4;  // columns of one 128-bit load

// A row in groups of four columns, the groups of z on 128-bit boundaries: the first and the last may be partial.
// Thread t of n takes group t of the groups' tile 0, then of tile 1, and so on: columns rise from tile to tile.
struct Columns {
  const float *z;
  const float *delta;
  int V;
  int first;  // the first group's first column: 0, or negative before a row that starts off a boundary
  int groups;

  __device__ Columns(const float *row, const float *row_delta, int64_t width)
      : z(row), delta(row_delta), V(static_cast<int>(width)) {
    first = -static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(float) % kGroup);
    groups = (V - first + kGroup - 1) / kGroup;
  }
  __device__ int column(int group) const { return first + group * kGroup; }
};

// A logit's soft cap: z = cap tanh(u / cap) (native/cpu/head_logits.h has the formulas).
struct SoftCap {
  float cap, inverse;  // cap 0: none

  __device__ float operator()(float u) const { return cap > 0 ? cap * tanhf(u * inverse) : u; }
  // The slope where the capped logit is z.
  __device__ float slope(float z) const {
    const float t = z * inverse;
    return cap > 0 ? (1.0f - t) * (1.0f + t) : 1.0f;
  }
  // capped(u + delta) - capped(u), all digits of a small delta kept.
  __device__ float difference(float u, float delta) const {
    if (!(cap > 0)) return delta;
    const float b = delta * inverse, t = tanhf(u * inverse);
    if (!(fabsf(b) < 0.5f)) return cap * (tanhf((u + delta) * inverse) - t);
    const float s = tanhf(b);
    return cap * s * ((1.0f - t) * (1.0f + t)) / (1.0f + t * s);
  }
};

// Bias, cap, mix and label shift of row `index`, whose record is number `record`, and of its reference, in place. Each
// thread later reads what it wrote itself, but for the label's column.
template <bool kReference>
__device__ void finish_logits(const HeadRows &a, int64_t index, int64_t record, float *row, float *delta,
                              const SoftCap &cap) {
  const int64_t second = a.second_of == nullptr ? -1 : a.second_of[index];
  const float *rises = kReference && second >= 0 ? a.second + second * a.ld : nullptr;
  const float *params = a.row_params == nullptr ? nullptr : a.row_params + record * LETHE_ROW_PARAMS;
  const float label_shift = params == nullptr ? 0.0f : params[1], mix = params == nullptr ? 0.0f : params[2];
  const int label = a.records[record * LETHE_ROW_FIELDS + 1];
  const Columns c(row, delta, a.V);
  for (int group = static_cast<int>(threadIdx.x); group < c.groups; group += static_cast<int>(blockDim.x)) {
    const int begin = c.column(group);
    for (int v = begin < 0 ? 0 : begin; v < begin + kGroup && v < c.V; ++v) {
      const float u = a.bias == nullptr ? row[v] : row[v] + a.bias[v];
      if (kReference) {
        float d = cap.difference(u, delta[v]);
        if (rises != nullptr) {
          const float rise = cap.difference(u + delta[v], rises[v]);
          d -= mix * (rise < 0.0f ? 0.0f : rise);
        }
        delta[v] = v == label ? d - label_shift : d;
      }
      row[v] = cap(u);
    }
  }
  __syncthreads();  // logits are written
}

}  // namespace lethe::cuda
