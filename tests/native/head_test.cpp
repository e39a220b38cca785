// The head through lethe.h, on each CPU instruction set: products, chunks, combine, second pass, sampling, misuse.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "head_problem.h"
#include "tolerance.h"

namespace {

using namespace lethe::test;

struct Forward {
  std::vector<float> stats, dh_rows;
};

Forward forward(Engine *e, const Problem &p, const std::vector<int32_t> &records, const std::vector<float> &params,
                int64_t workspace_bytes) {
  const auto n = static_cast<int64_t>(records.size()) / LETHE_ROW_FIELDS;
  const Counts counts(records, params);
  const lethe_ref rows = e->put(records), row_params = e->put(params);
  const lethe_ref stats = e->put(std::vector<float>(static_cast<size_t>(n * LETHE_STATISTICS), -1.0f));
  const lethe_ref dh = e->put(std::vector<float>(static_cast<size_t>(n * p.d), -1.0f));
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(workspace_bytes)));
  EXPECT(lethe_head_forward(e->engine, p.dtype, n, p.sources, p.d, p.V, counts.references, counts.seconds, p.h.ref,
                            p.w.ref, p.bias.ref, p.soft_cap, p.mean, rows, row_params, stats, dh, workspace,
                            workspace_bytes) == LETHE_OK);
  Forward seen = {e->get<float>(stats, static_cast<size_t>(n * LETHE_STATISTICS)),
                  load(e, p.dtype, dh, static_cast<size_t>(n * p.d))};
  e->drop({rows, row_params, stats, dh, workspace});
  return seen;
}

// What rounding delta - shift costs the gradient of a reference row, relative to it: much where nearly all of the
// probability is one column's and the gradient all but vanishes.
double shift_rounding(const Problem &p, const HeadTwin &twin, const std::vector<double> &dh) {
  double cost = 0, norm = 0;
  for (size_t v = 0; v < twin.delta.size(); ++v) {
    double row = 0;
    for (size_t j = 0; j < static_cast<size_t>(p.d); ++j) {
      const double w = static_cast<double>(p.w.values[v * static_cast<size_t>(p.d) + j]);
      row += w * w;
    }
    cost += twin.p[v] * std::fabs(twin.delta[v]) * std::sqrt(row);
  }
  for (const double x : dh) norm += x * x;
  return norm == 0 ? 1 : lethe::tolerance::head::kShift * cost / std::sqrt(norm);
}

// What CUDA's shift in fp32 costs a divergence.
double shift_squared(const HeadTwin &twin) {
  double sum = 0;
  for (size_t v = 0; v < twin.delta.size(); ++v) sum += twin.p[v] * std::fabs(std::expm1(twin.delta[v]));
  const double error = lethe::tolerance::head::shift(static_cast<double>(twin.delta.size())) * sum;
  return error * error;
}

