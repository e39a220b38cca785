// Attention's scalar twin: plain loops over one segment list, templated on the number type, with the magnitudes from
// which first-order error bounds follow.
#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <vector>

#include "kernel_test.h"

namespace attention_twin {

struct Problem {
  int64_t heads, kv_heads, head_dim;
  double scale;
  std::vector<std::vector<int32_t>> segments;
  int64_t q_rows, k_rows;
  int64_t window = 0;
  double soft_cap = 0;

  int64_t q_size() const { return q_rows * heads * head_dim; }
  int64_t k_size() const { return k_rows * kv_heads * head_dim; }
  // Rows of keys that query i of a segment sees, parent first.
  std::vector<int64_t> keys(const std::vector<int32_t> &segment, int64_t i) const {
    std::vector<int64_t> rows;
    for (int64_t j = 0; j < segment[5]; ++j) rows.push_back(segment[4] + j);
    for (int64_t j = 0; j <= segment[3] - segment[1] + i; ++j) rows.push_back(segment[2] + j);
    const auto count = static_cast<int64_t>(rows.size());
    if (window > 0 && count > window) rows.erase(rows.begin(), rows.begin() + (count - window));
    return rows;
  }
  size_t q_at(int64_t row, int64_t head) const { return static_cast<size_t>((row * heads + head) * head_dim); }
  size_t k_at(int64_t row, int64_t head) const {
    return static_cast<size_t>((row * kv_heads + head / (heads / kv_heads)) * head_dim);
  }
  // Calls body(query row, head, key rows) for every query.
  template <class Body>
  void for_each(Body &&body) const {
    for (const auto &segment : segments) {
      for (int64_t i = 0; i < segment[1]; ++i) {
        const std::vector<int64_t> rows = keys(segment, i);
        for (int64_t h = 0; h < heads; ++h) body(segment[0] + i, h, rows);
      }
    }
  }
};

template <class N>
N dot(const N *a, const N *b, int64_t n) {
  N sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}
inline double magnitude(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::fabs(a[i] * b[i]);
  return sum;
}

// The softmax of one query's scores, and their logsumexp; the scores before the cap when `scores` is given.
template <class N>
std::vector<N> softmax(const Problem &p, const N *q, const N *k, const std::vector<int64_t> &rows, int64_t head, N *lse,
                       std::vector<N> *scores = nullptr) {
  using std::exp;
  using std::log;
  using std::tanh;
  std::vector<N> weight;
  double largest = -1e300;
  for (const int64_t row : rows) {
    weight.push_back(dot(q, k + p.k_at(row, head), p.head_dim) * p.scale);
    if (scores != nullptr) scores->push_back(weight.back());
    if (p.soft_cap > 0) weight.back() = p.soft_cap * tanh(weight.back() / p.soft_cap);
    largest = std::max(largest, std::real(weight.back()));
  }
  N sum = 0;
  for (N &w : weight) sum += w = exp(w - largest);
  for (N &w : weight) w /= sum;
  *lse = log(sum) + largest;
  return weight;
}

template <class N>
std::vector<N> forward(const Problem &p, const std::vector<N> &q, const std::vector<N> &k, const std::vector<N> &v) {
  std::vector<N> out(static_cast<size_t>(p.q_size()));
  p.for_each([&](int64_t query, int64_t head, const std::vector<int64_t> &rows) {
    N lse;
    const std::vector<N> weight = softmax(p, q.data() + p.q_at(query, head), k.data(), rows, head, &lse);
    for (size_t j = 0; j < rows.size(); ++j) {
      for (int64_t d = 0; d < p.head_dim; ++d) {
        out[p.q_at(query, head) + static_cast<size_t>(d)] +=
            weight[j] * v[p.k_at(rows[j], head) + static_cast<size_t>(d)];
      }
    }
  });
  return out;
}

// Values with a bound on the kernel's distance from each.
struct Bounded {
  std::vector<double> value, bound;
  explicit Bounded(int64_t n) : value(static_cast<size_t>(n)), bound(static_cast<size_t>(n)) {}
};

struct Results {
  Bounded out, lse, dq, dk, dv;
  std::vector<bool> query_used, key_used;
};

// Everything in fp64, with bounds for fp32 arithmetic on storage of unit `storage`, on tensor cores where they are said
// to do the products.
inline Results solve(const Problem &p, const std::vector<double> &q, const std::vector<double> &k,
                     const std::vector<double> &v, const std::vector<double> &dout, double storage,
                     bool tensor_cores = false) {
  namespace bound = lethe::tolerance::attention;
  Results r = {Bounded(p.q_size()),
               Bounded(p.q_rows * p.heads),
               Bounded(p.q_size()),
               Bounded(p.k_size()),
               Bounded(p.k_size()),
               {},
               {}};
  r.query_used.resize(static_cast<size_t>(p.q_rows));
  r.key_used.resize(static_cast<size_t>(p.k_rows));
  const int64_t n_dim = p.head_dim;
  const double cut = tensor_cores ? bound::kCut : 1, operand = tensor_cores ? bound::kOperand : 0;
  const double dot_error = cut * bound::chain(static_cast<double>(n_dim));
  // How many products a key's gradient sums.
  const double queries = static_cast<double>(p.q_rows * p.heads);
  p.for_each([&](int64_t query, int64_t head, const std::vector<int64_t> &rows) {
    const size_t at = p.q_at(query, head);
    const auto n = static_cast<double>(rows.size());
    double lse = 0;
    std::vector<double> scores;
    const std::vector<double> weight = softmax(p, q.data() + at, k.data(), rows, head, &lse, &scores);
    double score_error = 0;
    for (const int64_t row : rows) {
      const double size = p.scale * magnitude(q.data() + at, k.data() + p.k_at(row, head), n_dim);
      score_error = std::max(score_error, cut * bound::score(static_cast<double>(n_dim)) * size);
    }
    const double raw_error = score_error;
    if (p.soft_cap > 0) score_error += lethe::tolerance::head::kTanh * p.soft_cap;
    const double lse_error = score_error + bound::weights(n) + lethe::tolerance::kUnit * std::fabs(lse);
    r.lse.value[static_cast<size_t>(query * p.heads + head)] = lse;
    r.lse.bound[static_cast<size_t>(query * p.heads + head)] = lse_error;
    const double weight_error = score_error + lse_error + cut * bound::weights(n);
    double delta = 0, delta_error = 0;
    for (size_t d = 0; d < static_cast<size_t>(n_dim); ++d) {
      double out = 0, size = 0;
      for (size_t j = 0; j < rows.size(); ++j) {
        const double product = weight[j] * v[p.k_at(rows[j], head) + d];
        out += product;
        size += std::fabs(product);
      }
      const double error = (weight_error + operand) * size + storage * std::fabs(out);
      r.out.value[at + d] = out;
      r.out.bound[at + d] = error;
      delta += dout[at + d] * out;
      delta_error += std::fabs(dout[at + d]) * (error + bound::chain(static_cast<double>(n_dim)) * std::fabs(out));
    }
    for (size_t j = 0; j < rows.size(); ++j) {
      const size_t key = p.k_at(rows[j], head);
      const double dp = dot(dout.data() + at, v.data() + key, n_dim);
      const double dp_error = dot_error * magnitude(dout.data() + at, v.data() + key, n_dim);
      const double t = p.soft_cap > 0 ? std::tanh(scores[j] / p.soft_cap) : 0;
      const double slope = (1 - t) * (1 + t);
      const double capped = weight[j] * (dp - delta), ds = capped * slope;
      const double slope_error = p.soft_cap > 0 ? 8 * lethe::tolerance::kUnit + 2 * raw_error / p.soft_cap : 0;
      const double ds_error = (weight_error * std::fabs(capped) + weight[j] * (dp_error + delta_error)) * slope +
                              std::fabs(capped) * slope_error;
      const double dq_chain = cut * bound::chain(n) + operand, key_chain = cut * bound::chain(queries) + operand;
      for (size_t d = 0; d < static_cast<size_t>(n_dim); ++d) {
        r.dq.value[at + d] += p.scale * ds * k[key + d];
        r.dq.bound[at + d] += p.scale * std::fabs(k[key + d]) * (ds_error + dq_chain * std::fabs(ds));
        r.dk.value[key + d] += p.scale * ds * q[at + d];
        r.dk.bound[key + d] += p.scale * std::fabs(q[at + d]) * (ds_error + key_chain * std::fabs(ds));
        r.dv.value[key + d] += weight[j] * dout[at + d];
        r.dv.bound[key + d] += std::fabs(weight[j] * dout[at + d]) * (weight_error + key_chain);
      }
      r.key_used[static_cast<size_t>(rows[j])] = true;
    }
    r.query_used[static_cast<size_t>(query)] = true;
  });
  for (Bounded *b : {&r.dq, &r.dk, &r.dv}) {
    for (size_t i = 0; i < b->value.size(); ++i) b->bound[i] += storage * std::fabs(b->value[i]);
  }
  return r;
}

// The fp64 gradients against the complex step of sum(dout * out).
inline void check_gradients(const Problem &p) {
  using C = std::complex<double>;
  kernel_test::Random random(99);
  const auto draw = [&](int64_t n) {
    const std::vector<float> x = random.many(n, 1.0f, LETHE_F32);
    return std::vector<double>(x.begin(), x.end());
  };
  const std::vector<double> q = draw(p.q_size()), k = draw(p.k_size()), v = draw(p.k_size()), dout = draw(p.q_size());
  const Results r = solve(p, q, k, v, dout, 0);
  std::vector<C> z[3] = {{q.begin(), q.end()}, {k.begin(), k.end()}, {v.begin(), v.end()}};
  const Bounded *gradients[3] = {&r.dq, &r.dk, &r.dv};
  constexpr double kStep = 1e-100;
  for (int which = 0; which < 3; ++which) {
    double largest = 0;
    for (const double g : gradients[which]->value) largest = std::max(largest, std::fabs(g));
    for (size_t i = 0; i < z[which].size(); ++i) {
      const C kept = z[which][i];
      z[which][i] += C(0, kStep);
      const std::vector<C> out = forward(p, z[0], z[1], z[2]);
      z[which][i] = kept;
      double slope = 0;
      for (size_t j = 0; j < out.size(); ++j) slope += dout[j] * out[j].imag() / kStep;
      kernel_test::expect(
          std::fabs(slope - gradients[which]->value[i]) <= lethe::tolerance::attention::kComplexStep * largest,
          "the twin's gradient is its complex step");
    }
  }
}

}  // namespace attention_twin
