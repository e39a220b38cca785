#include "head_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "head_logits.h"
#include "head_looks.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

using vector_math::select;

f32x16 load_up_to(const float *p, int64_t n) { return n == kLanes ? load(p) : load_tail(p, n); }
void store_up_to(float *p, f32x16 x, int64_t n) { n == kLanes ? store(p, x) : store_tail(p, x, n); }

// Turns delta into the reference's logits minus the row's own, of which z still lacks bias and cap.
void finish_delta(const HeadRow &row, int64_t V) {
  const SoftCap cap(row.soft_cap);
  if (cap.caps() || row.second != nullptr) {
    for (int64_t v = 0; v < V; v += kLanes) {
      const int64_t n = std::min(kLanes, V - v);
      f32x16 u = load_up_to(row.z + v, n);
      if (row.bias != nullptr) u += load_up_to(row.bias + v, n);
      f32x16 delta = load_up_to(row.delta + v, n);
      const f32x16 reference = u + delta;
      if (cap.caps()) delta = cap.difference(u, delta);
      if (row.second != nullptr) {
        f32x16 rise = load_up_to(row.second + v, n);
        if (cap.caps()) rise = cap.difference(reference, rise);
        // A NaN compares false and stays.
        delta -= row.mix * select<f32x16>(rise < 0.0f, f32x16{}, rise);
      }
      store_up_to(row.delta + v, delta, n);
    }
  }
  if (row.label_shift != 0) row.delta[row.label] -= row.label_shift;
}

// x e^x - expm1(x) and expm1(x) - x for |x| <= 1/2: sum over k >= 2 of (k-1) x^k / k!, and of x^k / k!.
f32x16 kl_term(f32x16 x) {
  const f32x16 p =
      ((((((9.0f / 3628800 * x + 8.0f / 362880) * x + 7.0f / 40320) * x + 6.0f / 5040) * x + 5.0f / 720) * x +
        4.0f / 120) *
           x +
       3.0f / 24) *
          x +
      2.0f / 6;
  return (p * x + 0.5f) * x * x;
}
f32x16 reverse_kl_term(f32x16 x) {
  const f32x16 p =
      ((((((1.0f / 3628800 * x + 1.0f / 362880) * x + 1.0f / 40320) * x + 1.0f / 5040) * x + 1.0f / 720) * x +
        1.0f / 120) *
           x +
       1.0f / 24) *
          x +
      1.0f / 6;
  return (p * x + 0.5f) * x * x;
}

// What the last look needs of a row; logits and log-probabilities over the temperature.
struct Softmax {
  float max, inverse_sum;                      // of z
  float reference_max, reference_inverse_sum;  // of z + delta
  float shift;                                 // logsumexp(z + delta) - logsumexp(z)
  float mean_delta;                            // E_p[delta]
  float ez;                                    // E_p[z] - max
  float uniform;                               // 1 / V
  float mean_ratio;                            // mean of p / (p + epsilon)
  SoftCap cap{0.0f};
  float scale;  // what the gradient is multiplied with
};

// The gradient, and with kReference the value of the row's divergence: with x = delta - shift, which makes E_p[e^x] =
// 1,
//   KL(r||p) = E_p[x e^x - expm1(x)],  dz = -p expm1(x);   KL(p||r) = E_p[expm1(x) - x],  dz = -p (delta - E_p[delta]):
// no term is negative and none cancels, from the first step (delta = 0) to rows that have drifted far.
template <bool kReference, class Store>
double last_look(const HeadRow &row, int64_t V, const Softmax &m, Store &&store_gradient) {
  const float beta = row.inverse_temperature;
  const bool forward_kl = row.kind == LETHE_ROW_REFERENCE_KL;
  f32x16 value_block = {};
  double value = 0;
  for_columns<kReference>(
      row.z, row.delta, V,
      [&](f32x16 z, f32x16 delta, int64_t v, int64_t count) {
        const f32x16 d = floored((z - m.max) * beta);
        const f32x16 p = exp(d) * m.inverse_sum;
        f32x16 g = {};
        if constexpr (kReference) {
          const f32x16 x = delta * beta - m.shift;
          const i32x16 near = (x < 0.5f) & (x > -0.5f);
          const f32x16 r = exp(floored((z + delta - m.reference_max) * beta)) * m.reference_inverse_sum;
          const f32x16 far_x = vector_math::clamp(x, -kHuge, kHuge);
          if (forward_kl) {
            value_block += select<f32x16>(near, p * kl_term(x), r * far_x - (r - p));
            g = select<f32x16>(near, -p * expm1(x), p - r);
          } else {
            value_block += select<f32x16>(near, p * reverse_kl_term(x), (r - p) - p * far_x);
            g = p * (m.mean_delta - delta * beta);
          }
        } else {
          switch (row.kind) {
            case LETHE_ROW_NLL:
              g = p;
              break;
            case LETHE_ROW_UNIFORM_KL:
              g = p - m.uniform;
              break;
            case LETHE_ROW_LOGIT_MARGIN:
              g = splat(-m.uniform);
              break;
            case LETHE_ROW_UNIFORM_KL_EPS:
              g = p * m.mean_ratio - p / (p + row.epsilon) * m.uniform;
              break;
            default:
              g = p * (d - m.ez);
          }
        }
        if (m.cap.caps()) g *= m.cap.slope(z);
        store_gradient(v, count, g * m.scale);
      },
      [&] {
        if constexpr (kReference) value += static_cast<double>(sum(value_block));
        value_block = f32x16{};
      });
  return value;
}