void forward_matches_twin(Engine *e, int32_t dtype, int64_t n, int64_t d, int64_t V, Variant variant) {
  namespace bound = lethe::tolerance::head;
  const Problem p = make_problem(e, dtype, n, d, V, true, variant);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, n, d, V, &least, &most) == LETHE_OK);
  EXPECT(least > 0 && most >= least);
  const Forward all = forward(e, p, p.records, p.params, most);
  const Forward few = forward(e, p, p.records, p.params, least);
  EXPECT(all.stats == few.stats && all.dh_rows == few.dh_rows);
  for (int64_t i = 0; i < n; ++i) {
    std::vector<double> dh;
    const HeadTwin twin = twin_of(p, i, &dh);
    const float *stats = all.stats.data() + i * LETHE_STATISTICS;
    const int kind = p.records[static_cast<size_t>(i * LETHE_ROW_FIELDS + 2)];
    const double logits = bound::logit_error(d) * (1 + std::fabs(twin.stats[LETHE_STAT_MAX]));
    for (const int s : {LETHE_STAT_LSE, LETHE_STAT_LABEL, LETHE_STAT_MAX, LETHE_STAT_MEAN, LETHE_STAT_EZ}) {
      EXPECT(std::fabs(stats[s] - twin.stats[s]) <= 4 * logits + bound::kSum * (1 + std::fabs(twin.stats[s])));
    }
    EXPECT(stats[LETHE_STAT_ARGMAX] == static_cast<float>(twin.stats[LETHE_STAT_ARGMAX]));
    // In bf16 the reference's difference is rounded to bf16 before its product.
    const double delta = dtype == LETHE_BF16 ? 2 * lethe::tolerance::kBf16Unit : bound::kDelta;
    const double kl = twin.stats[LETHE_STAT_KL];
    if (kind == LETHE_ROW_UNIFORM_KL_EPS) {
      // A mean of logarithms, of which each moves with its logit and has its own rounding.
      EXPECT(std::fabs(stats[LETHE_STAT_KL] - kl) <= 8 * logits + bound::kSum * (8 + std::fabs(kl)));
    } else {
      const double least_kl = bound::kTwin + (e->cuda ? shift_squared(twin) : 0);
      EXPECT(std::fabs(stats[LETHE_STAT_KL] - kl) <= (variant.moved ? 16 : 4) * delta * kl + least_kl);
      EXPECT(stats[LETHE_STAT_KL] >= 0);
    }
    for (const int s : {LETHE_STAT_ENTROPY_OTHERS, LETHE_STAT_REFERENCE_ENTROPY}) {
      const double moved = s == LETHE_STAT_REFERENCE_ENTROPY ? delta : 0;
      EXPECT(std::fabs(stats[s] - twin.stats[s]) <=
             16 * logits + (bound::kSum + moved) * (8 + std::fabs(twin.stats[s])));
    }
    const std::vector<float> seen(all.dh_rows.begin() + i * d, all.dh_rows.begin() + (i + 1) * d);
    const bool reference = lethe::test::is_reference_kind(kind);
    const double storage = dtype == LETHE_BF16 ? 2 * lethe::tolerance::kBf16Unit : bound::kSum + 16 * logits;
    EXPECT(distance(seen, dh) <= storage + (reference ? 2 * delta + shift_rounding(p, twin, dh) : 0));
    // The same row alone: same bits.
    const std::vector<int32_t> record(p.records.begin() + i * LETHE_ROW_FIELDS,
                                      p.records.begin() + (i + 1) * LETHE_ROW_FIELDS);
    if (i >= 8) continue;
    const Forward one = forward(
        e, p, record,
        std::vector<float>(p.params.begin() + i * LETHE_ROW_PARAMS, p.params.begin() + (i + 1) * LETHE_ROW_PARAMS),
        least);
    EXPECT(std::memcmp(one.stats.data(), stats, sizeof(float) * LETHE_STATISTICS) == 0);
    EXPECT(one.dh_rows == seen);
  }
}

