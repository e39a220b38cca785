// Runs the case list through a backend's row kernel and compares with the twin; every buffer stands between canaries.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>

#include "head_cases.h"
#include "head_twin.h"
#include "tolerance.h"

namespace lethe::test {

// What a backend's row kernel is given. All pointers lie in [arena, arena + arena_bytes) unless that is null; a device
// copies the arena there and back and shifts the pointers.
struct HeadLaunch {
  int64_t rows, V, ld;
  float *z;                  // [rows, ld]
  const float *delta;        // [references, ld] or null
  const int32_t *delta_of;   // [rows]
  const int32_t *records;    // [rows, LETHE_ROW_FIELDS]
  const float *row_params;   // [rows, LETHE_ROW_PARAMS] or null
  const float *means;        // [rows] or null
  const float *coefficient;  // [rows] or null
  float *stats;              // [rows, LETHE_STATISTICS]
  int32_t gradient;          // LETHE_F32, LETHE_BF16, or LETHE_I32 for none
  char *arena;
  int64_t arena_bytes;
};
using HeadKernel = std::function<void(const HeadLaunch &)>;

// Buffers side by side in one arena with canaries between them, or, for a sanitizer that watches their ends itself,
// each in an allocation of its own.
class Buffers {
 public:
  explicit Buffers(bool separate) : separate_(separate) {
    if (!separate) arena_.reset(static_cast<char *>(std::aligned_alloc(64, kArena)));
  }

  template <class T>
  T *add(const std::vector<T> &content, int64_t offset = 0) {
    const size_t bytes = content.size() * sizeof(T);
    const size_t shift = static_cast<size_t>(offset) * sizeof(T);
    char *at;
    if (separate_) {
      own_.emplace_back(static_cast<char *>(std::malloc(shift + bytes + (shift + bytes == 0 ? 1 : 0))));
      at = own_.back().get() + shift;
    } else {
      const size_t begin = (used_ + 63) / 64 * 64 + 64 + shift;
      if (begin + bytes + 64 > kArena) std::abort();
      at = arena_.get() + begin;
      std::memset(arena_.get() + used_, kCanary, begin - used_);
      std::memset(at + bytes, kCanary, 64);
      ranges_.push_back({begin, begin + bytes});
      used_ = begin + bytes;
    }
    if (bytes > 0) std::memcpy(at, content.data(), bytes);
    return reinterpret_cast<T *>(at);
  }

  char *arena() { return arena_.get(); }
  int64_t arena_bytes() const { return separate_ ? 0 : static_cast<int64_t>(used_ + 64); }
  bool canaries_alive() const {
    size_t from = 0;
    for (const auto &range : ranges_) {
      if (!alive(from, range.first)) return false;
      from = range.second;
    }
    return separate_ || alive(from, used_ + 64);
  }

