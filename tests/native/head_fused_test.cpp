// The head's fused form (LETHE_HEAD_FORM=fused; cuda/head_fused.cuh) against the twin in fp64, and beside today's form:
// flat and peaky logits, tails in every dimension, any chunks, kinds that it does not have, passes that cannot take it.
// head_fused_test PLUGIN_DIR BACKEND.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "head_problem.h"
#include "tolerance.h"

namespace lethe::test {
namespace {

namespace bound = tolerance::head;
using tolerance::kBf16Unit;
using tolerance::kUnit;

constexpr float kBefore = -3.0f;

// What logits look like: their spread, whether W's rows have a mean of their size, and how far the labels of every
// other row stand out.
struct Look {
  const char *name;
  double spread, common, label;
};
constexpr Look kLooks[] = {{"near-uniform", 1e-3, 0, 0}, {"near-uniform, W with a mean", 1e-3, 1, 0},
                           {"flat", 0.3, 0, 0},          {"flat, W with a mean", 1, 1, 0},
                           {"random", 3, 0, 0},          {"peaky", 3, 0.3, 25}};

constexpr int kFusedKinds[] = {LETHE_ROW_NLL, LETHE_ROW_UNIFORM_KL, LETHE_ROW_STATISTICS, LETHE_ROW_LOGIT_MARGIN};

Problem make_fused(Engine *e, int32_t dtype, int64_t n, int64_t d, int64_t V, const Look &look, bool bias) {
  Random random(static_cast<uint64_t>(V * 31 + n + d));
  Problem p = {dtype, n, n, d, V, {}, {}, {0, {}}, 0, {}, {}, 0, 0, 0};
  const double size = look.spread / std::sqrt(static_cast<double>(d));
  const std::vector<float> common = normal(&random, d, look.common * size);
  std::vector<float> w = normal(&random, V * d, size);
  for (size_t i = 0; i < w.size(); ++i) w[i] += common[i % static_cast<size_t>(d)];
  p.w = store(e, dtype, w);
  if (bias) p.bias = store(e, dtype, normal(&random, V, look.spread));
  std::vector<float> h = normal(&random, n * d, 1.0);
  for (int64_t i = 0; i < n; ++i) {
    const int kind = kFusedKinds[i % 4];
    const int64_t label = kind != LETHE_ROW_NLL && i % 3 == 0 ? -1 : random.below(V);
    if (look.label > 0 && i % 2 == 0 && label >= 0) {
      double norm = 0;
      const float *row = p.w.values.data() + label * d;
      for (int64_t j = 0; j < d; ++j) norm += static_cast<double>(row[j]) * static_cast<double>(row[j]);
      for (int64_t j = 0; j < d; ++j)
        h[static_cast<size_t>(i * d + j)] = static_cast<float>(look.label * row[j] / norm);
    }
    p.records.insert(p.records.end(), {static_cast<int32_t>(i), static_cast<int32_t>(label), kind, -1, -1});
    p.params.insert(p.params.end(), {static_cast<float>(0.5 + random.uniform()), 0, 0, 0});
  }
  p.h = store(e, dtype, h);
  p.rows = e->put(p.records);
  p.row_params = e->put(p.params);
  p.mean = e->put(std::vector<float>(static_cast<size_t>(d)));
  EXPECT(lethe_head_mean(e->engine, dtype, d, V, p.w.ref, p.mean) == LETHE_OK);
  return p;
}

void drop(Engine *e, const Problem &p) {
  e->drop({p.h.ref, p.w.ref, p.rows, p.row_params, p.mean});
  if (p.bias.ref != 0) e->drop({p.bias.ref});
}

struct Result {
  int status = 0;
  std::string trace;
  std::vector<float> stats, dh_rows;
};
bool same_bits(const Result &a, const Result &b) {
  const auto same = [](const std::vector<float> &x, const std::vector<float> &y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  };
  return same(a.stats, b.stats) && same(a.dh_rows, b.dh_rows);
}

// Of the workspace's `share` of the most; 0: the least.
Result forward(Engine *e, const Problem &p, double share, int64_t rows = -1, bool gradient = true) {
  const int64_t n = rows < 0 ? p.n : rows;
  const Counts counts(p.records, p.params);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, p.dtype, n, p.d, p.V, &least, &most) == LETHE_OK);
  const int64_t bytes = std::max(least, static_cast<int64_t>(share * static_cast<double>(most)));
  const auto count = static_cast<size_t>(n * p.d);
  const lethe_ref stats = e->put(std::vector<float>(static_cast<size_t>(n * LETHE_STATISTICS), kBefore));
  const Stored dh = store(e, p.dtype, std::vector<float>(count, kBefore));
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(bytes)));
  Result result;
  result.status =
      settled(e->engine, lethe_head_forward(e->engine, p.dtype, n, p.sources, p.d, p.V, counts.references,
                                            counts.seconds, p.h.ref, p.w.ref, p.bias.ref, p.soft_cap, p.mean, p.rows,
                                            p.row_params, stats, gradient ? dh.ref : 0, workspace, bytes));
  result.trace = lethe_error_trace();
  result.stats = e->get<float>(stats, static_cast<size_t>(n * LETHE_STATISTICS));
  result.dh_rows = load(e, p.dtype, dh.ref, count);
  e->drop({stats, dh.ref, workspace});
  return result;
}