// combine, and the second pass of a head that trains, against the first pass's rows.
void backward_matches_forward(Engine *e, int32_t dtype, int64_t n, int64_t d, int64_t V, Variant variant) {
  const Problem p = make_problem(e, dtype, n, d, V, false, variant);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, n, d, V, &least, &most) == LETHE_OK);
  Random random(3);
  const std::vector<float> coefficients = normal(&random, n, 1.0);
  const lethe_ref coefficient = e->put(coefficients), workspace = e->put(std::vector<char>(static_cast<size_t>(least)));
  const lethe_ref dh_rows = e->put(std::vector<float>(static_cast<size_t>(n * d)));
  const lethe_ref dw = e->put(std::vector<float>(static_cast<size_t>(V * d), 1.0f));
  const lethe_ref db = e->put(std::vector<float>(static_cast<size_t>(V), 1.0f));
  EXPECT(lethe_head_backward(e->engine, dtype, n, p.sources, d, V, p.h.ref, p.w.ref, p.bias.ref, p.soft_cap, p.rows,
                             p.row_params, coefficient, dh_rows, dw, variant.bias ? db : 0, workspace,
                             least) == LETHE_OK);
  const std::vector<float> db_seen = e->get<float>(db, static_cast<size_t>(V));
  const std::vector<float> rows_seen = load(e, dtype, dh_rows, static_cast<size_t>(n * d));
  const std::vector<float> dw_seen = e->get<float>(dw, static_cast<size_t>(V * d));
  const lethe_ref dh = e->put(std::vector<float>(static_cast<size_t>(p.sources * d), 7.0f));
  EXPECT(lethe_head_combine(e->engine, dtype, n, p.sources, d, p.rows, coefficient, dh_rows, dh) == LETHE_OK);
  const std::vector<float> dh_seen = load(e, dtype, dh, static_cast<size_t>(p.sources * d));
  std::vector<double> rows_expected, db_expected(static_cast<size_t>(V), 1.0),
      dw_expected(static_cast<size_t>(V * d), 1.0), dh_expected(static_cast<size_t>(p.sources * d), 0.0);
  for (int64_t i = 0; i < n; ++i) {
    std::vector<double> row;
    const HeadTwin twin = twin_of(p, i, &row);
    const auto source = static_cast<size_t>(p.records[static_cast<size_t>(i * LETHE_ROW_FIELDS)]);
    const double c = static_cast<double>(coefficients[static_cast<size_t>(i)]);
    for (size_t v = 0; variant.bias && v < static_cast<size_t>(V); ++v) db_expected[v] += c * twin.gradient[v];
    for (size_t j = 0; j < static_cast<size_t>(d); ++j) {
      rows_expected.push_back(c * row[j]);
      dh_expected[source * static_cast<size_t>(d) + j] += c * c * row[j];
      for (size_t v = 0; v < static_cast<size_t>(V); ++v) {
        dw_expected[v * static_cast<size_t>(d) + j] +=
            c * twin.gradient[v] * p.h.values[source * static_cast<size_t>(d) + j];
      }
    }
  }
  const double bound = dtype == LETHE_BF16 ? 2 * lethe::tolerance::kBf16Unit : 4 * lethe::tolerance::head::kSum;
  EXPECT(distance(rows_seen, rows_expected) <= bound);
  EXPECT(distance(dw_seen, dw_expected) <= bound);
  EXPECT(distance(db_seen, db_expected) <= bound);
  EXPECT(distance(dh_seen, dh_expected) <= bound);
}