// Columns are read and written in rising order, so that the bf16 gradient, half as wide, never runs ahead of the reads.
template <bool kReference, class T>
double write_gradient(const HeadRow &row, int64_t V, const Softmax &m) {
  char *out = reinterpret_cast<char *>(row.z);
  return last_look<kReference>(row, V, m, [out](int64_t v, int64_t count, f32x16 g) {
    T lanes[kLanes];
    store(lanes, g);
    std::memcpy(out + v * static_cast<int64_t>(sizeof(T)), lanes, static_cast<size_t>(count) * sizeof(T));
  });
}

template <bool kReference>
double last_look_into(const HeadRow &row, int64_t V, const Softmax &m, int32_t gradient) {
  if (gradient == LETHE_F32) return write_gradient<kReference, float>(row, V, m);
  if (gradient == LETHE_BF16) return write_gradient<kReference, bf16>(row, V, m);
  if constexpr (!kReference) return 0;
  return last_look<kReference>(row, V, m, [](int64_t, int64_t, f32x16) {});
}

// What LETHE_ROW_UNIFORM_KL_EPS needs besides: the mean of p / (p + epsilon), and of log(p + epsilon), taken as
// log epsilon + log1p(p / epsilon).
struct Smoothed {
  double mean_ratio, mean_log;
};
Smoothed smoothed_look(const HeadRow &row, int64_t V, const Softmax &m) {
  const float inverse_epsilon = 1.0f / row.epsilon;
  f32x16 ratio_block = {}, log_block = {};
  double ratio = 0, log = 0;
  for_columns<false>(
      row.z, nullptr, V,
      [&](f32x16 z, f32x16, int64_t, int64_t) {
        const f32x16 p = exp(floored((z - m.max) * row.inverse_temperature)) * m.inverse_sum;
        ratio_block += p / (p + row.epsilon);
        log_block += log1p(p * inverse_epsilon);
      },
      [&] {
        ratio += static_cast<double>(sum(ratio_block));
        log += static_cast<double>(sum(log_block));
        ratio_block = log_block = f32x16{};
      });
  const auto count = static_cast<double>(V);
  return {ratio / count, std::log(static_cast<double>(row.epsilon)) + log / count};
}

// In place of what the last look wrote for column v, whose logit is z.
void set_gradient(const HeadRow &row, int64_t v, float z, const Softmax &m, int32_t gradient, float direction) {
  const float value = direction * m.scale * (m.cap.caps() ? m.cap.slope(splat(z))[0] : 1.0f);
  if (gradient == LETHE_F32) {
    row.z[v] = value;
  } else if (gradient == LETHE_BF16) {
    bf16 rounded;
    from_float(value, &rounded);
    std::memcpy(reinterpret_cast<char *>(row.z) + 2 * v, &rounded, 2);
  }
}