 private:
  static constexpr size_t kArena = size_t{32} << 20;
  static constexpr int kCanary = 0xA5;
  struct Free {
    void operator()(char *p) const { std::free(p); }
  };
  bool alive(size_t from, size_t to) const {
    for (; from < to; ++from) {
      if (arena_.get()[from] != static_cast<char>(kCanary)) return false;
    }
    return true;
  }
  bool separate_;
  std::unique_ptr<char, Free> arena_;
  std::vector<std::unique_ptr<char, Free>> own_;
  std::vector<std::pair<size_t, size_t>> ranges_;
  size_t used_ = 0;
};

// How far a correct kernel may be off, from the roundings named in tolerance.h.
struct HeadBounds {
  double stats[LETHE_STATISTICS] = {};
  std::vector<double> gradient;
};

inline HeadBounds head_bounds(int kind, int64_t label, const HeadTwin &t, double temperature, double coefficient,
                              bool mean_given, int32_t gradient) {
  using namespace tolerance;
  using namespace tolerance::head;
  HeadBounds b;
  const double *s = t.stats;
  const size_t V = t.z.size();
  const double V_count = static_cast<double>(V);
  const double max = s[LETHE_STAT_MAX];
  const auto exp_error = [](double d) { return kExp + kArgument * std::min(std::fabs(d), 1e6); };
  const auto d_of = [&](size_t v) { return t.z[v] - max; };
  double p_sum = kSum, others_sum = kSum, others_ez = 0, others_ez_error = 0, ez = 0, ezz = 0, absolute = 0;
  const double rest = std::exp(s[LETHE_STAT_LSE_OTHERS] - s[LETHE_STAT_LSE]);
  for (size_t v = 0; v < V; ++v) {
    const double weight = masked_product(t.p[v], exp_error(d_of(v)));
    p_sum += weight;
    if (static_cast<int64_t>(v) != label) {
      const double q = std::exp(t.z[v] - s[LETHE_STAT_LSE_OTHERS]);
      others_sum += masked_product(q, exp_error(d_of(v)));
      others_ez += masked_product(q, std::fabs(d_of(v)));
      others_ez_error += masked_product(q, std::fabs(d_of(v)) * exp_error(d_of(v)));
    }
    ez += masked_product(t.p[v], std::fabs(d_of(v)) * exp_error(d_of(v)));
    ezz += masked_product(t.p[v], d_of(v) * d_of(v) * (exp_error(d_of(v)) + 2 * kArgument));
    absolute += std::fabs(t.z[v]) / V_count;
  }
  const double at_max = 2 * kUnit * std::fabs(max);
  const double log_sum = s[LETHE_STAT_LSE] - max;
  b.stats[LETHE_STAT_LSE] = p_sum + at_max + kUnit * std::fabs(s[LETHE_STAT_LSE]);
  b.stats[LETHE_STAT_LABEL] = 3 * kUnit * std::fabs(s[LETHE_STAT_LABEL]);
  b.stats[LETHE_STAT_LSE_OTHERS] = others_sum + at_max + 3 * kUnit * std::fabs(s[LETHE_STAT_LSE_OTHERS]);
  b.stats[LETHE_STAT_MEAN] = mean_given ? 3 * kUnit * std::fabs(s[LETHE_STAT_MEAN]) : (kSum + 3 * kUnit) * absolute;
  const double ez_error = 2 * ez + std::fabs(s[LETHE_STAT_EZ]) * (p_sum + kSum + 4 * kUnit);
  b.stats[LETHE_STAT_EZ] = ez_error;
  b.stats[LETHE_STAT_MAX] = 2 * at_max;
  b.stats[LETHE_STAT_ELOG2] = ezz + 2 * log_sum * ez_error + 2 * (log_sum - s[LETHE_STAT_EZ]) * p_sum +
                              (p_sum + kSum + 8 * kUnit) * 4 * s[LETHE_STAT_ELOG2];

  if (label >= 0) {
    b.stats[LETHE_STAT_ENTROPY_OTHERS] = kTiny + others_sum + 2 * others_ez_error +
                                         others_ez * (others_sum + kSum + 4 * kUnit) +
                                         4 * kUnit * (std::fabs(s[LETHE_STAT_LSE_OTHERS] - max) + 1);
  }

  // The reference's side: r's own errors, and those of the shift.
  double r_sum = kSum, shift_error = 0, mean_error = 0, r_max = -std::numeric_limits<double>::infinity();
  const bool reference = !t.delta.empty();
  for (size_t v = 0; reference && v < V; ++v) r_max = std::max(r_max, t.z[v] + t.delta[v]);
  const auto r_error = [&](size_t v) {
    const double z = t.z[v] + t.delta[v];
    return exp_error(z - r_max) + 3 * kUnit * (std::fabs(z) + std::fabs(r_max));
  };
  if (reference) {
    double near = 0;
    for (size_t v = 0; v < V; ++v) {
      const double e = std::expm1(t.delta[v]);
      r_sum += masked_product(t.r[v], r_error(v));
      near += masked_product(
          t.p[v], std::fabs(e) * (kSum + exp_error(d_of(v))) + kShift * std::fabs(t.delta[v]) * (1 + std::fabs(e)));
      mean_error += masked_product(t.p[v], std::fabs(t.delta[v]) * (kSum + exp_error(d_of(v)) + kShift));
    }
    double r_ez = 0, r_ez_error = 0;
    for (size_t v = 0; v < V; ++v) {
      const double size = std::fabs(t.z[v] + t.delta[v] - r_max);
      r_ez += masked_product(t.r[v], size);
      r_ez_error += masked_product(t.r[v], size * r_error(v) + 3 * kUnit * (std::fabs(t.z[v]) + std::fabs(r_max)));
    }
    b.stats[LETHE_STAT_REFERENCE_ENTROPY] =
        kTiny + r_sum + 2 * r_ez_error + r_ez * (r_sum + kSum + 4 * kUnit) + 4 * kUnit * (r_ez + 1);
    near = 2 * (near + std::fabs(t.ratio) * p_sum);
    const double far = p_sum + r_sum + 2 * kUnit * (std::fabs(max) + std::fabs(r_max) + std::fabs(t.shift));
    shift_error = std::fabs(t.ratio) < 0.45 ? near : std::fabs(t.ratio) < 0.55 ? near + far : far;
    mean_error += std::fabs(t.mean_delta) * p_sum;
  }
  const double scale = std::fabs(coefficient) / temperature;
  const double rounding = 4 * kUnit + (gradient == LETHE_BF16 ? kBf16Unit : 0);
  double kl = 0;
  for (size_t v = 0; v < V; ++v) {
    const double p = t.p[v], d = d_of(v), p_error = masked_product(p, exp_error(d) + p_sum);
    const double delta = reference ? std::fabs(t.delta[v]) : 0;
    const double x = reference ? t.delta[v] - t.shift : 0;
    const double x_error = kShift * (delta + std::fabs(t.shift)) + shift_error;
    const double r_absolute = reference ? masked_product(t.r[v], r_error(v) + r_sum) : 0;
    double g = 0;
    switch (kind) {
      case LETHE_ROW_NLL:
        g = static_cast<int64_t>(v) == label ? rest * (others_sum + p_sum) : p_error;
        break;
      case LETHE_ROW_UNIFORM_KL:
        g = p_error + 2 * kUnit / V_count;
        break;
      case LETHE_ROW_KL_UNIFORM:
        g = masked_product(p_error, std::fabs(d - s[LETHE_STAT_EZ])) +
            masked_product(p, kArgument * std::fabs(d) + ez_error);
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
              p * (kShift * (delta + std::fabs(t.mean_delta)) + mean_error);
        }
        break;
      }
      default:
        break;
    }
    b.gradient.push_back(scale * g * (1 + rounding) + rounding * std::fabs(t.gradient[v]) + (1 + scale) * kTiny);
  }
  b.stats[LETHE_STAT_EZ] += kTiny;
  b.stats[LETHE_STAT_ELOG2] += kTiny;
  b.stats[LETHE_STAT_KL] = kTiny + kl + shift_error * shift_error + (kSum + 4 * kUnit) * s[LETHE_STAT_KL];
  return b;
}