void sampling_follows_the_distribution(Engine *e) {
  // A block of fibers for each draw takes its time; head_sample_test has each draw's token besides.
  const int64_t kDraws = e->cuda ? 500 : 4000, kAgain = kDraws / 3;
  constexpr int64_t V = 5;
  // d = 1 and h = 1: the weight is the logits.
  const std::vector<float> logits = {0.0f, std::log(2.0f), std::log(4.0f), std::log(3.0f), -100.0f};
  const lethe_ref w = e->put(logits), h = e->put(std::vector<float>(kDraws, 1.0f));
  std::vector<int64_t> draws(kDraws);
  for (int64_t i = 0; i < kDraws; ++i) draws[static_cast<size_t>(i)] = 5 * i;
  const lethe_ref draw = e->put(draws), ids = e->put(std::vector<int32_t>(kDraws));
  const lethe_ref workspace = e->put(std::vector<char>(100 * 24));
  const auto sample = [&](int64_t n, float temperature, int32_t top_k, float top_p, lethe_ref from) {
    EXPECT(lethe_head_sample(e->engine, LETHE_F32, n, 1, V, h, w, 0, 0, temperature, top_k, top_p, 42, from, ids,
                             workspace, 100 * 24) == LETHE_OK);
    return e->get<int32_t>(ids, static_cast<size_t>(n));
  };
  const auto share = [&](const std::vector<int32_t> &seen, int32_t id) {
    return static_cast<double>(std::count(seen.begin(), seen.end(), id)) / kDraws;
  };
  // Four standard deviations of a share of kDraws.
  const double bound = 4 * std::sqrt(0.25 / kDraws);
  const std::vector<int32_t> all = sample(kDraws, 1.0f, 0, 1.0f, draw);
  const double expected[] = {0.1, 0.2, 0.4, 0.3, 0.0};
  for (int32_t v = 0; v < V; ++v) EXPECT(std::fabs(share(all, v) - expected[v]) <= bound);
  EXPECT(share(all, 4) == 0);
  const std::vector<int32_t> two = sample(kDraws, 1.0f, 2, 1.0f, draw);
  EXPECT(std::fabs(share(two, 2) - 4.0 / 7) <= bound && share(two, 2) + share(two, 3) == 1);
  const std::vector<int32_t> nucleus = sample(kDraws, 1.0f, 0, 0.65f, draw);
  EXPECT(std::fabs(share(nucleus, 3) - 3.0 / 7) <= bound && share(nucleus, 2) + share(nucleus, 3) == 1);
  const std::vector<int32_t> tiny = sample(kDraws, 1.0f, 0, 1e-6f, draw);
  EXPECT(share(tiny, 2) == 1);
  const std::vector<int32_t> hot = sample(kDraws, 0.5f, 0, 1.0f, draw);
  EXPECT(std::fabs(share(hot, 2) - 16.0 / 30) <= bound);
  // The bias takes the weights' place, and a cap that all exceed makes them alike.
  const lethe_ref flat = e->put(std::vector<float>(V));
  const auto capped = [&](lethe_ref weight, lethe_ref bias, float cap) {
    EXPECT(lethe_head_sample(e->engine, LETHE_F32, kDraws, 1, V, h, weight, bias, cap, 1.0f, 0, 1.0f, 42, draw, ids,
                             workspace, 100 * 24) == LETHE_OK);
    return e->get<int32_t>(ids, kDraws);
  };
  EXPECT(capped(flat, w, 0) == all);
  const std::vector<int32_t> level = capped(flat, e->put(std::vector<float>{9, 8, 7, 10, 9}), 1e-3f);
  for (int32_t v = 0; v < V; ++v) EXPECT(std::fabs(share(level, v) - 0.2) <= bound);
  // A draw depends on its counter alone.
  EXPECT(sample(1, 1.0f, 0, 1.0f, e->put(std::vector<int64_t>{5 * kAgain}))[0] == all[kAgain]);
}

