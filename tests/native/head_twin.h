// The scalar twin of the head's row kernel: what each kind's value is, in any number type, and its statistics and
// gradient in fp64. The value is differentiable by complex step, which is how the gradient is checked.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <vector>

#include "lethe.h"
#include "tolerance.h"

namespace lethe::test {

inline double real_part(double x) { return x; }
inline double real_part(const std::complex<double> &x) { return x.real(); }

// logsumexp over all but `skip`.
template <class Number>
Number twin_lse(const std::vector<Number> &z, int64_t skip = -1) {
  double max = -std::numeric_limits<double>::infinity();
  for (size_t v = 0; v < z.size(); ++v) {
    if (static_cast<int64_t>(v) != skip) max = std::max(max, real_part(z[v]));
  }
  if (std::isinf(max) && max < 0) return Number(max);
  Number sum(0);
  for (size_t v = 0; v < z.size(); ++v) {
    if (static_cast<int64_t>(v) != skip) sum += std::exp(z[v] - max);
  }
  return std::log(sum) + max;
}

// The value whose gradient a row's kind names; z and the reference's logits over the temperature, all finite.
template <class Number>
Number twin_value(int kind, int64_t label, const std::vector<Number> &z, const std::vector<Number> &reference,
                  double epsilon) {
  const double V = static_cast<double>(z.size());
  const Number lse = twin_lse(z);
  Number value(0);
  switch (kind) {
    case LETHE_ROW_NLL:
      return lse - z[static_cast<size_t>(label)];
    case LETHE_ROW_UNIFORM_KL:
      for (const Number &x : z) value -= (x - lse) / V;
      return value - std::log(V);
    case LETHE_ROW_LOGIT_MARGIN: {
      size_t largest = 0;
      for (size_t v = 0; v < z.size(); ++v) {
        if (real_part(z[v]) > real_part(z[largest])) largest = v;
        value -= z[v] / V;
      }
      return value + z[largest];
    }
    case LETHE_ROW_UNIFORM_KL_EPS:
      for (const Number &x : z) value -= std::log(std::exp(x - lse) + epsilon) / V;
      return value - std::log(V);
    case LETHE_ROW_KL_UNIFORM:
      for (const Number &x : z) value += std::exp(x - lse) * (x - lse);
      return value + std::log(V);
    case LETHE_ROW_REFERENCE_KL:
    case LETHE_ROW_KL_REFERENCE: {
      const Number reference_lse = twin_lse(reference);
      for (size_t v = 0; v < z.size(); ++v) {
        const Number log_p = z[v] - lse;
        const Number log_r = reference[v] - reference_lse;
        value += kind == LETHE_ROW_REFERENCE_KL ? std::exp(log_r) * (log_r - log_p) : std::exp(log_p) * (log_p - log_r);
      }
      return value;
    }
    default:
      return value;
  }
}

// A row as it is given to a kernel. Null: not there.
struct TwinRow {
  int kind;
  int64_t label, V;
  const float *z, *delta, *second, *bias;
  double soft_cap, temperature, label_shift, mix, epsilon;
  const float *mean;
  double coefficient;
};

struct HeadTwin {
  double stats[LETHE_STATISTICS] = {};
  std::vector<double> gradient;  // with respect to what the GEMM gave, times the coefficient
  // What the bounds are made of: logits and logarithms over the temperature.
  std::vector<double> z, delta, p, r;
  std::vector<double> slope;  // of the soft cap, 1 without
  std::vector<double> z_error,
      delta_error;              // what bias, cap, mix and shift cost a kernel in fp32, over the temperature
  double shift = 0, ratio = 0;  // logsumexp(z + delta) - logsumexp(z), and expm1 of it
  double mean_delta = 0;        // E_p[delta]
  double mean_ratio = 0;        // of p / (p + epsilon)
  double epsilon = 0;
  bool broken = false;   // a NaN, a +inf, or nothing but -inf
  bool rounded = false;  // the kernel's logits are not the twin's to the bit
};

inline double masked_product(double p, double x) { return p == 0 ? 0 : p * x; }

// -sum q log q of q = exp(z - lse), but for `skip`.
inline double twin_entropy(const std::vector<double> &z, double lse, int64_t skip = -1) {
  double h = 0;
  for (size_t v = 0; v < z.size(); ++v) {
    if (static_cast<int64_t>(v) != skip) h -= masked_product(std::exp(z[v] - lse), z[v] - lse);
  }
  return h;
}

inline void twin_reference(int kind, HeadTwin *t) {
  const size_t V = t->z.size();
  std::vector<double> reference(V);
  for (size_t v = 0; v < V; ++v) reference[v] = t->z[v] + t->delta[v];
  const double reference_lse = twin_lse(reference);
  for (size_t v = 0; v < V; ++v) {
    t->r.push_back(std::exp(reference[v] - reference_lse));
    t->ratio += masked_product(t->p[v], std::expm1(t->delta[v]));
    t->mean_delta += masked_product(t->p[v], t->delta[v]);
  }
  t->shift = std::fabs(t->ratio) < 0.5 ? std::log1p(t->ratio) : reference_lse - t->stats[LETHE_STAT_LSE];
  double kl = 0;
  for (size_t v = 0; v < V; ++v) {
    const double x = t->delta[v] - t->shift;
    // Each term's sum over v is 0; with it, no term is negative.
    const double balance = std::fabs(x) < 0.5 ? t->p[v] * std::expm1(x) : t->r[v] - t->p[v];
    kl += kind == LETHE_ROW_REFERENCE_KL ? t->r[v] * x - balance : balance - t->p[v] * x;
  }
  t->stats[LETHE_STAT_KL] = std::max(kl, 0.0);
  t->stats[LETHE_STAT_REFERENCE_ENTROPY] = twin_entropy(reference, reference_lse);
}

inline double twin_gradient(int kind, int64_t label, const HeadTwin &t, size_t v) {
  const double *s = t.stats;
  switch (kind) {
    case LETHE_ROW_NLL:
      if (static_cast<int64_t>(v) == label) return -std::exp(s[LETHE_STAT_LSE_OTHERS] - s[LETHE_STAT_LSE]);
      return t.p[v];
    case LETHE_ROW_UNIFORM_KL:
      return t.p[v] - 1 / static_cast<double>(t.z.size());
    case LETHE_ROW_LOGIT_MARGIN:
      return (static_cast<double>(v) == s[LETHE_STAT_ARGMAX] ? 1 : 0) - 1 / static_cast<double>(t.z.size());
    case LETHE_ROW_UNIFORM_KL_EPS:
      return t.p[v] * t.mean_ratio - t.p[v] / (t.p[v] + t.epsilon) / static_cast<double>(t.z.size());
    case LETHE_ROW_KL_UNIFORM:
      return masked_product(t.p[v], t.z[v] - s[LETHE_STAT_MAX] - s[LETHE_STAT_EZ]);
    case LETHE_ROW_REFERENCE_KL: {
      const double x = t.delta[v] - t.shift;
      return std::fabs(x) < 0.5 ? -t.p[v] * std::expm1(x) : t.p[v] - t.r[v];
    }
    case LETHE_ROW_KL_REFERENCE:
      return t.p[v] * (t.mean_delta - t.delta[v]);
    default:
      return 0;
  }
}

// A logit under its cap, its slope there, and what a kernel's rounding of u, of the quotient by the cap and of tanh may
// cost it.
struct Capped {
  double z, slope, error;
};
inline Capped twin_cap(double u, double cap, double u_error) {
  using namespace tolerance;
  if (cap == 0) return {u, 1, u_error};
  const double t = std::tanh(u / cap), slope = (1 - t) * (1 + t);
  // Where u is infinite the slope is 0.
  const double moved = std::isinf(u) ? 0 : slope * (u_error + 4 * kUnit * std::fabs(u));
  return {cap * t, slope, moved + cap * head::kTanh};
}

// capped(u + delta) - capped(u), and its error in a kernel that takes it as the difference of two caps where delta/cap
// is large, and from tanh(delta/cap) where it is small.
struct Difference {
  double value, error;
};
inline Difference twin_difference(double u, double delta, double cap, double u_error) {
  using namespace tolerance;
  if (cap == 0) return {delta, 0};
  const Capped here = twin_cap(u, cap, u_error), there = twin_cap(u + delta, cap, u_error);
  const double t = std::tanh(u / cap), s = std::tanh(delta / cap);
  const double value =
      std::fabs(delta / cap) < 0.5 && !std::isinf(u) ? cap * s * here.slope / (1 + t * s) : there.z - here.z;
  const double far = here.error + there.error;
  const double moved = std::isinf(u) ? 0 : std::fabs(there.slope - here.slope) * (u_error + 4 * kUnit * std::fabs(u));
  const double near = 16 * kUnit * std::fabs(value) + cap * std::fabs(s) * 2 * here.error / cap + moved;
  const double size = std::fabs(delta / cap);
  return {value, size < 0.45 ? near : size < 0.55 ? near + far : far};
}

// Logits, slopes and the reference's delta, over the temperature.
inline void twin_logits(const TwinRow &row, HeadTwin *t) {
  using tolerance::kUnit;
  t->rounded = row.bias != nullptr || row.soft_cap > 0 || row.second != nullptr || row.label_shift != 0;
  for (int64_t v = 0; v < row.V; ++v) {
    const double u = static_cast<double>(row.z[v]) + (row.bias != nullptr ? static_cast<double>(row.bias[v]) : 0.0);
    const double u_error = row.bias != nullptr && !std::isinf(u) ? kUnit * std::fabs(u) : 0;
    const Capped capped = twin_cap(u, row.soft_cap, u_error);
    t->z.push_back(capped.z / row.temperature);
    t->slope.push_back(capped.slope);
    t->z_error.push_back(capped.error / row.temperature);
    if (row.delta == nullptr) continue;
    Difference d = twin_difference(u, static_cast<double>(row.delta[v]), row.soft_cap, u_error);
    if (row.second != nullptr) {
      const double reference = u + static_cast<double>(row.delta[v]);
      const double error = std::isinf(reference) ? 0 : u_error + kUnit * std::fabs(reference);
      const Difference rise = twin_difference(reference, static_cast<double>(row.second[v]), row.soft_cap, error);
      const double down = row.mix * std::max(rise.value, 0.0);
      d.error += row.mix * rise.error + 2 * kUnit * (down + std::fabs(d.value));
      d.value -= down;
    }
    if (v == row.label && row.label_shift != 0) {
      d.value -= row.label_shift;
      d.error += kUnit * (std::fabs(d.value) + std::fabs(row.label_shift));
    }
    t->delta.push_back(d.value / row.temperature);
    t->delta_error.push_back(d.error / row.temperature);
  }
}

// Largest logits and ranks, without the temperature's rounding where the kernel has none.
inline void twin_order(const TwinRow &row, HeadTwin *t) {
  double *s = t->stats;
  const double infinity = std::numeric_limits<double>::infinity();
  double max = -infinity, reference_max = -infinity;
  for (size_t v = 0; v < t->z.size(); ++v) {
    const double z = t->rounded ? t->z[v] : static_cast<double>(row.z[v]);
    const double label = row.label < 0 ? infinity
                         : t->rounded  ? t->z[static_cast<size_t>(row.label)]
                                       : static_cast<double>(row.z[row.label]);
    t->broken |= std::isnan(z) || z == infinity;
    if (z > max) {
      max = z;
      s[LETHE_STAT_ARGMAX] = static_cast<double>(v);
    }
    if (z > label) s[LETHE_STAT_RANK] += 1;
    if (row.delta == nullptr) continue;
    const double reference = t->rounded ? t->z[v] + t->delta[v] : static_cast<double>(row.z[v] + row.delta[v]);
    if (reference > reference_max) {
      reference_max = reference;
      s[LETHE_STAT_REFERENCE_ARGMAX] = static_cast<double>(v);
    }
  }
  t->broken |= std::isinf(max);
  s[LETHE_STAT_MAX] = t->rounded ? max : max / row.temperature;
}

// `argmax`: the column whose logit counts as the largest for LETHE_ROW_LOGIT_MARGIN, or -1 for the first largest.
inline HeadTwin twin_row(const TwinRow &row, int64_t argmax = -1) {
  HeadTwin t;
  double *s = t.stats;
  t.epsilon = row.epsilon;
  twin_logits(row, &t);
  twin_order(row, &t);
  if (argmax >= 0) s[LETHE_STAT_ARGMAX] = static_cast<double>(argmax);
  if (row.label >= 0) s[LETHE_STAT_LABEL] = t.z[static_cast<size_t>(row.label)];
  t.gradient.assign(t.z.size(), 0);
  if (t.broken) return t;
  const double V = static_cast<double>(row.V);
  double sum = 0;
  for (const double x : t.z) sum += x;
  s[LETHE_STAT_LSE] = twin_lse(t.z);
  s[LETHE_STAT_LSE_OTHERS] = row.label >= 0 ? twin_lse(t.z, row.label) : s[LETHE_STAT_LSE];
  s[LETHE_STAT_MEAN] = row.mean != nullptr ? *row.mean / row.temperature : sum / V;
  for (const double x : t.z) {
    const double log_p = x - s[LETHE_STAT_LSE];
    t.p.push_back(std::exp(log_p));
    s[LETHE_STAT_EZ] += masked_product(t.p.back(), x - s[LETHE_STAT_MAX]);
    s[LETHE_STAT_ELOG2] += masked_product(t.p.back(), log_p * log_p);
  }
  if (row.label >= 0 && !std::isinf(s[LETHE_STAT_LSE_OTHERS])) {
    s[LETHE_STAT_ENTROPY_OTHERS] = twin_entropy(t.z, s[LETHE_STAT_LSE_OTHERS], row.label);
  }
  if (row.delta != nullptr) twin_reference(row.kind, &t);
  if (row.kind == LETHE_ROW_UNIFORM_KL_EPS) {
    double mean_log = 0;
    for (const double p : t.p) {
      t.mean_ratio += p / (p + row.epsilon) / V;
      mean_log += std::log(p + row.epsilon) / V;
    }
    s[LETHE_STAT_KL] = -mean_log - std::log(V);
  }
  for (size_t v = 0; v < t.gradient.size(); ++v) {
    t.gradient[v] = row.coefficient / row.temperature * t.slope[v] * twin_gradient(row.kind, row.label, t, v);
  }
  return t;
}

}  // namespace lethe::test