inline float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float f;
  std::memcpy(&f, &wide, sizeof f);
  return f;
}

class HeadChecker {
 public:
  HeadChecker(const char *what, bool separate) : what_(what), separate_(separate) {}

  // Every `stride`-th of the cases; the list turns through its kinds of logits by tens.
  void run(const HeadKernel &kernel, bool full, size_t stride = 1) {
    const std::vector<HeadCase> cases = head_cases(full);
    for (size_t i = 0; i < cases.size(); i += stride) {
      for (const int32_t gradient : {LETHE_F32, LETHE_BF16, LETHE_I32}) run_case(kernel, cases[i], gradient);
    }
  }

  // A line a script can read, and the exit status.
  int report() const {
    if (failed_ > 0) {
      std::printf("%s: FAILED %ld of %ld cases\n", what_, failed_, cases_);
      return 1;
    }
    std::printf("%s: %ld cases passed; largest error %.2f of its bound\n", what_, cases_, worst_);
    return cases_ > 0 ? 0 : 1;
  }
  long failed() const { return failed_; }

 private:
  void run_case(const HeadKernel &kernel, const HeadCase &c, int32_t gradient) {
    const HeadData data = make_head_data(c);
    Buffers buffers(separate_);
    HeadLaunch l = {};
    l.rows = c.rows;
    l.V = c.V;
    l.ld = c.ld();
    l.z = buffers.add(data.z, c.offset);
    l.delta = data.delta.empty() ? nullptr : buffers.add(data.delta, c.offset);
    l.delta_of = buffers.add(data.delta_of);
    l.records = buffers.add(data.records);
    l.row_params = data.row_params.empty() ? nullptr : buffers.add(data.row_params);
    l.means = data.means.empty() ? nullptr : buffers.add(data.means);
    l.coefficient = data.coefficient.empty() ? nullptr : buffers.add(data.coefficient);
    l.stats = buffers.add(std::vector<float>(static_cast<size_t>(c.rows * LETHE_STATISTICS), -77.0f));
    l.gradient = gradient;
    l.arena = buffers.arena();
    l.arena_bytes = buffers.arena_bytes();
    ++cases_;
    before_ = failed_;
    name_ = c.name + (gradient == LETHE_BF16 ? " bf16" : gradient == LETHE_F32 ? " f32" : " none");
    kernel(l);
    if (!buffers.canaries_alive()) fail(-1, "a canary died", 0, 0, 0);
    for (int64_t row = 0; row < c.rows; ++row) check_row(c, data, l, row);
  }

