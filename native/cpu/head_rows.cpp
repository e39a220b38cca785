#include "head_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "head_logits.h"
#include "vector_math.h"

namespace lethe::cpu {
namespace {

using vector_math::select;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kHuge = 1e30f;  // finite, so that its product with a probability of 0 is 0
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
// Lanes add up this many columns in fp32 before the sum moves on to fp64: rounding stays that of a short sum.
constexpr int64_t kBlock = 32 * kLanes;
// exp(-128) is 0 in fp32, and 0 * -128 is 0: keeps -inf out of products, while a NaN passes the comparison untouched.
constexpr float kFloor = -128.0f;
// Below this, the sum over v != y may have lost terms to underflow and is taken again from its own maximum.
constexpr double kTinySum = 1e-20;

f32x16 floored(f32x16 x) { return select<f32x16>(x < kFloor, splat(kFloor), x); }
double floored(double x) { return x < kFloor ? kFloor : x; }

// fn(z, delta, column, count) over the row, sixteen columns at a time; the last call's missing lanes hold -inf and 0.
// flush() follows every kBlock columns.
template <bool kReference, class Fn, class Flush>
void for_columns(const float *z, const float *delta, int64_t V, Fn &&fn, Flush &&flush) {
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = std::min(V, begin + kBlock);
    int64_t v = begin;
    for (; v + kLanes <= end; v += kLanes) fn(load(z + v), kReference ? load(delta + v) : f32x16{}, v, kLanes);
    if (v < end) {
      fn(load_tail(z + v, end - v, -kInfinity), kReference ? load_tail(delta + v, end - v) : f32x16{}, v, end - v);
    }
    flush();
  }
}

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

struct Look {
  float max = -kInfinity;            // of z
  float reference_max = -kInfinity;  // of z + delta
  int64_t argmax = 0, reference_argmax = 0;
  int64_t rank = 0;  // how many exceed z[y]
  double sum = 0;    // of z
};

template <bool kReference>
Look first_look(const HeadRow &row, int64_t V) {
  const bool labelled = row.label >= 0;
  const f32x16 label = splat(labelled ? row.z[row.label] : 0.0f);
  f32x16 max = splat(-kInfinity), reference_max = splat(-kInfinity), sum_block = {};
  i32x16 at = {}, reference_at = {}, above = {}, lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  Look look;
  for_columns<kReference>(
      row.z, row.delta, V,
      [&](f32x16 z, f32x16 delta, int64_t v, int64_t count) {
        const i32x16 larger = z > max;
        at = (larger & (lane + static_cast<int32_t>(v))) | (~larger & at);
        max = select<f32x16>(larger, z, max);
        above -= (i32x16)(z > label);
        if constexpr (kReference) {
          const f32x16 r = z + delta;
          const i32x16 rises = r > reference_max;
          reference_at = (rises & (lane + static_cast<int32_t>(v))) | (~rises & reference_at);
          reference_max = select<f32x16>(rises, r, reference_max);
        }
        if (count == kLanes) {
          sum_block += z;
        } else {
          for (int64_t i = 0; i < count; ++i) sum_block[i] += z[i];
        }
      },
      [&] {
        look.sum += static_cast<double>(sum(sum_block));
        sum_block = f32x16{};
      });
  for (int i = 0; i < kLanes; ++i) {
    if (max[i] > look.max || (max[i] == look.max && at[i] < look.argmax)) {
      look.max = max[i];
      look.argmax = at[i];
    }
    if (reference_max[i] > look.reference_max ||
        (reference_max[i] == look.reference_max && reference_at[i] < look.reference_argmax)) {
      look.reference_max = reference_max[i];
      look.reference_argmax = reference_at[i];
    }
    look.rank += above[i];
  }
  if (!labelled) look.rank = 0;
  return look;
}

// Sums over the row of e = exp(z - max), with z over the temperature.
struct Sums {
  double e = 0;             // e
  double ez = 0;            // e (z - max)
  double ezz = 0;           // e (z - max)^2
  double shift = 0;         // e expm1(delta)
  double reference = 0;     // f = exp(z + delta - reference max)
  double reference_ez = 0;  // f (z + delta - reference max)
  double e_delta = 0;       // e delta
  double others = 0;        // e but for the label's
  double others_ez = 0;     // e (z - max) but for the label's
};

// The label's logit is taken out of the row while the rest is summed and added at the end: what is left is the sum
// over the others, exact even where the label holds nearly all of the probability.
template <bool kReference>
Sums second_look(const HeadRow &row, int64_t V, const Look &look) {
  const float beta = row.inverse_temperature;
  const float z_label = row.label >= 0 ? row.z[row.label] : 0.0f;
  if (row.label >= 0) row.z[row.label] = -kInfinity;
  f32x16 e_block = {}, ez_block = {}, ezz_block = {}, shift_block = {}, reference_block = {}, reference_ez_block = {},
         e_delta_block = {};
  Sums sums;
  const auto move = [](f32x16 *from, double *to) {
    *to += static_cast<double>(sum(*from));
    *from = f32x16{};
  };
  for_columns<kReference>(
      row.z, row.delta, V,
      [&](f32x16 z, f32x16 delta, int64_t, int64_t) {
        const f32x16 x = floored((z - look.max) * beta);
        const f32x16 e = exp(x);
        e_block += e;
        ez_block += e * x;
        ezz_block += e * x * x;
        if constexpr (kReference) {
          const f32x16 d = delta * beta;
          shift_block += e * expm1(d);
          const f32x16 y = floored((z + delta - look.reference_max) * beta);
          const f32x16 f = exp(y);
          reference_block += f;
          reference_ez_block += f * y;
          e_delta_block += e * d;
        }
      },
      [&] {
        move(&e_block, &sums.e);
        move(&ez_block, &sums.ez);
        move(&ezz_block, &sums.ezz);
        if constexpr (kReference) {
          move(&shift_block, &sums.shift);
          move(&reference_block, &sums.reference);
          move(&reference_ez_block, &sums.reference_ez);
          move(&e_delta_block, &sums.e_delta);
        }
      });
  sums.others = sums.e;
  sums.others_ez = sums.ez;
  if (row.label >= 0) {
    row.z[row.label] = z_label;
    const double x = floored((static_cast<double>(z_label) - look.max) * beta);
    const double e = std::exp(x);
    sums.e += e;
    sums.ez += e * x;
    sums.ezz += e * x * x;
    if constexpr (kReference) {
      const double delta = row.delta[row.label];
      sums.shift += e * std::expm1(delta * beta);
      const double y = floored((z_label + delta - look.reference_max) * beta);
      const double f = std::exp(y);
      sums.reference += f;
      sums.reference_ez += f * y;
      sums.e_delta += e * delta * beta;
    }
  }
  return sums;
}

// logsumexp over v != label, and the entropy of their softmax.
struct Others {
  double lse, entropy;
};

// log e - ez / e: no less than 0 but for rounding.
double entropy_of(double e, double ez) {
  const double h = std::log(e) - ez / e;
  return h < 0 ? 0 : h;
}

// Called with z[label] in place.
Others others_of(const HeadRow &row, int64_t V, double max, const Sums &sums) {
  if (!(sums.others < kTinySum)) return {max + std::log(sums.others), entropy_of(sums.others, sums.others_ez)};
  const float z_label = row.z[row.label];
  row.z[row.label] = -kInfinity;
  HeadRow rest = row;
  rest.label = -1;
  rest.delta = nullptr;
  const Look look = first_look<false>(rest, V);
  Others result = {-kInfinity, 0};
  if (look.max > -kInfinity) {
    const Sums again = second_look<false>(rest, V, look);
    result = {static_cast<double>(look.max) * row.inverse_temperature + std::log(again.e),
              entropy_of(again.e, again.ez)};
  }
  row.z[row.label] = z_label;
  return result;
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
