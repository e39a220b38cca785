// Runs the case list through a backend's row kernel and compares with the twin; every buffer stands between canaries.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>

#include "head_bounds.h"
#include "head_cases.h"
#include "head_twin.h"
#include "tolerance.h"

namespace lethe::test {

// What a backend's row kernel is given. All pointers lie in [arena, arena + arena_bytes) unless that is null; a device
// copies the arena there and back and shifts the pointers.
struct HeadLaunch {
  int64_t rows, V, ld;
  float *z;                  // [rows, ld]
  float *delta;              // [references, ld] or null
  const float *second;       // [rows that mix, ld] or null
  const int32_t *second_of;  // [rows]
  const float *bias;         // [V] or null
  float soft_cap;            // 0: none
  const int32_t *delta_of;   // [rows]
  const int32_t *records;    // [rows, LETHE_ROW_FIELDS]
  const float *row_params;   // [rows, LETHE_ROW_PARAMS]
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

// A row of the case as the twin takes it.
inline TwinRow twin_input(const HeadCase &c, const HeadData &data, int64_t row) {
  const auto i = static_cast<size_t>(row);
  const int32_t *record = data.records.data() + i * LETHE_ROW_FIELDS;
  const float *params = data.row_params.data() + i * LETHE_ROW_PARAMS;
  TwinRow r = {};
  r.kind = record[2];
  r.label = record[1];
  r.V = c.V;
  r.z = data.z.data() + row * c.ld();
  if (data.delta_of[i] >= 0) r.delta = data.delta.data() + data.delta_of[i] * c.ld();
  if (data.second_of[i] >= 0) r.second = data.second.data() + data.second_of[i] * c.ld();
  if (c.bias) r.bias = data.bias.data();
  r.soft_cap = static_cast<double>(c.soft_cap);
  r.temperature = static_cast<double>(params[0]);
  r.label_shift = static_cast<double>(params[1]);
  r.mix = static_cast<double>(params[2]);
  r.epsilon = static_cast<double>(params[3]);
  if (c.means) r.mean = &data.means[i];
  r.coefficient = c.coefficients ? static_cast<double>(data.coefficient[i]) : 1.0;
  return r;
}

// Whether column `at` of z (+ delta) may be the largest, within twice the errors.
inline bool largest(const std::vector<double> &z, const std::vector<double> &z_error, const std::vector<double> &delta,
                    const std::vector<double> &delta_error, float at) {
  const auto column = static_cast<size_t>(at);
  if (!(at >= 0) || column >= z.size()) return false;
  const auto value = [&](size_t v) { return delta.empty() ? z[v] : z[v] + delta[v]; };
  const auto error = [&](size_t v) {
    return (delta.empty() ? z_error[v] : z_error[v] + delta_error[v]) + 2 * tolerance::kUnit * std::fabs(value(v));
  };
  for (size_t v = 0; v < z.size(); ++v) {
    if (value(v) - 2 * error(v) > value(column) + 2 * error(column)) return false;
  }
  return true;
}

// How many logits may be on the other side of the label's.
inline double rank_bound(const HeadTwin &t, int64_t label) {
  if (label < 0 || !t.rounded) return 0;
  const auto y = static_cast<size_t>(label);
  double close = 0;
  for (size_t v = 0; v < t.z.size(); ++v) {
    const double reach = 2 * (t.z_error[v] + t.z_error[y]) + tolerance::kUnit * (std::fabs(t.z[v]) + std::fabs(t.z[y]));
    if (v != y && std::fabs(t.z[v] - t.z[y]) <= reach) close += 1;
  }
  return close;
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

  // Every `stride`-th of the cases from `first` on; the list turns through its kinds of logits by tens.
  void run(const HeadKernel &kernel, bool full, size_t stride = 1, size_t first = 0) {
    const std::vector<HeadCase> cases = head_cases(full);
    for (size_t i = first; i < cases.size(); i += stride) {
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
    l.second = data.second.empty() ? nullptr : buffers.add(data.second, c.offset);
    l.second_of = buffers.add(data.second_of);
    l.bias = data.bias.empty() ? nullptr : buffers.add(data.bias);
    l.soft_cap = c.soft_cap;
    l.records = buffers.add(data.records);
    l.row_params = buffers.add(data.row_params);
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
    const TwinRow given = twin_input(c, data, row);
    const int kind = given.kind;
    const int64_t ld = c.ld();
    const float *stats = l.stats + row * LETHE_STATISTICS;
    HeadTwin twin = twin_row(given);
    // Of logits that the kernel rounds, any may be the largest that is so within the roundings.
    if (twin.rounded && !twin.broken && largest(twin.z, twin.z_error, {}, {}, stats[LETHE_STAT_ARGMAX])) {
      const double reference_argmax = twin.stats[LETHE_STAT_REFERENCE_ARGMAX];
      twin = twin_row(given, static_cast<int64_t>(stats[LETHE_STAT_ARGMAX]));
      twin.stats[LETHE_STAT_REFERENCE_ARGMAX] = reference_argmax;
    }
    if (twin.rounded && !twin.broken && given.delta != nullptr &&
        largest(twin.z, twin.z_error, twin.delta, twin.delta_error, stats[LETHE_STAT_REFERENCE_ARGMAX])) {
      twin.stats[LETHE_STAT_REFERENCE_ARGMAX] = static_cast<double>(stats[LETHE_STAT_REFERENCE_ARGMAX]);
    }
    HeadBounds bounds;
    if (twin.broken) {
      bounds.stats[LETHE_STAT_LABEL] = 3 * tolerance::kUnit * std::fabs(twin.stats[LETHE_STAT_LABEL]);
      if (given.label >= 0) bounds.stats[LETHE_STAT_LABEL] += twin.z_error[static_cast<size_t>(given.label)];
      bounds.gradient.assign(static_cast<size_t>(c.V), 0);
    } else {
      bounds = head_bounds(kind, given.label, twin, given.temperature, given.coefficient, c.means, given.soft_cap,
                           l.gradient);
      bounds.stats[LETHE_STAT_RANK] = rank_bound(twin, given.label);
    }
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (int s = 0; s < LETHE_STATISTICS; ++s) {
      // Ranks and the largest of logits that are NaN or infinite and rounded: the order of what is left.
      const bool order = s == LETHE_STAT_ARGMAX || s == LETHE_STAT_RANK || s == LETHE_STAT_REFERENCE_ARGMAX;
      if (twin.broken && twin.rounded && order) continue;
      const bool kept = s == LETHE_STAT_LABEL || order;
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
    const bool untouched = c.soft_cap == 0 && !c.bias;
    if (l.gradient == LETHE_I32 && untouched &&
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
