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
Number twin_value(int kind, int64_t label, const std::vector<Number> &z, const std::vector<Number> &reference) {
  const double V = static_cast<double>(z.size());
  const Number lse = twin_lse(z);
  Number value(0);
  switch (kind) {
    case LETHE_ROW_NLL:
      return lse - z[static_cast<size_t>(label)];
    case LETHE_ROW_UNIFORM_KL:
      for (const Number &x : z) value -= (x - lse) / V;
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

struct HeadTwin {
  double stats[LETHE_STATISTICS] = {};
  std::vector<double> gradient;  // with respect to the logits before the temperature, times the coefficient
  // What the bounds are made of: logits and logarithms over the temperature.
  std::vector<double> z, delta, p, r;
  double shift = 0, ratio = 0;  // logsumexp(z + delta) - logsumexp(z), and expm1 of it
  double mean_delta = 0;        // E_p[delta]
  bool broken = false;          // a NaN, a +inf, or nothing but -inf
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

// `mean`: the mean logit, or null. delta: null for kinds without a reference.
inline HeadTwin twin_row(int kind, int64_t label, int64_t V, const float *z, const float *delta, double temperature,
                         const float *mean, double coefficient) {
  HeadTwin t;
  double *s = t.stats;
  double sum = 0;
  float max = -std::numeric_limits<float>::infinity(), reference_max = max;
  for (int64_t v = 0; v < V; ++v) {
    t.z.push_back(z[v] / temperature);
    sum += t.z.back();
    t.broken |= std::isnan(z[v]) || z[v] == std::numeric_limits<float>::infinity();
    if (z[v] > max) {
      max = z[v];
      s[LETHE_STAT_ARGMAX] = static_cast<double>(v);
    }
    if (label >= 0 && z[v] > z[label]) s[LETHE_STAT_RANK] += 1;
    if (delta == nullptr) continue;
    t.delta.push_back(delta[v] / temperature);
    if (z[v] + delta[v] > reference_max) {
      reference_max = z[v] + delta[v];
      s[LETHE_STAT_REFERENCE_ARGMAX] = static_cast<double>(v);
    }
  }
  t.broken |= std::isinf(max);
  if (label >= 0) s[LETHE_STAT_LABEL] = z[label] / temperature;
  t.gradient.assign(static_cast<size_t>(V), 0);
  if (t.broken) return t;
  s[LETHE_STAT_LSE] = twin_lse(t.z);
  s[LETHE_STAT_LSE_OTHERS] = label >= 0 ? twin_lse(t.z, label) : s[LETHE_STAT_LSE];
  s[LETHE_STAT_MEAN] = mean != nullptr ? *mean / temperature : sum / static_cast<double>(V);
  s[LETHE_STAT_MAX] = max / temperature;
  for (const double x : t.z) {
    const double log_p = x - s[LETHE_STAT_LSE];
    t.p.push_back(std::exp(log_p));
    s[LETHE_STAT_EZ] += masked_product(t.p.back(), x - s[LETHE_STAT_MAX]);
    s[LETHE_STAT_ELOG2] += masked_product(t.p.back(), log_p * log_p);
  }
  if (label >= 0 && !std::isinf(s[LETHE_STAT_LSE_OTHERS])) {
    s[LETHE_STAT_ENTROPY_OTHERS] = twin_entropy(t.z, s[LETHE_STAT_LSE_OTHERS], label);
  }
  if (delta != nullptr) twin_reference(kind, &t);
  for (size_t v = 0; v < t.gradient.size(); ++v) {
    t.gradient[v] = coefficient / temperature * twin_gradient(kind, label, t, v);
  }
  return t;
}

}  // namespace lethe::test