  void fail(int64_t row, const std::string &what, double seen, double expected, double bound) {
    if (failed_ == before_) {
      ++failed_;
      if (failed_ <= 20) {
        std::printf("%s: %s: row %ld: %s is %.9g, expected %.9g +- %.3g\n", what_, name_.c_str(),
                    static_cast<long>(row), what.c_str(), seen, expected, bound);
      }
    }
  }

  void compare(int64_t row, const char *what, int64_t index, double seen, double expected, double bound) {
    if (seen == expected || (std::isnan(seen) && std::isnan(expected))) return;
    const double error = std::fabs(seen - expected);
    if (error <= bound) {
      worst_ = std::max(worst_, error / bound);
      return;
    }
    fail(row, std::string(what) + "[" + std::to_string(index) + "]", seen, expected, bound);
  }

  void check_row(const HeadCase &c, const HeadData &data, const HeadLaunch &l, int64_t row) {
    const auto i = static_cast<size_t>(row);
    const int32_t *record = data.records.data() + i * LETHE_ROW_FIELDS;
    const int kind = record[2];
    const double temperature = c.temperatures ? static_cast<double>(data.row_params[i * LETHE_ROW_PARAMS]) : 1.0;
    const double coefficient = c.coefficients ? static_cast<double>(data.coefficient[i]) : 1.0;
    const int64_t ld = c.ld();
    const float *delta = data.delta_of[i] < 0 ? nullptr : data.delta.data() + data.delta_of[i] * ld;
    const HeadTwin twin = twin_row(kind, record[1], c.V, data.z.data() + row * ld, delta, temperature,
                                   c.means ? &data.means[i] : nullptr, coefficient);
    const float *stats = l.stats + row * LETHE_STATISTICS;
    HeadBounds bounds;
    if (twin.broken) {
      bounds.stats[LETHE_STAT_LABEL] = 3 * tolerance::kUnit * std::fabs(twin.stats[LETHE_STAT_LABEL]);
      bounds.gradient.assign(static_cast<size_t>(c.V), 0);
    } else {
      bounds = head_bounds(kind, record[1], twin, temperature, coefficient, c.means, l.gradient);
    }
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (int s = 0; s < LETHE_STATISTICS; ++s) {
      const bool kept =
          s == LETHE_STAT_LABEL || s == LETHE_STAT_ARGMAX || s == LETHE_STAT_RANK || s == LETHE_STAT_REFERENCE_ARGMAX;
      const double expected = twin.broken && !kept ? nan : twin.stats[s];
      compare(row, "statistic", s, static_cast<double>(stats[s]), expected, bounds.stats[s]);
    }
    for (int64_t v = 0; v < c.V && l.gradient != LETHE_I32; ++v) {
      float g;
      if (l.gradient == LETHE_F32) {
        g = l.z[row * ld + v];
      } else {
        uint16_t bits;
        std::memcpy(&bits, reinterpret_cast<const char *>(l.z + row * ld) + 2 * v, 2);
        g = from_bf16(bits);
      }
      const double expected = twin.broken && kind != LETHE_ROW_STATISTICS ? nan : twin.gradient[static_cast<size_t>(v)];
      compare(row, "gradient", v, static_cast<double>(g), expected, bounds.gradient[static_cast<size_t>(v)]);
    }
    const float *end = l.z + row * ld + c.V;
    for (int64_t v = 0; v < c.pad; ++v) {
      if (end[v] != 0) fail(row, "the gap behind the row", static_cast<double>(end[v]), 0, 0);
    }
    if (l.gradient == LETHE_I32 &&
        std::memcmp(l.z + row * ld, data.z.data() + row * ld, static_cast<size_t>(c.V) * 4) != 0) {
      fail(row, "logits that should have been left alone", 0, 0, 0);
    }
  }

  const char *what_;
  bool separate_;
  std::string name_;
  long cases_ = 0, failed_ = 0, before_ = 0;
  double worst_ = 0;
};

}  // namespace lethe::test