void misuse_is_an_answer(Engine *e) {
  const int64_t n = 3, d = 8, V = 11;
  const Problem p = make_problem(e, LETHE_F32, n, d, V, true, kPlain);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, LETHE_F32, n, d, V, &least, &most) == LETHE_OK);
  const lethe_ref stats = e->put(std::vector<float>(2 * LETHE_STATISTICS)),
                  workspace = e->put(std::vector<char>(static_cast<size_t>(most)));
  const auto run = [&](std::vector<int32_t> record, float temperature, int64_t bytes) {
    std::vector<int32_t> records = {0, 0, LETHE_ROW_STATISTICS, -1, -1};
    records.insert(records.end(), record.begin(), record.end());
    const Counts counts(records, {});
    return settled(e->engine, lethe_head_forward(e->engine, LETHE_F32, 2, p.sources, d, V, counts.references,
                                                 counts.seconds, p.h.ref, p.w.ref, 0, 0, 0, e->put(records),
                                                 e->put(std::vector<float>{1.0f, 0, 0, 0, temperature, 0, 0, 0}), stats,
                                                 0, workspace, bytes));
  };
  const auto says = [](const char *what) { return std::strstr(lethe_error_trace(), what) != nullptr; };
  EXPECT(run({0, 0, LETHE_ROW_NLL, -1, -1}, 1.0f, most) == LETHE_OK);
  EXPECT(run({0, -1, LETHE_ROW_NLL, -1, -1}, 1.0f, most) == LETHE_INVALID_ARGUMENT && says("row 1: LETHE_ROW_NLL"));
  EXPECT(run({10, 0, LETHE_ROW_NLL, -1, -1}, 1.0f, most) == LETHE_OUT_OF_BOUNDS && says("row 1: source 10"));
  EXPECT(run({0, 11, LETHE_ROW_NLL, -1, -1}, 1.0f, most) == LETHE_OUT_OF_BOUNDS && says("label 11"));
  EXPECT(run({0, -2, LETHE_ROW_UNIFORM_KL, -1, -1}, 1.0f, most) == LETHE_OUT_OF_BOUNDS);
  EXPECT(run({0, 0, 8, -1, -1}, 1.0f, most) == LETHE_INVALID_ARGUMENT && says("unknown kind 8"));
  const auto with = [&](const std::vector<int32_t> &record, const std::vector<float> &params) {
    const Counts counts(record, params);
    return settled(e->engine, lethe_head_forward(e->engine, LETHE_F32, 1, p.sources, d, V, counts.references,
                                                 counts.seconds, p.h.ref, p.w.ref, 0, 0, 0, e->put(record),
                                                 e->put(params), stats, 0, workspace, most));
  };
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT(with({0, 0, LETHE_ROW_REFERENCE_KL, 1, 2}, {1, 3, 2, 0}) == LETHE_OK);
  EXPECT(with({0, 0, LETHE_ROW_NLL, 1, 2}, {1, 3, 0, 0}) == LETHE_INVALID_ARGUMENT && says("act on a reference"));
  EXPECT(with({0, 0, LETHE_ROW_NLL, 1, 2}, {1, 0, 1, 0}) == LETHE_INVALID_ARGUMENT && says("act on a reference"));
  EXPECT(with({0, -1, LETHE_ROW_REFERENCE_KL, 1, 2}, {1, 3, 0, 0}) == LETHE_INVALID_ARGUMENT && says("needs a label"));
  EXPECT(with({0, 0, LETHE_ROW_REFERENCE_KL, 1, -1}, {1, 0, 2, 0}) == LETHE_INVALID_ARGUMENT && says("second"));
  EXPECT(with({0, 0, LETHE_ROW_REFERENCE_KL, 1, 99}, {1, 0, 2, 0}) == LETHE_OUT_OF_BOUNDS && says("second"));
  EXPECT(with({0, 0, LETHE_ROW_REFERENCE_KL, 1, 99}, {1, 0, 0, 0}) == LETHE_OK);
  EXPECT(with({0, 0, LETHE_ROW_REFERENCE_KL, 1, 2}, {1, 0, -1, 0}) == LETHE_INVALID_ARGUMENT && says("mix"));
  EXPECT(with({0, 0, LETHE_ROW_REFERENCE_KL, 1, 2}, {1, infinity, 0, 0}) == LETHE_INVALID_ARGUMENT);
  EXPECT(with({0, 0, LETHE_ROW_UNIFORM_KL_EPS, -1, -1}, {1, 0, 0, 0}) == LETHE_INVALID_ARGUMENT && says("epsilon"));
  EXPECT(with({0, 0, LETHE_ROW_UNIFORM_KL, -1, -1}, {1, 0, 0, 1e-3f}) == LETHE_INVALID_ARGUMENT && says("epsilon"));
  for (const float cap : {-1.0f, std::nanf(""), infinity}) {
    EXPECT(lethe_head_forward(e->engine, LETHE_F32, n, p.sources, d, V, 0, 0, p.h.ref, p.w.ref, 0, cap, 0, p.rows, 0,
                              stats, 0, workspace, most) == LETHE_INVALID_ARGUMENT &&
           says("soft_cap"));
  }
  EXPECT(lethe_head_backward(e->engine, LETHE_F32, n, p.sources, d, V, p.h.ref, p.w.ref, 0, 0, p.rows, 0, stats,
                             e->put(std::vector<float>(static_cast<size_t>(n * d))),
                             e->put(std::vector<float>(static_cast<size_t>(V * d))),
                             e->put(std::vector<float>(static_cast<size_t>(V))), workspace,
                             most) == LETHE_INVALID_ARGUMENT &&
         says("without bias"));
  EXPECT(run({0, 0, LETHE_ROW_REFERENCE_KL, -1, -1}, 1.0f, most) == LETHE_INVALID_ARGUMENT);
  EXPECT(run({0, 0, LETHE_ROW_KL_REFERENCE, 10, -1}, 1.0f, most) == LETHE_OUT_OF_BOUNDS);
  EXPECT(run({0, 0, LETHE_ROW_NLL, -1, -1}, 0.0f, most) == LETHE_INVALID_ARGUMENT && says("temperature"));
  EXPECT(run({0, 0, LETHE_ROW_NLL, -1, -1}, std::nanf(""), most) == LETHE_INVALID_ARGUMENT);
  EXPECT(run({0, 0, LETHE_ROW_NLL, -1, -1}, 1.0f, least - 1) == LETHE_INVALID_ARGUMENT && says("workspace"));
}

