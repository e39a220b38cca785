// What a fused pass of the head may be off its twin, and the checks of its rows.
#pragma once

#include "head_fused_problem.h"
#include "tolerance.h"

namespace lethe::test {

inline double length(const float *x, int64_t count) {
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) sum += static_cast<double>(x[j]) * static_cast<double>(x[j]);
  return std::sqrt(sum);
}

struct RowBounds {
  double logits;    // of any logit over the temperature
  double gradient;  // the length of what the row's gradient may be off
};

// Lengths of W's rows, and of what sets them apart from the mean row.
struct Lengths {
  std::vector<double> whole, apart;
};
inline Lengths lengths_of(const Problem &p) {
  const auto d = static_cast<size_t>(p.d), V = static_cast<size_t>(p.V);
  std::vector<double> mean(d, 0.0);
  for (size_t i = 0; i < V * d; ++i) mean[i % d] += static_cast<double>(p.w.values[i]) / static_cast<double>(V);
  Lengths l;
  for (size_t v = 0; v < V; ++v) {
    double whole = 0, apart = 0;
    for (size_t j = 0; j < d; ++j) {
      const auto x = static_cast<double>(p.w.values[v * d + j]);
      whole += x * x;
      apart += (x - mean[j]) * (x - mean[j]);
    }
    l.whole.push_back(std::sqrt(whole));
    l.apart.push_back(std::sqrt(apart));
  }
  return l;
}

// To first order, in lengths of vectors. E is a weight less the row's centre, rounded to bf16 but for the label's,
// whose coefficient is exact; weights move with their logits, exp, its argument and the sums. All of these errors add
// up to 0 with the mean row's coefficient, but for its fp32, so that what rows of W have in common has no part in them.
// Tensor cores cut their sums off; what is stored is rounded to bf16 once.
inline RowBounds row_bounds(const Problem &p, int64_t i, const HeadTwin &twin, double dh) {
  const int32_t *record = p.records.data() + i * LETHE_ROW_FIELDS;
  const double beta = 1 / static_cast<double>(p.params[static_cast<size_t>(i * LETHE_ROW_PARAMS)]);
  const double h = length(p.h.values.data() + record[0] * p.d, p.d);
  const auto V = static_cast<double>(p.V);
  RowBounds b = {};
  const Lengths w = lengths_of(p);
  double largest_bias = 0;
  for (const float x : p.bias.values) largest_bias = std::max(largest_bias, std::fabs(static_cast<double>(x)));
  const double largest = *std::max_element(w.whole.begin(), w.whole.end());
  b.logits = tolerance::attention::kCut * beta *
             (tolerance::head::logit_error(p.d) * h * largest + tolerance::kUnit * (h * largest + largest_bias));
  const double centre = std::exp(twin.stats[LETHE_STAT_MEAN] - twin.stats[LETHE_STAT_LSE]);
  const double max = twin.stats[LETHE_STAT_MAX];
  double rounded = 0, moved = 0, kept = 0, summed = 0, mean = 0;
  const auto moves = [&](double z) {
    return 3 * b.logits + 2 * tolerance::head::kSum + 2 * tolerance::head::kExp +
           2 * tolerance::head::kArgument * std::fabs(z - max);
  };
  for (size_t v = 0; v < w.whole.size(); ++v) {
    const double weight = std::fabs(twin.p[v] - centre);
    if (static_cast<int32_t>(v) != record[1]) rounded += w.apart[v] * weight;
    moved += w.apart[v] * (twin.p[v] * moves(twin.z[v]) + centre * moves(twin.stats[LETHE_STAT_MEAN]));
    kept += w.whole[v] * weight;
    summed += w.whole[v] * (twin.p[v] + centre);
    mean += w.whole[v] / V;
  }
  const double chain = tolerance::attention::kCut * (V + 32) * tolerance::kUnit;
  b.gradient = beta * (tolerance::kBf16Unit * rounded + moved + chain * (kept + tolerance::kBf16Unit * summed) +
                       (tolerance::head::kSum + 8 * tolerance::kUnit) * (mean * (1 + V * centre) + 2 * largest)) +
               (tolerance::kBf16Unit + 8 * tolerance::kUnit) * dh;
  return b;
}

