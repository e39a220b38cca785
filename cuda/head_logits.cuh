// Logits from what the head's GEMM gives: bias, soft cap, and the reference's mix and label shift.
#pragma once

#include "head_rows.cuh"
#include "lethe.h"

namespace lethe::cuda {

constexpr int kGroup = 4;  // columns of one 128-bit load

// A row in groups of four columns, the groups of z on 128-bit boundaries: the first and the last may be partial.
// Thread t of n takes group begin + t, then begin + t + n, and so on: columns rise from tile to tile.
struct Columns {
  float *z, *delta;  // of the columns from `origin` on
  int V;
  int first;       // the first group's first column: 0, or negative before a row that starts off a boundary
  int begin, end;  // the block's groups
  int origin;

  // A whole row, wherever `z` and `delta` have it; `row`: where it stands in global memory.
  __device__ Columns(const float *row, float *row_z, float *row_delta, int64_t width)
      : z(row_z), delta(row_delta), V(static_cast<int>(width)), begin(0), origin(0) {
    first = -static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(float) % kGroup);
    end = (V - first + kGroup - 1) / kGroup;
  }
  __device__ int column(int group) const { return first + group * kGroup; }
  __device__ float *z_at(int column) const { return z + (column - origin); }
  __device__ float *delta_at(int column) const { return delta + (column - origin); }
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

// What makes a logit and its reference's difference of what the product gave: bias, cap, mix and label shift.
template <bool kReference>
struct Finish {
  SoftCap cap;
  const float *bias, *rises;  // or null
  float label_shift, mix;
  int label;

  // Of row `index`, whose record is number `record`.
  __device__ Finish(const HeadRows &a, int64_t index, int64_t record, const SoftCap &soft_cap)
      : cap(soft_cap), bias(a.bias) {
    const int64_t second = a.second_of == nullptr ? -1 : a.second_of[index];
    const float *params = a.row_params == nullptr ? nullptr : a.row_params + record * LETHE_ROW_PARAMS;
    rises = kReference && second >= 0 ? a.second + second * a.ld : nullptr;
    label_shift = params == nullptr ? 0.0f : params[1];
    mix = params == nullptr ? 0.0f : params[2];
    label = a.records[record * LETHE_ROW_FIELDS + 1];
  }
  // Column v, in place.
  __device__ void operator()(int v, float *z, float *delta) const {
    const float u = bias == nullptr ? *z : *z + bias[v];
    if (kReference) {
      float d = cap.difference(u, *delta);
      if (rises != nullptr) {
        const float rise = cap.difference(u + *delta, rises[v]);
        d -= mix * (rise < 0.0f ? 0.0f : rise);
      }
      *delta = v == label ? d - label_shift : d;
    }
    *z = cap(u);
  }
};
// Whether a launch's rows have anything to finish.
template <bool kReference>
__device__ bool finishes(const HeadRows &a) {
  return a.bias != nullptr || a.soft_cap > 0 || (kReference && a.row_params != nullptr);
}

// The block's part of a row. Each thread later reads what it wrote itself, but for the label's column.
template <bool kReference>
__device__ void finish_logits(const Finish<kReference> &finish, const Columns &c) {
  for (int group = c.begin + static_cast<int>(threadIdx.x); group < c.end; group += static_cast<int>(blockDim.x)) {
    const int begin = c.column(group);
    for (int v = begin < 0 ? 0 : begin; v < begin + kGroup && v < c.V; ++v) {
      finish(v, c.z_at(v), kReference ? c.delta_at(v) : nullptr);
    }
  }
}

}  // namespace lethe::cuda
