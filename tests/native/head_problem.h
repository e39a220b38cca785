// A head with its rows in an engine's memory, and the rows' twins.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

#include "backends.h"
#include "head_cases.h"
#include "head_twin.h"
#include "lethe.h"

namespace lethe::test {

inline int failures = 0, checks = 0;

#define EXPECT(condition)                                                                                             \
  do {                                                                                                                \
    ++checks;                                                                                                         \
    if (!(condition)) {                                                                                               \
      ++failures;                                                                                                     \
      std::fprintf(stderr, "%s:%d: expected %s\n  trace: %s\n", __FILE__, __LINE__, #condition, lethe_error_trace()); \
    }                                                                                                                 \
  } while (0)

class Engine {
 public:
  Engine(const char *name, const char *plugins) : cuda(std::string(name).compare(0, 4, "cuda") == 0) {
    status = lethe_engine_open(name, plugins, 2, &engine);
  }
  ~Engine() {
    if (engine != nullptr) lethe_engine_close(engine);
  }
  Engine(const Engine &) = delete;
  Engine &operator=(const Engine &) = delete;
  template <class T>
  lethe_ref put(const std::vector<T> &content) {
    lethe_ref ref = 0;
    const auto bytes = static_cast<int64_t>(content.size() * sizeof(T));
    EXPECT(lethe_buffer_alloc(engine, std::max<int64_t>(bytes, 4), &ref) == LETHE_OK);
    if (bytes > 0) EXPECT(lethe_write(engine, ref, content.data(), bytes) == LETHE_OK);
    return ref;
  }
  template <class T>
  std::vector<T> get(lethe_ref ref, size_t count) {
    std::vector<T> content(count);
    if (count > 0) EXPECT(lethe_read(engine, ref, content.data(), static_cast<int64_t>(count * sizeof(T))) == LETHE_OK);
    return content;
  }
  void drop(std::initializer_list<lethe_ref> refs) {
    for (const lethe_ref ref : refs) EXPECT(lethe_buffer_free(engine, ref) == LETHE_OK);
  }
  lethe_engine *engine = nullptr;
  bool cuda;
  int status = 0;
};

// A matrix in storage, and the numbers it holds.
struct Stored {
  lethe_ref ref;
  std::vector<float> values;
};

inline Stored store(Engine *e, int32_t dtype, const std::vector<float> &values) {
  const lethe_ref full = e->put(values);
  if (dtype == LETHE_F32) return {full, values};
  const auto n = static_cast<int64_t>(values.size());
  const lethe_ref half = e->put(std::vector<uint16_t>(values.size()));
  EXPECT(lethe_convert(e->engine, n, LETHE_F32, full, LETHE_BF16, half) == LETHE_OK);
  EXPECT(lethe_convert(e->engine, n, LETHE_BF16, half, LETHE_F32, full) == LETHE_OK);
  return {half, e->get<float>(full, values.size())};
}

inline std::vector<float> load(Engine *e, int32_t dtype, lethe_ref ref, size_t count) {
  if (dtype == LETHE_F32) return e->get<float>(ref, count);
  const lethe_ref full = e->put(std::vector<float>(count));
  EXPECT(lethe_convert(e->engine, static_cast<int64_t>(count), LETHE_BF16, ref, LETHE_F32, full) == LETHE_OK);
  return e->get<float>(full, count);
}

inline std::vector<float> normal(Random *random, int64_t count, double spread) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float &x : values) x = static_cast<float>(spread * random->normal());
  return values;
}