double length(const float *x, int64_t count) {
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) sum += static_cast<double>(x[j]) * static_cast<double>(x[j]);
  return std::sqrt(sum);
}

struct RowBounds {
  double logits;    // of any logit over the temperature
  double gradient;  // the length of what the row's gradient may be off
};

// To first order, in lengths of vectors. E is a weight less the row's centre, rounded to bf16; weights move with their
// logits, exp, its argument and the sums; both are multiplied with rows of W and summed by tensor cores, which cut off;
// the mean row's coefficient moves like a weight; what is stored is rounded to bf16 once.
RowBounds row_bounds(const Problem &p, int64_t i, const HeadTwin &twin, double dh) {
  const int32_t *record = p.records.data() + i * LETHE_ROW_FIELDS;
  const double beta = 1 / static_cast<double>(p.params[static_cast<size_t>(i * LETHE_ROW_PARAMS)]);
  const double h = length(p.h.values.data() + record[0] * p.d, p.d);
  const auto V = static_cast<double>(p.V);
  RowBounds b = {};
  std::vector<double> w(static_cast<size_t>(p.V));
  double largest_bias = 0;
  for (int64_t v = 0; v < p.V; ++v) {
    w[static_cast<size_t>(v)] = length(p.w.values.data() + v * p.d, p.d);
    if (p.bias.ref != 0) {
      largest_bias = std::max(largest_bias, std::fabs(static_cast<double>(p.bias.values[static_cast<size_t>(v)])));
    }
  }
  const double largest = *std::max_element(w.begin(), w.end());
  b.logits = tolerance::attention::kCut * beta *
             (bound::logit_error(p.d) * h * largest + kUnit * (h * largest + largest_bias));
  const double centre = std::exp(twin.stats[LETHE_STAT_MEAN] - twin.stats[LETHE_STAT_LSE]);
  const double max = twin.stats[LETHE_STAT_MAX];
  double rounded = 0, moved = 0, summed = 0, mean = 0;
  const auto moves = [&](double z) {
    return 3 * b.logits + 2 * bound::kSum + 2 * bound::kExp + 2 * bound::kArgument * std::fabs(z - max);
  };
  for (size_t v = 0; v < w.size(); ++v) {
    rounded += w[v] * std::fabs(twin.p[v] - centre);
    moved += w[v] * (twin.p[v] * moves(twin.z[v]) + centre * moves(twin.stats[LETHE_STAT_MEAN]));
    summed += w[v] * (twin.p[v] + centre);
    mean += w[v] / V;
  }
  const double chain = tolerance::attention::kCut * (V + 32) * kUnit;
  b.gradient = beta * (kBf16Unit * rounded + moved + chain * (rounded + kBf16Unit * summed) +
                       (bound::kSum + 8 * kUnit) * (mean * (1 + V * centre) + 2 * largest)) +
               (kBf16Unit + 8 * kUnit) * dh;
  return b;
}