inline void check_stats(const Problem &p, int64_t i, const HeadTwin &twin, const float *stats, double logits) {
  for (const int s : {LETHE_STAT_LSE, LETHE_STAT_LABEL, LETHE_STAT_LSE_OTHERS, LETHE_STAT_MEAN, LETHE_STAT_EZ,
                      LETHE_STAT_MAX, LETHE_STAT_ELOG2, LETHE_STAT_ENTROPY_OTHERS}) {
    // Squares and entropies move with products of logits and weights.
    const bool product = s == LETHE_STAT_ELOG2 || s == LETHE_STAT_ENTROPY_OTHERS || s == LETHE_STAT_EZ;
    const double size = 1 + std::fabs(twin.stats[s]) + (product ? twin.stats[LETHE_STAT_ELOG2] : 0);
    if (static_cast<double>(stats[s]) == twin.stats[s]) continue;
    const double off = std::fabs(static_cast<double>(stats[s]) - twin.stats[s]);
    if (off > 4 * logits * size + 2 * tolerance::head::kSum * size) {
      std::fprintf(stderr, "row %ld of d %ld, V %ld: statistic %d is %.9g, expected %.9g\n", static_cast<long>(i),
                   static_cast<long>(p.d), static_cast<long>(p.V), s, static_cast<double>(stats[s]), twin.stats[s]);
    }
    EXPECT(off <= 4 * logits * size + 2 * tolerance::head::kSum * size);
  }
  for (const int s : {LETHE_STAT_KL, LETHE_STAT_REFERENCE_ENTROPY, LETHE_STAT_REFERENCE_ARGMAX}) EXPECT(stats[s] == 0);
  const auto argmax = static_cast<size_t>(stats[LETHE_STAT_ARGMAX]);
  EXPECT(argmax < twin.z.size() && twin.z[argmax] >= twin.stats[LETHE_STAT_MAX] - 2 * logits);
  const int32_t label = p.records[static_cast<size_t>(i * LETHE_ROW_FIELDS + 1)];
  double near = 0;
  for (size_t v = 0; label >= 0 && v < twin.z.size(); ++v) {
    if (static_cast<int32_t>(v) != label && std::fabs(twin.z[v] - twin.stats[LETHE_STAT_LABEL]) <= 2 * logits) ++near;
  }
  EXPECT(std::fabs(static_cast<double>(stats[LETHE_STAT_RANK]) - twin.stats[LETHE_STAT_RANK]) <= near);
}

inline double worst_share = 0;  // of a gradient's bound
inline int bounded = 0, loose = 0;

// The largest error of a kind's gradients, relative to their lengths.
struct Errors {
  double of[8] = {};
};

inline Errors check_rows(const Problem &p, const Result &seen, bool fused) {
  Errors errors;
  EXPECT(seen.status == LETHE_OK);
  for (int64_t i = 0; i < p.n; ++i) {
    std::vector<double> dh;
    const HeadTwin twin = twin_of(p, i, &dh);
    double norm = 0;
    for (const double x : dh) norm += x * x;
    norm = std::sqrt(norm);
    const std::vector<float> row(seen.dh_rows.begin() + i * p.d, seen.dh_rows.begin() + (i + 1) * p.d);
    const double off = norm == 0 ? distance(row, dh) : norm * distance(row, dh);
    const int kind = p.records[static_cast<size_t>(i * LETHE_ROW_FIELDS + 2)];
    if (norm > 0) errors.of[kind] = std::max(errors.of[kind], off / norm);
    if (!fused) continue;
    const RowBounds b = row_bounds(p, i, twin, norm);
    if (off > b.gradient) {
      std::fprintf(stderr, "row %ld of d %ld, V %ld, kind %d: off by %.3g of %.3g, bound %.3g\n", static_cast<long>(i),
                   static_cast<long>(p.d), static_cast<long>(p.V), kind, off, norm, b.gradient);
    }
    EXPECT(off <= b.gradient);
    worst_share = std::max(worst_share, norm > 0 ? off / b.gradient : 0);
    // What is asked for is no more than a few roundings of each addend.
    if (norm > 0 && b.gradient > 0.1 * norm) ++loose;
    ++bounded;
    check_stats(p, i, twin, seen.stats.data() + i * LETHE_STATISTICS, b.logits);
    if (kind != LETHE_ROW_STATISTICS) continue;
    EXPECT(std::all_of(row.begin(), row.end(), [](float x) { return x == 0; }));
  }
  return errors;
}

}  // namespace lethe::test