inline double distance(const std::vector<float> &seen, const std::vector<double> &expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (seen[i] - expected[i]) * (seen[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

struct Problem {
  int32_t dtype;
  int64_t n, sources, d, V;
  Stored h, w, bias;
  float soft_cap;
  std::vector<int32_t> records;
  std::vector<float> params;
  lethe_ref rows, row_params, mean;
};

// How many rows have a reference, and how many of those mix; no parameters: none mixes.
struct Counts {
  int64_t references = 0, seconds = 0;
  Counts(const std::vector<int32_t> &records, const std::vector<float> &params) {
    for (size_t row = 0; row < records.size() / LETHE_ROW_FIELDS; ++row) {
      if (!is_reference_kind(records[row * LETHE_ROW_FIELDS + 2])) continue;
      ++references;
      if (!params.empty() && params[row * LETHE_ROW_PARAMS + 2] > 0) ++seconds;
    }
  }
};

// What a head has besides its weight, and whether rows move their references.
struct Variant {
  bool bias;
  float soft_cap;
  bool moved;
};
inline constexpr Variant kPlain = {false, 0, false};
inline constexpr Variant kVariants[] = {kPlain, {true, 0, true}, {false, 5, false}, {true, 9, true}};

// A row's parameters: temperature, label shift, mix, epsilon.
inline std::vector<float> make_params(Random *random, int kind, bool moved, int64_t i) {
  const bool reference = moved && is_reference_kind(kind);
  return {static_cast<float>(0.5 + random->uniform()), reference && i % 3 != 0 ? 2.5f : 0.0f,
          reference && i % 2 == 0 ? 1.5f : 0.0f, kind == LETHE_ROW_UNIFORM_KL_EPS ? 1e-3f : 0.0f};
}

inline Problem make_problem(Engine *e, int32_t dtype, int64_t n, int64_t d, int64_t V, bool references,
                            Variant variant) {
  Random random(static_cast<uint64_t>(V * 31 + n));
  Problem p = {dtype, n, 3 * n + 1, d, V, {}, {}, {0, {}}, variant.soft_cap, {}, {}, 0, 0, 0};
  std::vector<float> h = normal(&random, p.sources * d, 1.0);
  // The sources from n + 1 on are the first ones, moved a little: references near the policy. Second references, of
  // which the last n are, lie farther off.
  for (int64_t i = 0; i < n * d; ++i) {
    h[static_cast<size_t>((n + 1) * d + i)] = h[static_cast<size_t>(i)] + 0.01f;
    h[static_cast<size_t>((2 * n + 1) * d + i)] = h[static_cast<size_t>(i)] + static_cast<float>(0.3 * random.normal());
  }
  p.h = store(e, dtype, h);
  p.w = store(e, dtype, normal(&random, V * d, 3 / std::sqrt(static_cast<double>(d))));
  if (variant.bias) p.bias = store(e, dtype, normal(&random, V, 1.0));
  for (int64_t i = 0; i < n; ++i) {
    const int kinds[] = {LETHE_ROW_NLL,          LETHE_ROW_REFERENCE_KL,  LETHE_ROW_STATISTICS,
                         LETHE_ROW_UNIFORM_KL,   LETHE_ROW_KL_REFERENCE,  LETHE_ROW_KL_UNIFORM,
                         LETHE_ROW_LOGIT_MARGIN, LETHE_ROW_UNIFORM_KL_EPS};
    int kind = kinds[i % 8];
    if (!references && is_reference_kind(kind)) kind = LETHE_ROW_NLL;
    const int64_t source = random.below(n);
    p.records.insert(p.records.end(), {static_cast<int32_t>(source), static_cast<int32_t>(random.below(V)), kind,
                                       static_cast<int32_t>(n + 1 + source), static_cast<int32_t>(2 * n + 1 + source)});
    const std::vector<float> params = make_params(&random, kind, variant.moved, i);
    p.params.insert(p.params.end(), params.begin(), params.end());
  }
  p.rows = e->put(p.records);
  p.row_params = e->put(p.params);
  p.mean = e->put(std::vector<float>(static_cast<size_t>(d)));
  EXPECT(lethe_head_mean(e->engine, dtype, d, V, p.w.ref, p.mean) == LETHE_OK);
  return p;
}

// Row i's twin on logits in fp64, and its gradient with respect to its source of h.
inline HeadTwin twin_of(const Problem &p, int64_t i, std::vector<double> *dh) {
  const int32_t *record = p.records.data() + i * LETHE_ROW_FIELDS;
  std::vector<float> z(static_cast<size_t>(p.V)), delta(z), second(z);
  const auto product = [&](int64_t source, int64_t v) {
    double sum = 0;
    for (int64_t j = 0; j < p.d; ++j) {
      sum += static_cast<double>(p.h.values[static_cast<size_t>(source * p.d + j)]) *
             p.w.values[static_cast<size_t>(v * p.d + j)];
    }
    return sum;
  };
  const bool reference = is_reference_kind(record[2]);
  for (int64_t v = 0; v < p.V; ++v) {
    const double logit = product(record[0], v);
    z[static_cast<size_t>(v)] = static_cast<float>(logit);
    if (!reference) continue;
    const double reference_logit = product(record[3], v);
    delta[static_cast<size_t>(v)] = static_cast<float>(reference_logit - logit);
    second[static_cast<size_t>(v)] = static_cast<float>(product(record[4], v) - reference_logit);
  }
  const float *params = p.params.data() + i * LETHE_ROW_PARAMS;
  TwinRow row = {};
  row.kind = record[2];
  row.label = record[1];
  row.V = p.V;
  row.z = z.data();
  if (reference) row.delta = delta.data();
  row.temperature = static_cast<double>(params[0]);
  row.label_shift = static_cast<double>(params[1]);
  row.mix = static_cast<double>(params[2]);
  row.epsilon = static_cast<double>(params[3]);
  if (reference && row.mix > 0) row.second = second.data();
  if (p.bias.ref != 0) row.bias = p.bias.values.data();
  row.soft_cap = static_cast<double>(p.soft_cap);
  row.coefficient = 1;
  HeadTwin twin = twin_row(row);
  dh->assign(static_cast<size_t>(p.d), 0.0);
  for (int64_t v = 0; v < p.V; ++v) {
    for (int64_t j = 0; j < p.d; ++j) {
      (*dh)[static_cast<size_t>(j)] +=
          twin.gradient[static_cast<size_t>(v)] * p.w.values[static_cast<size_t>(v * p.d + j)];
    }
  }
  return twin;
}

}  // namespace lethe::test