void check_stats(const Problem &p, int64_t i, const HeadTwin &twin, const float *stats, double logits) {
  for (const int s : {LETHE_STAT_LSE, LETHE_STAT_LABEL, LETHE_STAT_LSE_OTHERS, LETHE_STAT_MEAN, LETHE_STAT_EZ,
                      LETHE_STAT_MAX, LETHE_STAT_ELOG2, LETHE_STAT_ENTROPY_OTHERS}) {
    // Squares and entropies move with products of logits and weights.
    const bool product = s == LETHE_STAT_ELOG2 || s == LETHE_STAT_ENTROPY_OTHERS || s == LETHE_STAT_EZ;
    const double size = 1 + std::fabs(twin.stats[s]) + (product ? twin.stats[LETHE_STAT_ELOG2] : 0);
    if (static_cast<double>(stats[s]) == twin.stats[s]) continue;
    const double off = std::fabs(static_cast<double>(stats[s]) - twin.stats[s]);
    if (off > 4 * logits * size + 2 * bound::kSum * size) {
      std::fprintf(stderr, "row %ld of d %ld, V %ld: statistic %d is %.9g, expected %.9g\n", static_cast<long>(i),
                   static_cast<long>(p.d), static_cast<long>(p.V), s, static_cast<double>(stats[s]), twin.stats[s]);
    }
    EXPECT(off <= 4 * logits * size + 2 * bound::kSum * size);
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

double worst_share = 0;  // of a gradient's bound
int bounded = 0, loose = 0;

// The largest error of a kind's gradients, relative to their lengths.
struct Errors {
  double of[8] = {};
};

Errors check_rows(const Problem &p, const Result &seen, bool fused) {
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

std::unique_ptr<Engine> opened(const char *form, const char *backend, const char *plugins) {
  form == nullptr ? unsetenv("LETHE_HEAD_FORM") : setenv("LETHE_HEAD_FORM", form, 1);
  auto e = std::make_unique<Engine>(backend, plugins);
  unsetenv("LETHE_HEAD_FORM");
  return e;
}

std::string recorded(Engine *e, const std::function<void()> &calls) {
  EXPECT(lethe_record_launches(e->engine, 1) == LETHE_OK);
  calls();
  int64_t needed = 0;
  EXPECT(lethe_launches(e->engine, nullptr, 0, &needed) == LETHE_OK);
  std::string out(static_cast<size_t>(needed), '\0');
  EXPECT(lethe_launches(e->engine, out.data(), needed, &needed) == LETHE_OK);
  EXPECT(lethe_record_launches(e->engine, 0) == LETHE_OK);
  return out.c_str();
}

int count(const std::string &text, const std::string &kernel) {
  const std::string part = R"("kernel":")" + kernel + "\"";
  int n = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

void gradients_match_the_twin(Engine *fused, Engine *plain, int64_t n, int64_t d, int64_t V, const Look &look,
                              bool bias) {
  const Problem p = make_fused(fused, LETHE_BF16, n, d, V, look, bias);
  const Result all = forward(fused, p, 1);
  const Errors errors = check_rows(p, all, true);
  const Problem q = make_fused(plain, LETHE_BF16, n, d, V, look, bias);
  const Errors beside = check_rows(q, forward(plain, q, 1), false);
  std::printf("%s, d %ld, V %ld%s: NLL %.2e (plain %.2e), UNIFORM_KL %.2e (%.2e), LOGIT_MARGIN %.2e (%.2e)\n",
              look.name, static_cast<long>(d), static_cast<long>(V), bias ? ", bias" : "", errors.of[LETHE_ROW_NLL],
              beside.of[LETHE_ROW_NLL], errors.of[LETHE_ROW_UNIFORM_KL], beside.of[LETHE_ROW_UNIFORM_KL],
              errors.of[LETHE_ROW_LOGIT_MARGIN], beside.of[LETHE_ROW_LOGIT_MARGIN]);
  drop(fused, p);
  drop(plain, q);
}

// Whatever the chunks, and in a second run.
void bits_depend_on_nothing(Engine *e, int64_t n, int64_t d, int64_t V) {
  const Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[4], true);
  const Result all = forward(e, p, 1);
  EXPECT(all.status == LETHE_OK && same_bits(all, forward(e, p, 1)));
  EXPECT(same_bits(all, forward(e, p, 0.4)));
  Result first = forward(e, p, 0, 3);
  Result head = all;
  head.stats.resize(first.stats.size());
  head.dh_rows.resize(first.dh_rows.size());
  EXPECT(same_bits(head, first));
  EXPECT(lethe_head_set_chunk(e->engine, LETHE_BF16, d, V, n / 2) == LETHE_OK);
  Result halves;
  const std::string records = recorded(e, [&] { halves = forward(e, p, 1); });
  EXPECT(same_bits(all, halves));
  const int chunks = 2 + static_cast<int>(n % 2);
  EXPECT(count(records, "head_fused_labels") == 1 && count(records, "head_gather") == chunks &&
         count(records, "head_fused_logits") == chunks && count(records, "head_fused_rows") == chunks &&
         count(records, "head_fused_gradient") == chunks && count(records, "head_rows") == 0);
  EXPECT(lethe_head_set_chunk(e->engine, LETHE_BF16, d, V, 0) == LETHE_OK);
  // Statistics alone: the same ones, by one product.
  Result statistics;
  const std::string alone = recorded(e, [&] { statistics = forward(e, p, 1, -1, false); });
  EXPECT(statistics.stats == all.stats && count(alone, "head_fused_gradient") == 0);
  EXPECT(count(alone, "head_fused_logits") == 1);
  drop(e, p);
}

// Logits that tie with the label's are not above it, and the first of the largest is the argmax, across tiles.
void ties_are_ties(Engine *e) {
  const int64_t n = 5, d = 72, V = 700;
  Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[4], false);
  std::vector<float> w = p.w.values;
  for (const int64_t v : {int64_t{100}, int64_t{300}, int64_t{699}}) {
    std::copy_n(w.begin() + 7 * d, d, w.begin() + v * d);
  }
  e->drop({p.w.ref, p.rows, p.row_params, p.mean});
  p.w = store(e, LETHE_BF16, w);
  const int32_t labels[] = {7, 100, 300, 699, 7};
  for (size_t i = 0; i < 5; ++i) p.records[i * LETHE_ROW_FIELDS + 1] = labels[i];
  // h along that row of W: its logit is the largest.
  std::vector<float> h;
  for (int64_t i = 0; i < n; ++i) h.insert(h.end(), w.begin() + 7 * d, w.begin() + 8 * d);
  e->drop({p.h.ref});
  p.h = store(e, LETHE_BF16, h);
  p.rows = e->put(p.records);
  p.row_params = e->put(p.params);
  p.mean = e->put(std::vector<float>(static_cast<size_t>(d)));
  EXPECT(lethe_head_mean(e->engine, LETHE_BF16, d, V, p.w.ref, p.mean) == LETHE_OK);
  const Result seen = forward(e, p, 1);
  for (int64_t i = 0; i < n; ++i) {
    const float *stats = seen.stats.data() + i * LETHE_STATISTICS;
    EXPECT(stats[LETHE_STAT_RANK] == 0 && stats[LETHE_STAT_ARGMAX] == 7);
    EXPECT(stats[LETHE_STAT_LABEL] == stats[LETHE_STAT_MAX]);
  }
  drop(e, p);
}

// Rows that cannot have a softmax say so as in the plain form; single logits of -inf are probabilities of 0.
void broken_rows_are_nan(Engine *fused, Engine *plain) {
  const float infinity = std::numeric_limits<float>::infinity();
  const int64_t n = 8, d = 16, V = 300;
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity};
  for (int which = 0; which < 4; ++which) {
    Result seen[2];
    for (Engine *e : {fused, plain}) {
      Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[2], true);
      std::vector<float> bias = p.bias.values;
      if (which < 3) bias[270] = bad[which];
      if (which == 3) std::fill(bias.begin(), bias.end(), -infinity);
      e->drop({p.bias.ref});
      p.bias = store(e, LETHE_BF16, bias);
      seen[e == fused ? 0 : 1] = forward(e, p, 1);
      drop(e, p);
    }
    EXPECT(seen[0].status == LETHE_OK && seen[1].status == LETHE_OK);
    for (int64_t i = 0; i < n; ++i) {
      const bool statistics = kFusedKinds[i % 4] == LETHE_ROW_STATISTICS;
      for (int64_t j = 0; j < d; ++j) {
        const float x = seen[0].dh_rows[static_cast<size_t>(i * d + j)];
        EXPECT(statistics ? x == 0 : std::isnan(x) == (which != 2));
      }
      for (const int s : {LETHE_STAT_LSE, LETHE_STAT_LSE_OTHERS, LETHE_STAT_EZ, LETHE_STAT_MAX, LETHE_STAT_ELOG2}) {
        const auto at = static_cast<size_t>(i * LETHE_STATISTICS + s);
        EXPECT(std::isnan(seen[0].stats[at]) == std::isnan(seen[1].stats[at]));
        EXPECT(std::isnan(seen[0].stats[at]) == (which != 2));
      }
    }
  }
}