template <bool kReference>
void whole_row(const HeadRow &row, int64_t V, int32_t gradient, float *stats) {
  if constexpr (kReference) finish_delta(row, V);
  if (row.bias != nullptr || row.soft_cap > 0) finish_logits(row.z, row.bias, SoftCap(row.soft_cap), V);
  const Look look = first_look<kReference>(row, V);
  const Sums sums = second_look<kReference>(row, V, look);
  const double beta = row.inverse_temperature;
  const double max = look.max * beta;
  const double log_sum = std::log(sums.e);
  const double ez = sums.ez / sums.e;
  const Others others = row.label >= 0 ? others_of(row, V, max, sums) : Others{max + log_sum, 0};
  const bool broken = !std::isfinite(sums.e) || !std::isfinite(look.max);

  Softmax m = {};
  m.cap = SoftCap(row.soft_cap);
  m.max = look.max;
  m.inverse_sum = broken ? kNaN : static_cast<float>(1.0 / sums.e);
  m.ez = static_cast<float>(ez);
  m.uniform = broken ? kNaN : 1.0f / static_cast<float>(V);
  m.scale = row.coefficient * row.inverse_temperature;
  if constexpr (kReference) {
    // Near the reference the shift is a small difference of two large numbers unless it is summed as one; far from it
    // e^delta overflows, and the two can be subtracted.
    const double ratio = sums.shift / sums.e;
    m.shift = static_cast<float>(std::fabs(ratio) < 0.5 ? std::log1p(ratio)
                                                        : (static_cast<double>(look.reference_max) - look.max) * beta +
                                                              std::log(sums.reference / sums.e));
    m.reference_max = look.reference_max;
    m.reference_inverse_sum = static_cast<float>(1.0 / sums.reference);
    m.mean_delta = static_cast<float>(sums.e_delta / sums.e);
  }

  stats[LETHE_STAT_LSE] = static_cast<float>(max + log_sum);
  stats[LETHE_STAT_LABEL] = row.label >= 0 ? row.z[row.label] * row.inverse_temperature : 0.0f;
  stats[LETHE_STAT_LSE_OTHERS] = static_cast<float>(others.lse);
  stats[LETHE_STAT_MEAN] = row.mean != nullptr ? *row.mean * row.inverse_temperature
                                               : static_cast<float>(look.sum * beta / static_cast<double>(V));
  stats[LETHE_STAT_EZ] = static_cast<float>(ez);
  stats[LETHE_STAT_MAX] = static_cast<float>(max);
  stats[LETHE_STAT_ARGMAX] = static_cast<float>(look.argmax);
  stats[LETHE_STAT_RANK] = static_cast<float>(look.rank);
  stats[LETHE_STAT_KL] = 0;
  // E[(log p)^2] with log p = (z - max) - log sum; no term is negative.
  stats[LETHE_STAT_ELOG2] = static_cast<float>(sums.ezz / sums.e - 2 * log_sum * ez + log_sum * log_sum);

  stats[LETHE_STAT_ENTROPY_OTHERS] = static_cast<float>(others.entropy);
  stats[LETHE_STAT_REFERENCE_ENTROPY] =
      kReference ? static_cast<float>(entropy_of(sums.reference, sums.reference_ez)) : 0.0f;
  stats[LETHE_STAT_REFERENCE_ARGMAX] = static_cast<float>(look.reference_argmax);

  if (row.kind == LETHE_ROW_STATISTICS) {
    if (gradient == LETHE_F32) std::fill_n(row.z, V, 0.0f);
    if (gradient == LETHE_BF16) std::memset(row.z, 0, static_cast<size_t>(V) * 2);
  } else {
    if (row.kind == LETHE_ROW_UNIFORM_KL_EPS) {
      const Smoothed s = smoothed_look(row, V, m);
      m.mean_ratio = static_cast<float>(s.mean_ratio);
      stats[LETHE_STAT_KL] = static_cast<float>(-s.mean_log - std::log(static_cast<double>(V)));
    }
    const float z_label = row.label >= 0 ? row.z[row.label] : 0.0f;
    const double value = last_look_into<kReference>(row, V, m, gradient);
    if constexpr (kReference) stats[LETHE_STAT_KL] = static_cast<float>(value < 0 ? 0 : value);
    if (row.kind == LETHE_ROW_NLL) {
      const float at_label = broken ? kNaN : -static_cast<float>(std::exp(others.lse - (max + log_sum)));
      set_gradient(row, row.label, z_label, m, gradient, at_label);
    } else if (row.kind == LETHE_ROW_LOGIT_MARGIN) {
      const auto rest = static_cast<float>(V - 1);
      set_gradient(row, look.argmax, look.max, m, gradient, rest * m.uniform);
    }
  }
  if (broken) {
    for (const int s : {LETHE_STAT_LSE, LETHE_STAT_LSE_OTHERS, LETHE_STAT_MEAN, LETHE_STAT_EZ, LETHE_STAT_MAX,
                        LETHE_STAT_KL, LETHE_STAT_ELOG2, LETHE_STAT_ENTROPY_OTHERS, LETHE_STAT_REFERENCE_ENTROPY}) {
      stats[s] = kNaN;
    }
  }
}

}  // namespace

void head_row(const HeadRow &row, int64_t V, int32_t gradient, float *stats) {
  row.delta != nullptr ? whole_row<true>(row, V, gradient, stats) : whole_row<false>(row, V, gradient, stats);
}

}  // namespace lethe::cpu