// No rows at all, the second pass of rows with a reference, and a draw from a NaN.
void other_passes_answer(Engine *e) {
  const int64_t n = 3, d = 8, V = 11;
  const Problem p = make_problem(e, LETHE_F32, n, d, V, true, kPlain);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, LETHE_F32, n, d, V, &least, &most) == LETHE_OK);
  const lethe_ref stats = e->put(std::vector<float>(2 * LETHE_STATISTICS)),
                  workspace = e->put(std::vector<char>(static_cast<size_t>(most)));
  EXPECT(lethe_head_forward(e->engine, LETHE_F32, 0, p.sources, d, V, 0, 0, p.h.ref, p.w.ref, 0, 0, 0, p.rows, 0, stats,
                            0, workspace, most) == LETHE_OK);
  const lethe_ref dh = e->put(std::vector<float>(static_cast<size_t>(p.sources * d), 5.0f));
  EXPECT(lethe_head_combine(e->engine, LETHE_F32, 0, p.sources, d, p.rows, stats, workspace, dh) == LETHE_OK);
  EXPECT(e->get<float>(dh, static_cast<size_t>(d)) == std::vector<float>(static_cast<size_t>(d), 0.0f));
  const lethe_ref dh_rows = e->put(std::vector<float>(static_cast<size_t>(n * d)));
  const lethe_ref dw = e->put(std::vector<float>(static_cast<size_t>(V * d)));
  EXPECT(settled(e->engine, lethe_head_backward(e->engine, LETHE_F32, n, p.sources, d, V, p.h.ref, p.w.ref, 0, 0,
                                                p.rows, 0, stats, dh_rows, dw, 0, workspace, most)) ==
         LETHE_UNSUPPORTED);
  const std::vector<float> broken = {std::nanf(""), 1.0f};
  EXPECT(settled(e->engine, lethe_head_sample(e->engine, LETHE_F32, 1, 1, 2, e->put(std::vector<float>{1.0f}),
                                              e->put(broken), 0, 0, 1.0f, 2, 0.5f, 1, e->put(std::vector<int64_t>{0}),
                                              e->put(std::vector<int32_t>(1)), workspace, most)) ==
         LETHE_INVALID_ARGUMENT);
}