// Kinds that need more are refused by name, and nothing is written.
void other_kinds_are_refused(Engine *e) {
  const Problem p = make_fused(e, LETHE_BF16, 9, 24, 130, kLooks[2], false);
  std::string trace;
  const auto with = [&](int kind, float epsilon, int32_t source, bool gradient) {
    std::vector<int32_t> records = p.records;
    std::vector<float> params = p.params;
    records[4 * LETHE_ROW_FIELDS] = source;
    records[4 * LETHE_ROW_FIELDS + 2] = kind;
    params[4 * LETHE_ROW_PARAMS + 3] = epsilon;
    Problem changed = p;
    changed.rows = e->put(records);
    changed.row_params = e->put(params);
    Result result = forward(e, changed, 1, -1, gradient);
    e->drop({changed.rows, changed.row_params});
    const auto before = [](const std::vector<float> &x) {
      return std::all_of(x.begin(), x.end(), [](float v) { return v == kBefore; });
    };
    if (result.status != LETHE_OK) EXPECT(before(result.stats) && before(result.dh_rows));
    trace = result.trace;
    return result.status;
  };
  const auto says = [&](const char *what) { return trace.find(what) != std::string::npos; };
  EXPECT(with(LETHE_ROW_KL_UNIFORM, 0, 4, true) == LETHE_UNSUPPORTED &&
         says("row 4: LETHE_ROW_KL_UNIFORM has no fused form; unset LETHE_HEAD_FORM"));
  EXPECT(with(LETHE_ROW_UNIFORM_KL_EPS, 1e-3f, 4, true) == LETHE_UNSUPPORTED &&
         says("row 4: LETHE_ROW_UNIFORM_KL_EPS has no fused form; unset LETHE_HEAD_FORM"));
  EXPECT(with(LETHE_ROW_KL_UNIFORM, 0, 4, false) == LETHE_OK);
  EXPECT(with(LETHE_ROW_UNIFORM_KL_EPS, 1e-3f, 4, false) == LETHE_UNSUPPORTED);
  EXPECT(with(LETHE_ROW_KL_UNIFORM, 0, 99, true) == LETHE_OUT_OF_BOUNDS && says("row 4: source 99"));
  EXPECT(with(LETHE_ROW_NLL, 0, 4, true) == LETHE_OK);
  drop(e, p);
}

