// How far a correct row kernel of the head may be from its twin.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "head_twin.h"
#include "tolerance.h"

namespace lethe::test {

// How far a correct kernel may be off, from the roundings named in tolerance.h.
struct HeadBounds {
  double stats[LETHE_STATISTICS] = {};
  std::vector<double> gradient;
};

inline HeadBounds head_bounds(int kind, int64_t label, const HeadTwin &t, double temperature, double coefficient,
                              bool mean_given, double soft_cap, int32_t gradient) {
  using namespace tolerance;
  using namespace tolerance::head;
  HeadBounds b;
  const double *s = t.stats;
  const size_t V = t.z.size();
  const double V_count = static_cast<double>(V);
  const double max = s[LETHE_STAT_MAX];
  double max_error = 0;
  for (size_t v = 0; v < V; ++v) {
    if (t.z[v] + 2 * t.z_error[v] >= max) max_error = std::max(max_error, t.z_error[v]);
  }
  const auto moved = [&](size_t v) { return t.z_error[v] + max_error; };
  const auto argument_error = [](double d) { return kExp + kArgument * std::min(std::fabs(d), 1e6); };
  const auto exp_error = [&](size_t v) { return argument_error(t.z[v] - max) + moved(v); };
  const auto d_of = [&](size_t v) { return t.z[v] - max; };
  double p_sum = kSum, others_sum = kSum, others_ez = 0, others_ez_error = 0, ez = 0, ezz = 0, absolute = 0,
         mean_error = 0;
  const double rest = std::exp(s[LETHE_STAT_LSE_OTHERS] - s[LETHE_STAT_LSE]);
  for (size_t v = 0; v < V; ++v) {
    const double weight = masked_product(t.p[v], exp_error(v));
    p_sum += weight;
    if (static_cast<int64_t>(v) != label) {
      const double q = std::exp(t.z[v] - s[LETHE_STAT_LSE_OTHERS]);
      others_sum += masked_product(q, exp_error(v));
      others_ez += masked_product(q, std::fabs(d_of(v)));
      others_ez_error += masked_product(q, std::fabs(d_of(v)) * exp_error(v) + moved(v));
    }
    ez += masked_product(t.p[v], std::fabs(d_of(v)) * exp_error(v) + moved(v));
    ezz +=
        masked_product(t.p[v], d_of(v) * d_of(v) * (exp_error(v) + 2 * kArgument) + 2 * std::fabs(d_of(v)) * moved(v));
    mean_error += t.z_error[v] / V_count;
    absolute += std::fabs(t.z[v]) / V_count;
  }
  const double at_max = 2 * kUnit * std::fabs(max) + max_error;
  const double log_sum = s[LETHE_STAT_LSE] - max;
  b.stats[LETHE_STAT_LSE] = p_sum + at_max + kUnit * std::fabs(s[LETHE_STAT_LSE]);
  b.stats[LETHE_STAT_LABEL] = 3 * kUnit * std::fabs(s[LETHE_STAT_LABEL]);
  if (label >= 0) b.stats[LETHE_STAT_LABEL] += t.z_error[static_cast<size_t>(label)];
  b.stats[LETHE_STAT_LSE_OTHERS] = others_sum + at_max + 3 * kUnit * std::fabs(s[LETHE_STAT_LSE_OTHERS]);
  b.stats[LETHE_STAT_MEAN] =
      mean_given ? 3 * kUnit * std::fabs(s[LETHE_STAT_MEAN]) : (kSum + 3 * kUnit) * absolute + mean_error;
  const double ez_error = 2 * ez + std::fabs(s[LETHE_STAT_EZ]) * (p_sum + kSum + 4 * kUnit);
  b.stats[LETHE_STAT_EZ] = ez_error;
  b.stats[LETHE_STAT_MAX] = 2 * at_max;
  b.stats[LETHE_STAT_ELOG2] = ezz + 2 * log_sum * ez_error + 2 * (log_sum - s[LETHE_STAT_EZ]) * p_sum +
                              (p_sum + kSum + 8 * kUnit) * 4 * s[LETHE_STAT_ELOG2];

  if (label >= 0) {
    b.stats[LETHE_STAT_ENTROPY_OTHERS] = kTiny + others_sum + 2 * others_ez_error +
                                         others_ez * (others_sum + kSum + 4 * kUnit) +
                                         4 * kUnit * (std::fabs(s[LETHE_STAT_LSE_OTHERS] - max) + 1) + max_error;
  }

  // The reference's side: r's own errors, and those of the shift.
  double r_sum = kSum, shift_error = 0, delta_mean_error = 0, r_max = -std::numeric_limits<double>::infinity();
  const bool reference = !t.delta.empty();
  for (size_t v = 0; reference && v < V; ++v) r_max = std::max(r_max, t.z[v] + t.delta[v]);
  double r_max_error = 0;
  for (size_t v = 0; reference && v < V; ++v) {
    const double error = t.z_error[v] + t.delta_error[v];
    if (t.z[v] + t.delta[v] + 2 * error >= r_max) r_max_error = std::max(r_max_error, error);
  }
  const auto r_moved = [&](size_t v) { return t.z_error[v] + t.delta_error[v] + r_max_error; };
  const auto r_error = [&](size_t v) {
    const double z = t.z[v] + t.delta[v];
    return argument_error(z - r_max) + 3 * kUnit * (std::fabs(z) + std::fabs(r_max)) + r_moved(v);
  };
  if (reference) {
    double near = 0;
    for (size_t v = 0; v < V; ++v) {
      const double e = std::expm1(t.delta[v]);
      r_sum += masked_product(t.r[v], r_error(v));
      near += masked_product(t.p[v], std::fabs(e) * (kSum + exp_error(v)) +
                                         (kShift * std::fabs(t.delta[v]) + t.delta_error[v]) * (1 + std::fabs(e)));
      delta_mean_error +=
          masked_product(t.p[v], std::fabs(t.delta[v]) * (kSum + exp_error(v) + kShift) + t.delta_error[v]);
    }
    double r_ez = 0, r_ez_error = 0;
    for (size_t v = 0; v < V; ++v) {
      const double size = std::fabs(t.z[v] + t.delta[v] - r_max);
      r_ez += masked_product(t.r[v], size);
      r_ez_error +=
          masked_product(t.r[v], size * r_error(v) + 3 * kUnit * (std::fabs(t.z[v]) + std::fabs(r_max)) + r_moved(v));
    }
    b.stats[LETHE_STAT_REFERENCE_ENTROPY] =
        kTiny + r_sum + 2 * r_ez_error + r_ez * (r_sum + kSum + 4 * kUnit) + 4 * kUnit * (r_ez + 1);
    near = 2 * (near + std::fabs(t.ratio) * p_sum);
    const double far =
        p_sum + r_sum + 2 * kUnit * (std::fabs(max) + std::fabs(r_max) + std::fabs(t.shift)) + max_error + r_max_error;
    shift_error = std::fabs(t.ratio) < 0.45 ? near : std::fabs(t.ratio) < 0.55 ? near + far : far;
    delta_mean_error += std::fabs(t.mean_delta) * p_sum;
  }
  const double scale = std::fabs(coefficient) / temperature;
  const double rounding = 4 * kUnit + (gradient == LETHE_BF16 ? kBf16Unit : 0);
  double kl = 0, ratio_error = kSum, log_error = 0, log_size = 0;
  for (size_t v = 0; v < V; ++v) {
    const double p = t.p[v], d = d_of(v), p_error = masked_product(p, exp_error(v) + p_sum);
    const double delta = reference ? std::fabs(t.delta[v]) : 0;
    const double x = reference ? t.delta[v] - t.shift : 0;
    const double x_error = kShift * (delta + std::fabs(t.shift)) + shift_error + (reference ? t.delta_error[v] : 0);
    const double r_absolute = reference ? masked_product(t.r[v], r_error(v) + r_sum) : 0;
    double g = 0;
    switch (kind) {
      case LETHE_ROW_NLL:
        g = static_cast<int64_t>(v) == label ? rest * (others_sum + p_sum) : p_error;
        break;
      case LETHE_ROW_UNIFORM_KL:
        g = p_error + 2 * kUnit / V_count;
        break;
      case LETHE_ROW_LOGIT_MARGIN:
        g = 4 * kUnit;
        break;
      case LETHE_ROW_UNIFORM_KL_EPS: {
        // q = p / (p + epsilon) moves with p by epsilon / (p + epsilon)^2, log(p + epsilon) by 1 / (p + epsilon).
        const double q = p / (p + t.epsilon);
        const double q_error = p_error * t.epsilon / ((p + t.epsilon) * (p + t.epsilon)) + 4 * kUnit * q;
        ratio_error += q_error / V_count;
        log_error += p_error / (p + t.epsilon) / V_count;
        log_size += std::log1p(p / t.epsilon) / V_count;
        g = p_error * t.mean_ratio + (q_error + 4 * kUnit * q) / V_count + 4 * kUnit * p;
        break;
      }
      case LETHE_ROW_KL_UNIFORM:
        g = masked_product(p_error, std::fabs(d - s[LETHE_STAT_EZ])) +
            masked_product(p, kArgument * std::fabs(d) + ez_error + moved(v));
        break;
      case LETHE_ROW_REFERENCE_KL:
      case LETHE_ROW_KL_REFERENCE: {
        const double near = p_error * std::fabs(std::expm1(x)) + p * std::exp(x) * (x_error + kExp * std::fabs(x));
        const double far = p_error + r_absolute;
        const double size = std::fabs(x);
        g = size < 0.45 ? near : size < 0.55 ? near + far : far;
        const double term = std::fabs(t.r[v] * x) + std::fabs(p * x) + t.r[v] + p;
        kl += size < 0.55 ? p * std::fabs(std::expm1(x)) * x_error + 2 * x * x * (p_error + kExp * p) : 0;
        kl += size > 0.45 ? (p_error + r_absolute) * (1 + size) + (p + t.r[v]) * x_error + 2 * kExp * term : 0;
        if (kind == LETHE_ROW_KL_REFERENCE) {
          g = p_error * std::fabs(t.mean_delta - t.delta[v]) +
              p * (kShift * (delta + std::fabs(t.mean_delta)) + delta_mean_error + t.delta_error[v]);
        }
        break;
      }
      default:
        break;
    }
    // The cap's slope is off by eight units, however flat it is, and by what moves its logit.
    const double slope_error = t.slope[v] == 1 ? 0 : 8 * kUnit + 2 * t.z_error[v] * temperature / soft_cap;
    const double direction = t.slope[v] == 0 ? 1 : std::fabs(t.gradient[v]) / (scale * t.slope[v] + kTiny);
    b.gradient.push_back(scale * (g * (t.slope[v] + slope_error) + slope_error * direction) * (1 + rounding) +
                         rounding * std::fabs(t.gradient[v]) + (1 + scale) * kTiny);
  }
  if (kind == LETHE_ROW_UNIFORM_KL_EPS) {
    kl = log_error + (kSum + 8 * kUnit) * log_size + 4 * kUnit * (std::fabs(std::log(t.epsilon)) + std::log(V_count));
    for (size_t v = 0; v < V; ++v) b.gradient[v] += scale * t.p[v] * (ratio_error + kSum * t.mean_ratio);
  }
  b.stats[LETHE_STAT_EZ] += kTiny;
  b.stats[LETHE_STAT_ELOG2] += kTiny;
  b.stats[LETHE_STAT_KL] = kTiny + kl + shift_error * shift_error + (kSum + 4 * kUnit) * std::fabs(s[LETHE_STAT_KL]);
  return b;
}

}  // namespace lethe::test
