// Heads whose rows all have the fused form (LETHE_HEAD_FORM=fused), and passes over them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "head_problem.h"
#include "shim_knobs.h"

namespace lethe::test {

inline constexpr float kBefore = -3.0f;

// What logits look like: their spread, whether W's rows have a mean of their size, and how far the labels of every
// other row stand out.
struct Look {
  const char *name;
  double spread, common, label;
};
inline constexpr Look kLooks[] = {{"near-uniform", 1e-3, 0, 0}, {"near-uniform, W with a mean", 1e-3, 1, 0},
                                  {"flat", 0.3, 0, 0},          {"flat, W with a mean", 1, 1, 0},
                                  {"random", 3, 0, 0},          {"peaky", 3, 0.3, 25},
                                  {"steep", 100, 0, 0},         {"random, W with a mean", 3, 3, 0}};

inline constexpr int kFusedKinds[] = {LETHE_ROW_NLL, LETHE_ROW_UNIFORM_KL, LETHE_ROW_STATISTICS,
                                      LETHE_ROW_LOGIT_MARGIN};

inline Problem make_fused(Engine *e, int32_t dtype, int64_t n, int64_t d, int64_t V, const Look &look, bool bias) {
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

inline void drop(Engine *e, const Problem &p) {
  e->drop({p.h.ref, p.w.ref, p.rows, p.row_params, p.mean});
  if (p.bias.ref != 0) e->drop({p.bias.ref});
}

struct Result {
  int status = 0;
  std::string trace;
  std::vector<float> stats, dh_rows;
};
inline bool same_bits(const Result &a, const Result &b) {
  const auto same = [](const std::vector<float> &x, const std::vector<float> &y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  };
  return same(a.stats, b.stats) && same(a.dh_rows, b.dh_rows);
}

// Of the workspace's `share` of the most; 0: the least.
inline Result forward(Engine *e, const Problem &p, double share, int64_t rows = -1, bool gradient = true) {
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

inline std::unique_ptr<Engine> opened(const char *form, const char *backend, const char *plugins) {
  form == nullptr ? unsetenv("LETHE_HEAD_FORM") : setenv("LETHE_HEAD_FORM", form, 1);
  auto e = std::make_unique<Engine>(backend, plugins);
  unsetenv("LETHE_HEAD_FORM");
  return e;
}

inline std::string recorded(Engine *e, const std::function<void()> &calls) {
  EXPECT(lethe_record_launches(e->engine, 1) == LETHE_OK);
  calls();
  int64_t needed = 0;
  EXPECT(lethe_launches(e->engine, nullptr, 0, &needed) == LETHE_OK);
  std::string out(static_cast<size_t>(needed), '\0');
  EXPECT(lethe_launches(e->engine, out.data(), needed, &needed) == LETHE_OK);
  EXPECT(lethe_record_launches(e->engine, 0) == LETHE_OK);
  return out.c_str();
}

inline int count(const std::string &text, const std::string &kernel) {
  const std::string part = R"("kernel":")" + kernel + "\"";
  int n = 0;
  for (size_t i = text.find(part); i != std::string::npos; i = text.find(part, i + 1)) ++n;
  return n;
}

}  // namespace lethe::test