// Passes that the form has no place for take the plain one; of a mixed batch, the rows with a reference do.
void the_form_is_chosen(Engine *e) {
  const auto launched = [&](const Problem &p) {
    Result result;
    const std::string records = recorded(e, [&] { result = forward(e, p, 1); });
    EXPECT(result.status == LETHE_OK);
    EXPECT((count(records, "head_fused_logits") > 0) != (count(records, "head_rows") > 0));
    return count(records, "head_fused_logits");
  };
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const int64_t d : {24, 20}) {
      Problem p = make_fused(e, dtype, 6, d, 150, kLooks[2], false);
      EXPECT(launched(p) == (dtype == LETHE_BF16 && d == 24 ? 1 : 0));
      p.soft_cap = 20;
      EXPECT(launched(p) == 0);
      p.soft_cap = 0;
      const lethe_ref mean = p.mean;
      p.mean = 0;
      EXPECT(launched(p) == 0);
      p.mean = mean;
      drop(e, p);
    }
  }
  Problem p = make_problem(e, LETHE_BF16, 24, 16, 140, true, kPlain);
  for (size_t i = 0; i < 24; ++i) {
    int32_t &kind = p.records[i * LETHE_ROW_FIELDS + 2];
    if (kind == LETHE_ROW_KL_UNIFORM || kind == LETHE_ROW_UNIFORM_KL_EPS) kind = LETHE_ROW_NLL;
    p.params[i * LETHE_ROW_PARAMS + 3] = 0;
  }
  e->drop({p.rows, p.row_params});
  p.rows = e->put(p.records);
  p.row_params = e->put(p.params);
  Result mixed;
  const std::string records = recorded(e, [&] { mixed = forward(e, p, 1); });
  EXPECT(mixed.status == LETHE_OK && count(records, "head_fused_logits") == 1 && count(records, "head_rows") == 1);
  for (int64_t i = 0; i < p.n; ++i) {
    std::vector<double> dh;
    const HeadTwin twin = twin_of(p, i, &dh);
    const std::vector<float> seen(mixed.dh_rows.begin() + i * p.d, mixed.dh_rows.begin() + (i + 1) * p.d);
    // Of rows with a reference, the difference is rounded to bf16 besides.
    EXPECT(distance(seen, dh) <= 8 * kBf16Unit);
  }
  drop(e, p);
}