// Counts that cannot be, and counts other than the rows'.
void counts_are_the_rows(Engine *e) {
  const int64_t d = 8, V = 11;
  const Problem p = make_problem(e, LETHE_F32, 3, d, V, true, kPlain);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, LETHE_F32, 3, d, V, &least, &most) == LETHE_OK);
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(most)));
  const auto says = [](const char *what) { return std::strstr(lethe_error_trace(), what) != nullptr; };
  const std::vector<int32_t> compared = {0, 0, LETHE_ROW_REFERENCE_KL, 1,  2, 0, 0, LETHE_ROW_KL_REFERENCE, 1, 2,
                                         0, 0, LETHE_ROW_NLL,          -1, -1};
  const lethe_ref mixed = e->put(compared), mixes = e->put(std::vector<float>{1, 0, 2, 0, 1, 0, 0, 0, 1, 0, 0, 0});
  const auto counted = [&](int64_t references, int64_t seconds) {
    return settled(e->engine, lethe_head_forward(e->engine, LETHE_F32, 3, p.sources, d, V, references, seconds, p.h.ref,
                                                 p.w.ref, 0, 0, 0, mixed, mixes,
                                                 e->put(std::vector<float>(3 * LETHE_STATISTICS)), 0, workspace, most));
  };
  EXPECT(counted(2, 1) == LETHE_OK);
  for (const auto &[references, seconds] : std::vector<std::pair<int64_t, int64_t>>{{-1, 0}, {2, -1}, {1, 2}, {4, 1}}) {
    EXPECT(counted(references, seconds) == LETHE_INVALID_ARGUMENT && says("seconds <= references <= n"));
  }
  for (const auto &[references, seconds] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {1, 1}, {2, 0}, {2, 2}, {3, 1}}) {
    EXPECT(counted(references, seconds) == LETHE_INVALID_ARGUMENT && says("references is") &&
           says("the rows have 2 and 1"));
  }
}

// On a CPU. A product of fewer rows spends its time on the weight, so a wide vocabulary gets the room for them; but few
// rows need no more than theirs.
void wide_vocabularies_have_rows_enough(Engine *e) {
  constexpr int64_t kWide = 256000, kRow = kWide * 4;
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, LETHE_F32, 1000, 8, kWide, &least, &most) == LETHE_OK);
  EXPECT(most >= 128 * kRow);
  EXPECT(least <= 6 * kRow);
  EXPECT(lethe_head_workspace(e->engine, LETHE_F32, 16, 8, kWide, &least, &most) == LETHE_OK);
  EXPECT(most >= 16 * kRow && most <= 40 * kRow);
}

// What a sanitizer has no time for; shorter rows take the same ways.
#if defined(LETHE_SMALL)
constexpr int64_t kVocabularies[] = {1, 2, 7, 17, 131, 515};
#else
constexpr int64_t kVocabularies[] = {1, 2, 7, 17, 131, 1000, 4099};
#endif

}  // namespace

int main(int argc, char **argv) {
  const CommandLine line(argc, argv);
  for (const std::string &name : line.backends) {
    Engine e(name.c_str(), line.plugins);
    if (e.status == LETHE_NO_DEVICE && name == "cpu_avx512") {
      std::printf("cpu_avx512: %s\n", lethe_error_trace());
      continue;
    }
    EXPECT(e.status == LETHE_OK);
    if (e.status != LETHE_OK) return 1;
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const Variant variant : kVariants) {
        for (const int64_t V : kVocabularies) {
          forward_matches_twin(&e, dtype, V > 1000 ? 9 : 23, 24, V, variant);
        }
        for (const int64_t V : {1, 7, 131, 515}) backward_matches_forward(&e, dtype, 11, 24, V, variant);
        forward_matches_twin(&e, dtype, 1, 3, 9, variant);
      }
    }
    sampling_follows_the_distribution(&e);
    misuse_is_an_answer(&e);
    other_passes_answer(&e);
    counts_are_the_rows(&e);
    if (name.rfind("cpu", 0) == 0) wide_vocabularies_have_rows_enough(&e);
  }
  std::printf("head: %d of %d checks failed\n", failures, checks);
  return failures == 0 ? 0 : 1;
}
