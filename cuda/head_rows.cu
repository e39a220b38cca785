// Two looks at each row of logits: its sums, then its gradient in place.
#include "head_statistics.cuh"

namespace lethe::cuda {
namespace {

// Four columns from `begin` on; those outside the row read as `fill`.
__device__ inline void load_group(const float *row, int begin, int V, float fill, float (&out)[kGroup]) {
  const float *from = row + begin;
  if (begin >= 0 && begin + kGroup <= V && reinterpret_cast<uintptr_t>(from) % sizeof(float4) == 0) {
    const float4 v = *reinterpret_cast<const float4 *>(from);
    out[0] = v.x;
    out[1] = v.y;
    out[2] = v.z;
    out[3] = v.w;
    return;
  }
  for (int i = 0; i < kGroup; ++i) out[i] = begin + i >= 0 && begin + i < V ? row[begin + i] : fill;
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

// First look: the row's sums, by all threads together.
template <bool kReference>
__device__ Running first_look(const Columns &c, int label, float z_label, float beta) {
  Running r = {};
  r.max = r.reference_max = -infinity();
  for (int group = static_cast<int>(threadIdx.x); group < c.groups; group += static_cast<int>(blockDim.x)) {
    float z[kGroup], delta[kGroup] = {};
    const int begin = c.column(group);
    load_group(c.z, begin, c.V, -infinity(), z);
    if (kReference) load_group(c.delta, begin, c.V, 0.0f, delta);
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

// LETHE_ROW_UNIFORM_KL_EPS: the means of p / (p + epsilon) and of log(p + epsilon), taken as log epsilon +
// log1p(p / epsilon).
struct Smoothed {
  float mean_ratio, mean_log;
};
__device__ inline Smoothed smoothed_look(const Columns &c, const Softmax &m) {
  float sums[2] = {};
  const float inverse_epsilon = 1.0f / m.epsilon;
  for (int group = static_cast<int>(threadIdx.x); group < c.groups; group += static_cast<int>(blockDim.x)) {
    float z[kGroup];
    load_group(c.z, c.column(group), c.V, -infinity(), z);
    for (int i = 0; i < kGroup; ++i) {
      const float p = fast_exp(floored((z[i] - m.max) * m.beta)) * m.inverse_sum;
      sums[0] += p / (p + m.epsilon);
      sums[1] += log1pf(p * inverse_epsilon);
    }
  }
  block_sum(sums);
  return {sums[0] / static_cast<float>(c.V), logf(m.epsilon) + sums[1] / static_cast<float>(c.V)};
}

// Second look. In bf16 the gradient of a tile lies over logits of columns half as far into the row. Once all threads
// have loaded tile k, tiles up to 2k can be stored over what has been read: so the threads meet at tiles 0, 1, 3, 7,
// ...
template <bool kReference>
__device__ float second_look(const Columns &c, const Softmax &m, float *row, int gradient) {
  float value = 0;
  const int threads = static_cast<int>(blockDim.x);
  for (int tile = 0; tile * threads < c.groups; ++tile) {
    const int group = tile * threads + static_cast<int>(threadIdx.x);
    const int begin = c.column(group);
    float z[kGroup], delta[kGroup] = {};
    load_group(c.z, begin, c.V, -infinity(), z);
    if (kReference) load_group(c.delta, begin, c.V, 0.0f, delta);
    if (gradient == LETHE_BF16 && (tile & (tile + 1)) == 0) __syncthreads();  // loads of tiles <= tile are done
    if (group >= c.groups) continue;
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

template <bool kReference>
__device__ void whole_row(const HeadRows &a, int64_t index, float *delta) {
  float *row = a.z + index * a.ld;
  const int64_t record = a.order == nullptr ? index : a.order[index];
  const SoftCap cap = {a.soft_cap, a.soft_cap > 0 ? 1.0f / a.soft_cap : 0.0f};
  if (a.bias != nullptr || a.soft_cap > 0 || (kReference && a.row_params != nullptr)) {
    finish_logits<kReference>(a, index, record, row, delta, cap);
  }
  const Columns c(row, delta, a.V);
  Softmax m = {};
  m.label = a.records[record * LETHE_ROW_FIELDS + 1];
  m.kind = a.records[record * LETHE_ROW_FIELDS + 2];
  m.beta = a.row_params == nullptr ? 1.0f : 1.0f / a.row_params[record * LETHE_ROW_PARAMS];
  m.scale = m.beta * (a.coefficient == nullptr ? 1.0f : a.coefficient[record]);
  m.cap = cap;
  m.epsilon = a.row_params == nullptr ? 0.0f : a.row_params[record * LETHE_ROW_PARAMS + 3];
  const float z_label = m.label >= 0 ? row[m.label] : 0.0f;

  Running r = first_look<kReference>(c, m.label, z_label, m.beta);
  const Others apart = others_of(r, m.beta);
  const float others_max = r.max, others = r.e;
  if (m.label >= 0) add_label(&r, m.label, z_label, kReference ? delta[m.label] : 0.0f, kReference, m.beta);
  take_sums(&m, r, others_max, others, a.V);
  if (kReference) {
    // Near the reference the shift is a small difference of two large numbers unless it is summed as one; far from it
    // e^delta overflows, and the two can be subtracted.
    const float ratio = r.shift / r.e;
    m.shift = fabsf(ratio) < 0.5f ? log1pf(ratio) : (r.reference_max - r.max) * m.beta + logf(r.reference / r.e);
    m.reference_max = r.reference_max;
    m.reference_inverse_sum = 1.0f / r.reference;
    m.mean_delta = r.e_delta / r.e;
  }
  float kl[1] = {0.0f};
  Smoothed smoothed = {};
  if (!kReference && m.kind == LETHE_ROW_UNIFORM_KL_EPS) {
    smoothed = smoothed_look(c, m);
    m.mean_ratio = smoothed.mean_ratio;
  }
  if (kReference || a.gradient != LETHE_I32) kl[0] = second_look<kReference>(c, m, row, a.gradient);
  if (kReference) {
    block_sum(kl);
    kl[0] = kl[0] < 0.0f ? 0.0f : kl[0];
  } else if (m.kind == LETHE_ROW_UNIFORM_KL_EPS) {
    kl[0] = -smoothed.mean_log - logf(static_cast<float>(c.V));
  }
  if (threadIdx.x == 0 && a.stats != nullptr) {
    const float mean = a.means == nullptr ? r.z / static_cast<float>(c.V) : a.means[index];
    write_stats<kReference>(m, r, z_label, apart, mean, kl[0], a.stats + record * LETHE_STATISTICS);
  }
}

__global__ void __launch_bounds__(kHeadThreads, 2) head_rows_kernel(HeadRows a) {
  const int64_t index = blockIdx.x;
  if (a.closed != nullptr && *a.closed != 0) {
    for (int64_t v = threadIdx.x; v < a.V; v += blockDim.x) a.z[index * a.ld + v] = 0.0f;
    return;
  }
  const int64_t delta = a.delta_of == nullptr ? -1 : a.delta_of[index];
  if (delta >= 0) {
    whole_row<true>(a, index, a.delta + delta * a.ld);
  } else {
    whole_row<false>(a, index, nullptr);
  }
}

}  // namespace

Shape head_rows_shape(const HeadRows &args, unsigned threads) {
  const int64_t gradient = args.gradient == LETHE_F32 ? 4 : args.gradient == LETHE_BF16 ? 2 : 0;
  return {"head_rows", {static_cast<unsigned>(args.rows)}, threads, 0, args.rows * args.V * (4 + gradient)};
}

Status head_rows(const HeadRows &args, unsigned threads, Stream stream) {
  if (args.rows == 0) return Status{};
  return launch_on(stream, head_rows_shape(args, threads), head_rows_kernel, args);
}

}  // namespace lethe::cuda