// Off 16 bytes: h and w decide the form, dh_rows may lie anywhere.
void operands_lie_anywhere(Engine *e) {
  const int64_t n = 6, d = 24, V = 150;
  const Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[4], false);
  const Result all = forward(e, p, 1);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, LETHE_BF16, n, d, V, &least, &most) == LETHE_OK);
  const auto copied = [&](lethe_ref from, int64_t elements) {
    const lethe_ref buffer = e->put(std::vector<uint16_t>(static_cast<size_t>(elements + 1)));
    EXPECT(lethe_copy(e->engine, buffer + 2, from, elements * 2) == LETHE_OK);
    return buffer;
  };
  const lethe_ref stats = e->put(std::vector<float>(static_cast<size_t>(n * LETHE_STATISTICS)));
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(most + 3)));
  const lethe_ref h = copied(p.h.ref, n * d), w = copied(p.w.ref, V * d), dh = copied(p.h.ref, n * d);
  const auto run = [&](lethe_ref h_at, lethe_ref w_at) {
    return recorded(e, [&] {
      EXPECT(lethe_head_forward(e->engine, LETHE_BF16, n, n, d, V, 0, 0, h_at, w_at, 0, 0, p.mean, p.rows, p.row_params,
                                stats, dh + 2, workspace + 3, most) == LETHE_OK);
    });
  };
  EXPECT(count(run(h + 2, p.w.ref), "head_fused_logits") == 0);
  EXPECT(count(run(p.h.ref, w + 2), "head_fused_logits") == 0);
  EXPECT(count(run(p.h.ref, p.w.ref), "head_fused_logits") == 1);
  const lethe_ref aligned = e->put(std::vector<uint16_t>(static_cast<size_t>(n * d)));
  EXPECT(lethe_copy(e->engine, aligned, dh + 2, n * d * 2) == LETHE_OK);
  EXPECT(load(e, LETHE_BF16, aligned, static_cast<size_t>(n * d)) == all.dh_rows);
  e->drop({stats, workspace, h, w, dh, aligned});
  drop(e, p);
}

void the_variable_is_read(const char *backend, const char *plugins) {
  const auto described = [&](const char *form) {
    const auto e = opened(form, backend, plugins);
    if (e->status != LETHE_OK) return std::to_string(e->status) + lethe_error_trace();
    std::string text(4096, '\0');
    EXPECT(lethe_engine_describe(e->engine, text.data(), 4096) == LETHE_OK);
    return std::string(text.c_str());
  };
  EXPECT(described("fused").find(R"("head_form":"fused")") != std::string::npos);
  for (const char *form : {"plain", "", static_cast<const char *>(nullptr)}) {
    EXPECT(described(form).find(R"("head_form":"plain")") != std::string::npos);
  }
  const std::string wrong = described("quick");
  EXPECT(wrong.find("LETHE_HEAD_FORM=quick; give plain or fused, or unset it") != std::string::npos);
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  if (argc != 3) {
    std::fprintf(stderr, "usage: head_fused_test PLUGIN_DIR BACKEND\n");
    return 2;
  }
  const auto fused = opened("fused", argv[2], argv[1]), plain = opened(nullptr, argv[2], argv[1]);
  if (fused->status == LETHE_NO_DEVICE) return 77;
  EXPECT(fused->status == LETHE_OK && plain->status == LETHE_OK);
  if (failures > 0) return 1;
  // Tails of a row tile, of a tile of columns, of a stage's depth in either product.
  struct Shape {
    int64_t n, d, V;
  };
#if defined(LETHE_SMALL)
  const std::vector<Shape> shapes = {{9, 24, 300}};
#else
  const std::vector<Shape> shapes = {{12, 64, 1000}, {8, 264, 257}, {131, 8, 37}, {4, 16, 1}, {8, 40, 256}};
#endif
  for (const Shape &s : shapes) {
    for (const Look &look : kLooks) {
      gradients_match_the_twin(fused.get(), plain.get(), s.n, s.d, s.V, look, s.d % 16 != 0);
    }
  }
  bits_depend_on_nothing(fused.get(), 7, 40, 530);
  ties_are_ties(fused.get());
  broken_rows_are_nan(fused.get(), plain.get());
  other_kinds_are_refused(fused.get());
  the_form_is_chosen(fused.get());
  operands_lie_anywhere(fused.get());
  the_variable_is_read(argv[2], argv[1]);
  std::printf("gradients use %.0f %% of their bounds; %d of %d bounds exceed a tenth\n", 100 * worst_share, loose,
              bounded);
  EXPECT(8 * loose <= bounded);
  std::printf("head_fused_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
