// The two looks at a row of logits, its sums and then its gradient, wherever it stands; what lies between them.
#pragma once

#include "head_statistics.cuh"

namespace lethe::cuda {

// Four columns from `begin` on, which stand at `from`; those outside the row read as `fill`.
__device__ inline void load_group(const float *from, int begin, int V, float fill, float (&out)[kGroup]) {
  if (begin >= 0 && begin + kGroup <= V && reinterpret_cast<uintptr_t>(from) % sizeof(float4) == 0) {
    const float4 v = *reinterpret_cast<const float4 *>(from);
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
    out[3] = v.w;
    return;
  }
  for (int i = 0; i < kGroup; ++i) out[i] = begin + i >= 0 && begin + i < V ? from[i] : fill;
}

template <class T>
__device__ void store_group(T *row, int begin, int V, const T (&in)[kGroup]) {
  struct alignas(sizeof(T) * kGroup) Packed {
    T lanes[kGroup];
  };
  if (begin >= 0 && begin + kGroup <= V && reinterpret_cast<uintptr_t>(row + begin) % sizeof(Packed) == 0) {
    *reinterpret_cast<Packed *>(row + begin) = Packed{{in[0], in[1], in[2], in[3]}};
    return;
  }
  for (int i = 0; i < kGroup; ++i) {
    if (begin + i >= 0 && begin + i < V) row[begin + i] = in[i];
  }
}

template <bool kReference>
__device__ void see_group(Running *r, const float (&z)[kGroup], const float (&delta)[kGroup], int begin, int V,
                          int label, float z_label, float beta) {
  float x[kGroup], largest = r->max, reference_largest = r->reference_max;
  int argmax = r->argmax, reference_argmax = r->reference_argmax;
  for (int i = 0; i < kGroup; ++i) {
    const int v = begin + i;
    const bool inside = v >= 0 && v < V;
    r->z += inside ? z[i] : 0.0f;
    r->above += inside && z[i] > z_label ? 1.0f : 0.0f;
    x[i] = v == label ? -infinity() : z[i];
    if (x[i] > largest) {
      largest = x[i];
      argmax = v;
    }
    if (kReference && x[i] + delta[i] > reference_largest) {
      reference_largest = x[i] + delta[i];
      reference_argmax = v;
    }
  }
  if (largest > r->max) r->rescale(largest, beta);
  r->argmax = argmax;
  r->reference_argmax = reference_argmax;
  if (kReference && reference_largest > r->reference_max) r->rescale_reference(reference_largest, beta);
  const float base = r->max == -infinity() ? 0.0f : r->max;
  const float reference_base = r->reference_max == -infinity() ? 0.0f : r->reference_max;
  float e = 0, ez = 0, ezz = 0, shift = 0, e_delta = 0, reference = 0, reference_ez = 0;
  for (int i = 0; i < kGroup; ++i) {
    const float d = floored((x[i] - base) * beta), p = fast_exp(d);
    e += p;
    ez += p * d;
    ezz += p * d * d;
    if (kReference) {
      shift += p * fast_expm1(delta[i] * beta);
      e_delta += p * (delta[i] * beta);
      const float y = floored((x[i] + delta[i] - reference_base) * beta), f = fast_exp(y);
      reference += f;
      reference_ez += f * y;
    }
  }
  r->e += e;
  r->ez += ez;
  r->ezz += ezz;
  r->shift += shift;
  r->e_delta += e_delta;
  r->reference += reference;
  r->reference_ez += reference_ez;
}

// First look: sums over the block's part of a row, by all threads together.
template <bool kReference>
__device__ Running first_look(const Columns &c, int label, float z_label, float beta) {
  Running r = {};
  r.max = r.reference_max = -infinity();
  for (int group = c.begin + static_cast<int>(threadIdx.x); group < c.end; group += static_cast<int>(blockDim.x)) {
    float z[kGroup], delta[kGroup] = {};
    const int begin = c.column(group);
    load_group(c.z_at(begin), begin, c.V, -infinity(), z);
    if (kReference) load_group(c.delta_at(begin), begin, c.V, 0.0f, delta);
    see_group<kReference>(&r, z, delta, begin, c.V, label, z_label, beta);
  }
  const Largest largest = block_largest({r.max, r.argmax});
  r.rescale(largest.value, beta);
  r.argmax = largest.index;
  float sums[] = {r.e, r.ez, r.ezz, r.z, r.above};
  block_sum(sums);
  r.e = sums[0];
  r.ez = sums[1];
  r.ezz = sums[2];
  r.z = sums[3];
  r.above = sums[4];
  if (kReference) {
    const Largest reference_largest = block_largest({r.reference_max, r.reference_argmax});
    r.rescale_reference(reference_largest.value, beta);
    r.reference_argmax = reference_largest.index;
    float reference_sums[] = {r.shift, r.e_delta, r.reference, r.reference_ez};
    block_sum(reference_sums);
    r.shift = reference_sums[0];
    r.e_delta = reference_sums[1];
    r.reference = reference_sums[2];
    r.reference_ez = reference_sums[3];
  }
  return r;
}

// One column's gradient; with kReference also its share of the divergence (native/cpu/head_rows.cpp has the formulas).
template <bool kReference>
__device__ float column_gradient(const Softmax &m, float z, float delta, int v, float *value) {
  const float d = floored((z - m.max) * m.beta);
  const float p = fast_exp(d) * m.inverse_sum;
  if (!kReference) {
    if (m.kind == LETHE_ROW_NLL) return v == m.label ? m.at_label : p;
    if (m.kind == LETHE_ROW_UNIFORM_KL) return p - m.uniform;
    if (m.kind == LETHE_ROW_LOGIT_MARGIN) return v == m.argmax ? (1.0f / m.uniform - 1.0f) * m.uniform : -m.uniform;
    if (m.kind == LETHE_ROW_UNIFORM_KL_EPS) return p * m.mean_ratio - p / (p + m.epsilon) * m.uniform;
    return p * (d - m.ez);
  }
  const float x = delta * m.beta - m.shift;
  const float r = fast_exp(floored((z + delta - m.reference_max) * m.beta)) * m.reference_inverse_sum;
  const float far_x = x < -kHuge ? -kHuge : x > kHuge ? kHuge : x;
  const bool near = fabsf(x) < 0.5f;
  if (m.kind == LETHE_ROW_REFERENCE_KL) {
    *value += near ? p * kl_term(x) : r * far_x - (r - p);
    return near ? -p * fast_expm1(x) : p - r;
  }
  *value += near ? p * reverse_kl_term(x) : (r - p) - p * far_x;
  return p * (m.mean_delta - delta * m.beta);
}

// LETHE_ROW_UNIFORM_KL_EPS: sums of p / (p + epsilon) and of log1p(p / epsilon) over the block's part of a row.
__device__ inline void smoothed_look(const Columns &c, const Softmax &m, float (&sums)[2]) {
  sums[0] = sums[1] = 0.0f;
  const float inverse_epsilon = 1.0f / m.epsilon;
  for (int group = c.begin + static_cast<int>(threadIdx.x); group < c.end; group += static_cast<int>(blockDim.x)) {
    float z[kGroup];
    const int begin = c.column(group);
    load_group(c.z_at(begin), begin, c.V, -infinity(), z);
    for (int i = 0; i < kGroup; ++i) {
      const float p = fast_exp(floored((z[i] - m.max) * m.beta)) * m.inverse_sum;
      sums[0] += p / (p + m.epsilon);
      sums[1] += log1pf(p * inverse_epsilon);
    }
  }
  block_sum(sums);
}

// Second look: writes the gradient of the block's part of a row to `row`, and sums its share of the divergence.
// kInPlace: what it reads stands there, too, and in bf16 the gradient of a tile lies over logits of columns half as far
// into the row. Once all threads have loaded tile k, tiles up to 2k can be stored over what has been read: so the
// threads meet at tiles 0, 1, 3, 7, ...
template <bool kReference, bool kInPlace>
__device__ float second_look(const Columns &c, const Softmax &m, float *row, int gradient) {
  float value = 0;
  const int threads = static_cast<int>(blockDim.x);
  const bool meets = kInPlace && gradient == LETHE_BF16;
  for (int tile = 0; tile * threads < c.end - c.begin; ++tile) {
    const int group = c.begin + tile * threads + static_cast<int>(threadIdx.x);
    if (!kInPlace && group >= c.end) return value;
    const int begin = c.column(group);
    float z[kGroup], delta[kGroup] = {};
    load_group(c.z_at(begin), begin, c.V, -infinity(), z);
    if (kReference) load_group(c.delta_at(begin), begin, c.V, 0.0f, delta);
    if (meets && (tile & (tile + 1)) == 0) __syncthreads();  // loads of tiles <= tile are done
    if (group >= c.end) continue;
    float g[kGroup];
    for (int i = 0; i < kGroup; ++i) {
      const bool inside = begin + i >= 0 && begin + i < c.V;
      float share = 0;
      g[i] = m.kind == LETHE_ROW_STATISTICS
                 ? 0.0f
                 : m.scale * m.cap.slope(z[i]) * column_gradient<kReference>(m, z[i], delta[i], begin + i, &share);
      value += inside ? share : 0.0f;
    }
    if (gradient == LETHE_F32) {
      store_group(row, begin, c.V, g);
    } else if (gradient == LETHE_BF16) {
      const uint16_t rounded[] = {bf16_bits(g[0]), bf16_bits(g[1]), bf16_bits(g[2]), bf16_bits(g[3])};
      store_group(reinterpret_cast<uint16_t *>(row), begin, c.V, rounded);
    }
  }
  return value;
}

// What of a row is known before its sums.
__device__ inline Softmax row_of(const HeadRows &a, int64_t record, const SoftCap &cap) {
  Softmax m = {};
  m.label = a.records[record * LETHE_ROW_FIELDS + 1];
  m.kind = a.records[record * LETHE_ROW_FIELDS + 2];
  m.beta = a.row_params == nullptr ? 1.0f : 1.0f / a.row_params[record * LETHE_ROW_PARAMS];
  m.scale = m.beta * (a.coefficient == nullptr ? 1.0f : a.coefficient[record]);
  m.cap = cap;
  m.epsilon = a.row_params == nullptr ? 0.0f : a.row_params[record * LETHE_ROW_PARAMS + 3];
  return m;
}

// LETHE_ROW_UNIFORM_KL_EPS: from the whole row's sums the means of p / (p + epsilon) and of log(p + epsilon), which is
// log epsilon + log1p(p / epsilon); gives the divergence.
__device__ inline float take_smoothed(Softmax *m, const float (&sums)[2], int64_t V) {
  const auto columns = static_cast<float>(V);
  m->mean_ratio = sums[0] / columns;
  return -(logf(m->epsilon) + sums[1] / columns) - logf(columns);
}

}  // namespace lethe::cuda
