// What a row's sums become: statistics, and what its gradient needs. The form of the head that sees logits in memory
// and the fused one share it.
#pragma once

#include "head_logits.cuh"

namespace lethe::cuda {

// exp(-128) is 0 in fp32, and 0 * -128 is 0: keeps -inf out of products, while a NaN passes the comparison untouched.
constexpr float kFloor = -128.0f;
constexpr float kHuge = 1e30f;  // finite, so that its product with a probability of 0 is 0

__device__ inline float floored(float x) { return x < kFloor ? kFloor : x; }
__device__ inline float infinity() { return __int_as_float(0x7f800000); }
__device__ inline float nan() { return __int_as_float(0x7fc00000); }

// Sums over the columns a thread has seen, but for the label's, each relative to the largest of them.
struct Running {
  float max, reference_max;  // of z, of z + delta
  int argmax, reference_argmax;
  float e, ez, ezz;  // sum of e = exp(x), e x, e x^2, with x = (z - max) / temperature
  float z, above;    // sum of z; how many exceed the label's
  float shift, e_delta,
      reference;       // sum of e expm1(delta), e delta, f = exp(y), y = (z + delta - reference max) / temp.
  float reference_ez;  // sum of f y

  // Makes the sums relative to another maximum.
  __device__ void rescale(float to, float beta) {
    if (max != -infinity()) {
      const float x = floored((max - to) * beta), f = fast_exp(x);
      ezz = f * (ezz + x * (2 * ez + x * e));
      ez = f * (ez + x * e);
      e *= f;
      shift *= f;
      e_delta *= f;
    }
    max = to;
  }
  __device__ void rescale_reference(float to, float beta) {
    if (reference_max != -infinity()) {
      const float y = floored((reference_max - to) * beta), f = fast_exp(y);
      reference_ez = f * (reference_ez + y * reference);
      reference *= f;
    }
    reference_max = to;
  }
};

// What the second look needs; sums are those of the whole row, the label included.
struct Softmax {
  float max, reference_max, beta;
  float inverse_sum, reference_inverse_sum;
  float shift;       // logsumexp(z + delta) - logsumexp(z)
  float mean_delta;  // E_p[delta]
  float ez;          // E_p[z] - max
  float at_label;    // p[y] - 1
  float uniform, scale;
  float epsilon, mean_ratio;  // LETHE_ROW_UNIFORM_KL_EPS: the mean of p / (p + epsilon)
  SoftCap cap;
  int label, argmax, kind;
  bool broken;
};

// Adds the label's column to the sums.
__device__ inline void add_label(Running *r, int label, float z_label, float delta, bool reference, float beta) {
  if (z_label > r->max || (z_label == r->max && label < r->argmax)) r->argmax = label;
  if (z_label > r->max) r->rescale(z_label, beta);
  const float d = floored((z_label - (r->max == -infinity() ? 0.0f : r->max)) * beta), p = fast_exp(d);
  r->e += p;
  r->ez += p * d;
  r->ezz += p * d * d;
  if (!reference) return;
  r->shift += p * fast_expm1(delta * beta);
  r->e_delta += p * (delta * beta);
  const float at_label = z_label + delta;
  if (at_label > r->reference_max || (at_label == r->reference_max && label < r->reference_argmax)) {
    r->reference_argmax = label;
  }
  if (at_label > r->reference_max) r->rescale_reference(at_label, beta);
  const float y = floored((at_label - r->reference_max) * beta), f = fast_exp(y);
  r->reference += f;
  r->reference_ez += f * y;
}

// log e - ez / e: no less than 0 but for rounding.
__device__ inline float entropy_of(float e, float ez) {
  const float h = logf(e) - ez / e;
  return h < 0.0f ? 0.0f : h;
}

// Of the columns but the label's.
struct Others {
  float lse, entropy;
};

// Adds the label to the sums over the others, and fills in what follows from the whole row's.
template <bool kReference>
__device__ Others take_sums(Softmax *m, Running *r, int64_t V, float z_label, float delta_label) {
  const Others apart = {r->max * m->beta + logf(r->e), r->max == -infinity() ? 0.0f : entropy_of(r->e, r->ez)};
  const float others_max = r->max, others = r->e;
  if (m->label >= 0) add_label(r, m->label, z_label, delta_label, kReference, m->beta);
  m->broken = !(fabsf(r->e) < infinity()) || !(fabsf(r->max) < infinity());
  m->uniform = m->broken ? nan() : 1.0f / static_cast<float>(V);
  m->argmax = r->argmax;
  m->max = r->max;
  m->inverse_sum = m->broken ? nan() : 1.0f / r->e;
  m->ez = r->ez / r->e;
  m->at_label = m->broken                   ? nan()
                : others_max == -infinity() ? 0.0f
                                            : -others * fast_exp(floored((others_max - r->max) * m->beta)) / r->e;
  if (kReference) {
    // Near the reference the shift is a small difference of two large numbers unless it is summed as one; far from it
    // e^delta overflows, and the two can be subtracted.
    const float ratio = r->shift / r->e;
    m->shift = fabsf(ratio) < 0.5f ? log1pf(ratio) : (r->reference_max - r->max) * m->beta + logf(r->reference / r->e);
    m->reference_max = r->reference_max;
    m->reference_inverse_sum = 1.0f / r->reference;
    m->mean_delta = r->e_delta / r->e;
  }
  return apart;
}

template <bool kReference>
__device__ void write_stats(const Softmax &m, const Running &r, float z_label, const Others &others, float mean,
                            float kl, float *stats) {
  const float log_sum = logf(r.e), max = m.max * m.beta;
  const float lse = max + log_sum;
  const bool b = m.broken;
  stats[LETHE_STAT_LSE] = b ? nan() : lse;
  stats[LETHE_STAT_LABEL] = m.label >= 0 ? z_label * m.beta : 0.0f;
  stats[LETHE_STAT_LSE_OTHERS] = b ? nan() : m.label >= 0 ? others.lse : lse;
  stats[LETHE_STAT_MEAN] = b ? nan() : mean * m.beta;
  stats[LETHE_STAT_EZ] = b ? nan() : m.ez;
  stats[LETHE_STAT_MAX] = b ? nan() : max;
  stats[LETHE_STAT_ARGMAX] = static_cast<float>(r.argmax);
  stats[LETHE_STAT_RANK] = m.label >= 0 ? r.above : 0.0f;
  stats[LETHE_STAT_KL] = b ? nan() : kl;
  // E[(log p)^2] with log p = x - log sum; no term is negative.
  stats[LETHE_STAT_ELOG2] = b ? nan() : r.ezz / r.e - 2 * log_sum * m.ez + log_sum * log_sum;
  stats[LETHE_STAT_ENTROPY_OTHERS] = b ? nan() : m.label >= 0 ? others.entropy : 0.0f;
  stats[LETHE_STAT_REFERENCE_ENTROPY] = b ? nan() : kReference ? entropy_of(r.reference, r.reference_ez) : 0.0f;
  stats[LETHE_STAT_REFERENCE_ARGMAX] = kReference ? static_cast<float>(r.reference_argmax) : 0.0f;
}

}  // namespace lethe::cuda
