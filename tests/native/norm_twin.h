// The fp64 twin of the norms, and how far fp32 may be off from it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel_test.h"
#include "lethe.h"
#include "tolerance.h"

namespace norm_twin {

namespace tolerance = lethe::tolerance;

constexpr float kEps = 1e-5f;

inline std::vector<double> widened(const std::vector<float> &x) { return {x.begin(), x.end()}; }

template <class N>
struct Normed {
  std::vector<N> n;
  N mean, rstd;
};

// One vector's (x - mean) rstd.
template <class N>
Normed<N> normed(int32_t kind, const N *x, int64_t d) {
  using std::sqrt;
  Normed<N> r = {std::vector<N>(x, x + d), N(0), N(0)};
  const auto width = static_cast<double>(d);
  for (int64_t i = 0; kind == LETHE_NORM_LAYER && i < d; ++i) r.mean += x[i] / width;
  N square(0);
  for (N &v : r.n) {
    v -= r.mean;
    square += v * v / width;
  }
  r.rstd = 1.0 / sqrt(square + static_cast<double>(kEps));
  for (N &v : r.n) v *= r.rstd;
  return r;
}

// dx of one vector.
inline std::vector<double> gradient(int32_t kind, const Normed<double> &x, const double *dy, const double *w,
                                    double shift) {
  const size_t d = x.n.size();
  const auto width = static_cast<double>(d);
  double g_mean = 0, gn_mean = 0;
  for (size_t i = 0; i < d; ++i) {
    const double g = dy[i] * (w[i] + shift);
    if (kind == LETHE_NORM_LAYER) g_mean += g / width;
    gn_mean += g * x.n[i] / width;
  }
  std::vector<double> dx(d);
  for (size_t i = 0; i < d; ++i) dx[i] = x.rstd * (dy[i] * (w[i] + shift) - g_mean - x.n[i] * gn_mean);
  return dx;
}

// How far the kernel's n, rstd and dx may be off.
struct Errors {
  double n, rstd;  // n absolute, rstd relative
};
inline Errors errors(int32_t kind, const Normed<double> &x, const double *values) {
  const auto d = static_cast<double>(x.n.size());
  double size = 0;
  for (size_t i = 0; i < x.n.size(); ++i) size = std::max(size, std::fabs(values[i]));
  // The mean is off by the units of its sum, which x - mean inherits.
  const double mean_error = kind == LETHE_NORM_LAYER ? tolerance::norm::sum(d) * size : 0;
  const double rstd = tolerance::norm::sum(d) + mean_error * x.rstd;
  return {(mean_error + tolerance::kUnit * size) * x.rstd + rstd, rstd};
}

// What the backward pass of many vectors gives, with bounds.
struct Gradients {
  std::vector<double> dx, dx_bound, dw, dw_bound, db, db_bound;

  // Sums that start with what stood there.
  Gradients(std::vector<double> dw_before, std::vector<double> db_before)
      : dw(std::move(dw_before)),
        dw_bound(dw.size()),
        db(std::move(db_before)),
        db_bound(db.size()),
        dw_size_(dw.size()),
        db_size_(db.size()) {
    for (size_t i = 0; i < dw.size(); ++i) {
      dw_size_[i] = std::fabs(dw[i]);
      db_size_[i] = std::fabs(db[i]);
    }
  }

  // One vector; the kernel's own dy may be off by dy_error.
  void add(int32_t kind, const Normed<double> &n, const Errors &error, const double *dy, const double *dy_error,
           const double *w, double shift, double unit) {
    const size_t d = n.n.size();
    const double kUnit = tolerance::kUnit;
    const std::vector<double> exact = gradient(kind, n, dy, w, shift);
    double g_size = 0, g_sum = 0, gn_sum = 0, moved = 0, moved_n = 0;
    for (size_t i = 0; i < d; ++i) {
      const double g = std::fabs(dy[i] * (w[i] + shift));
      g_size = std::max(g_size, g);
      g_sum += g / static_cast<double>(d);
      gn_sum += g * std::fabs(n.n[i]) / static_cast<double>(d);
      const double g_error = dy_error[i] * std::fabs(w[i] + shift);
      moved += g_error / static_cast<double>(d);
      moved_n += g_error * std::fabs(n.n[i]) / static_cast<double>(d);
    }
    const double sum = tolerance::norm::sum(static_cast<double>(d));
    for (size_t i = 0; i < d; ++i) {
      const double terms = g_size + g_sum + std::fabs(n.n[i]) * gn_sum;
      const double inherited = dy_error[i] * std::fabs(w[i] + shift) + moved + std::fabs(n.n[i]) * moved_n;
      dx.push_back(exact[i]);
      dx_bound.push_back(n.rstd * ((sum + 2 * error.rstd + 8 * kUnit) * terms +
                                   error.n * (gn_sum + std::fabs(n.n[i]) * g_sum) + inherited) +
                         unit * std::fabs(exact[i]));
      dw[i] += dy[i] * n.n[i];
      dw_size_[i] += std::fabs(dy[i] * n.n[i]);
      dw_bound[i] +=
          std::fabs(dy[i]) * (error.n + (error.rstd + 4 * kUnit) * std::fabs(n.n[i])) + dy_error[i] * std::fabs(n.n[i]);
      db[i] += dy[i];
      db_size_[i] += std::fabs(dy[i]);
      db_bound[i] += dy_error[i];
    }
  }

  // After the last vector: what the sums' own roundings may do.
  void finish(double vectors) {
    for (size_t i = 0; i < dw.size(); ++i) {
      dw_bound[i] += tolerance::norm::sum(vectors) * dw_size_[i];
      db_bound[i] += tolerance::norm::sum(vectors) * db_size_[i];
    }
  }

 private:
  std::vector<double> dw_size_, db_size_;
};

inline void compare(const std::string &what, const std::vector<float> &got, const std::vector<double> &want,
                    const std::vector<double> &bound) {
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::fabs(got[i] - want[i]);
    // Millions of texts that nobody reads take their time.
    const bool close = error <= bound[i];
    kernel_test::expect(close, close ? std::string()
                                     : what + "[" + std::to_string(i) + "]: " + std::to_string(got[i]) + " is not " +
                                           std::to_string(want[i]) + ", off by " + std::to_string(error / bound[i]) +
                                           " of its bound");
  }
}

}  // namespace norm_twin
