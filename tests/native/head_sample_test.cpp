// Sampling from the head, draw by draw, against a twin in fp64: the same token wherever rounding cannot decide.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "head_problem.h"
#include "philox_twin.h"
#include "tolerance.h"

namespace {

using namespace lethe::test;

struct Case {
  int64_t V;
  float temperature, soft_cap;
  int32_t top_k;
  float top_p;
  bool bias;
};

constexpr uint64_t kSeed = 0x123456789abcdefull;

// In [0, 1), with 53 bits.
double uniform(int64_t draw) {
  const uint32_t counter[4] = {static_cast<uint32_t>(draw), static_cast<uint32_t>(static_cast<uint64_t>(draw) >> 32), 0,
                               0};
  uint32_t words[4];
  philox(counter, kSeed, words);
  return static_cast<double>((static_cast<uint64_t>(words[0]) << 32 | words[1]) >> 11) * 0x1p-53;
}

// The columns that are drawn from, in the order in which they are.
struct Kept {
  std::vector<size_t> columns;
  bool certain = true;  // no rounding could have kept others
};

Kept keep(const std::vector<double> &weight, const Case &c, double doubt) {
  Kept kept;
  for (size_t v = 0; v < weight.size(); ++v) kept.columns.push_back(v);
  if (c.top_k == 0 && c.top_p >= 1) return kept;
  std::stable_sort(kept.columns.begin(), kept.columns.end(), [&](size_t a, size_t b) { return weight[a] > weight[b]; });
  if (c.top_k > 0 && c.top_k < c.V) kept.columns.resize(static_cast<size_t>(c.top_k));
  if (c.top_p >= 1) {
    std::sort(kept.columns.begin(), kept.columns.end());
    return kept;
  }
  double total = 0, running = 0;
  for (const size_t v : kept.columns) total += weight[v];
  size_t count = 0;
  while (running < static_cast<double>(c.top_p) * total && count < kept.columns.size()) {
    running += weight[kept.columns[count++]];
    if (std::fabs(running - static_cast<double>(c.top_p) * total) <= doubt * total) kept.certain = false;
  }
  kept.columns.resize(count);
  return kept;
}

// The token, or -1 where rounding may decide.
int32_t twin_draw(const std::vector<double> &weight, const Kept &kept, double u, double doubt) {
  double total = 0, running = 0;
  for (const size_t v : kept.columns) total += weight[v];
  for (const size_t v : kept.columns) {
    running += weight[v];
    if (std::fabs(running - u * total) <= doubt * total) return -1;
    if (running > u * total) return static_cast<int32_t>(v);
  }
  return -1;
}

void draws_are_the_twins(Engine *e, int32_t dtype, const Case &c) {
  constexpr int64_t kRows = 12;
  Random random(static_cast<uint64_t>(c.V * 7 + c.top_k));
  // Multiples of 1/8: many are alike, and none nearly.
  std::vector<float> logits, shifts;
  for (int64_t v = 0; v < c.V; ++v) {
    logits.push_back(static_cast<float>(std::floor(8 * random.normal()) / 8));
    shifts.push_back(c.bias ? static_cast<float>(std::floor(4 * random.normal()) / 4) : 0.0f);
  }
  // d = 1 and h = 1 or 2: the weight's multiples are the logits.
  std::vector<float> hidden;
  for (int64_t i = 0; i < kRows; ++i) hidden.push_back(static_cast<float>(1 + i % 2));
  std::vector<int64_t> draws;
  for (int64_t i = 0; i < kRows; ++i) draws.push_back(i < 4 ? i : static_cast<int64_t>(random.bits() >> 1));
  const Stored w = store(e, dtype, logits), h = store(e, dtype, hidden), bias = store(e, dtype, shifts);
  const lethe_ref draw = e->put(draws), ids = e->put(std::vector<int32_t>(kRows, -7));
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, dtype, kRows, 1, c.V, &least, &most) == LETHE_OK);
  // Several chunks, from an odd address.
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(2 * least + 3)));
  EXPECT(lethe_head_sample(e->engine, dtype, kRows, 1, c.V, h.ref, w.ref, c.bias ? bias.ref : 0, c.soft_cap,
                           c.temperature, c.top_k, c.top_p, static_cast<int64_t>(kSeed), draw, ids,
                           workspace + (e->cuda ? 3 : 0), 2 * least) == LETHE_OK);
  const std::vector<int32_t> seen = e->get<int32_t>(ids, kRows);
  int certain = 0;
  for (int64_t i = 0; i < kRows; ++i) {
    std::vector<double> z;
    for (size_t v = 0; v < static_cast<size_t>(c.V); ++v) {
      const double u = static_cast<double>(w.values[v]) * static_cast<double>(hidden[static_cast<size_t>(i)]) +
                       static_cast<double>(bias.values[v]);
      const double cap = static_cast<double>(c.soft_cap);
      z.push_back((cap > 0 ? cap * std::tanh(u / cap) : u) / static_cast<double>(c.temperature));
    }
    const double max = *std::max_element(z.begin(), z.end());
    std::vector<double> weight(z.size());
    std::transform(z.begin(), z.end(), weight.begin(), [max](double x) { return std::exp(x - max); });
    // What exp, its argument and the cap may be off by, twice: in the sum and in the total. Without a cap the logits
    // are exact.
    namespace bound = lethe::tolerance::head;
    const double range = max - *std::min_element(z.begin(), z.end());
    const double doubt = 2 * (bound::kExp + bound::kArgument * range +
                              2 * bound::kTanh * static_cast<double>(c.soft_cap / c.temperature));
    const Kept kept = keep(weight, c, doubt);
    const int32_t expected = kept.certain ? twin_draw(weight, kept, uniform(draws[static_cast<size_t>(i)]), doubt) : -1;
    if (expected < 0) continue;
    ++certain;
    EXPECT(seen[static_cast<size_t>(i)] == expected);
  }
  EXPECT(certain > 0);
  e->drop({w.ref, h.ref, bias.ref, draw, ids, workspace});
}

// The first row that cannot be drawn from is named, and what it is about; an asynchronous backend leaves all ids alone.
void broken_rows_are_named(Engine *e) {
  const int64_t n = 9, V = 6;
  // Hidden rows that overflow: their logits are infinite, those of the others are sound.
  std::vector<float> h(static_cast<size_t>(n), 1.0f);
  h[5] = h[8] = 3e38f;
  const lethe_ref ids = e->put(std::vector<int32_t>(static_cast<size_t>(n), -7));
  const lethe_ref w = e->put(std::vector<float>{1, 2, 3, 4, 5, 6}), workspace = e->put(std::vector<char>(4096));
  const lethe_ref draws = e->put(std::vector<int64_t>(static_cast<size_t>(n)));
  EXPECT(settled(e->engine, lethe_head_sample(e->engine, LETHE_F32, n, 1, V, e->put(h), w, 0, 0, 1.0f, 3, 0.9f, 1,
                                              draws, ids, workspace, 100)) == LETHE_INVALID_ARGUMENT &&
         std::strstr(lethe_error_trace(), "row 5: its logits are not finite") != nullptr);
  if (e->cuda) EXPECT(e->get<int32_t>(ids, 9) == std::vector<int32_t>(9, -7));
  EXPECT(lethe_head_sample(e->engine, LETHE_F32, n, 1, V, e->put(h), w, 0, 0, 1.0f, 3, 0.9f, 1, draws, ids, workspace,
                           8) == LETHE_INVALID_ARGUMENT &&
         std::strstr(lethe_error_trace(), "sampling needs") != nullptr);
  const lethe_ref broken = e->put(std::vector<float>{1, 2, std::nanf(""), 4, 5, 6});
  EXPECT(settled(e->engine, lethe_head_sample(e->engine, LETHE_F32, n, 1, V, e->put(h), broken, 0, 0, 1.0f, 0, 1.0f, 1,
                                              draws, ids, workspace, 4096)) == LETHE_INVALID_ARGUMENT &&
         std::strstr(lethe_error_trace(), "row 0: its logits are not finite") != nullptr);
  EXPECT(lethe_head_sample(e->engine, LETHE_F32, 0, 1, V, w, w, 0, 0, 1.0f, 3, 0.9f, 1, draws, ids, workspace, 4096) ==
         LETHE_OK);
}

// What a sanitizer has no time for; shorter rows take the same ways.
#if defined(LETHE_SMALL)
constexpr int64_t kMostColumns = 1000;
#else
constexpr int64_t kMostColumns = INT64_MAX;
#endif

}  // namespace

int main(int argc, char **argv) {
  const CommandLine line(argc, argv);
  for (const std::string &name : line.backends) {
    Engine e(name.c_str(), line.plugins);
    if (e.status == LETHE_NO_DEVICE && name == "cpu_avx512") continue;
    EXPECT(e.status == LETHE_OK);
    if (e.status != LETHE_OK) return 1;
    const std::vector<Case> cases = {
        {1, 1.0f, 0, 0, 1.0f, false},     {1, 1.0f, 0, 1, 0.5f, false},        {5, 0.7f, 0, 0, 1.0f, true},
        {5, 1.0f, 0, 3, 1.0f, false},     {33, 1.0f, 0, 0, 0.9f, false},       {33, 1.3f, 5.0f, 7, 0.8f, true},
        {100, 0.5f, 0, 1, 1.0f, false},   {100, 1.0f, 0, 200, 1.0f, false},    {100, 1.0f, 0, 99, 0.999f, true},
        {1000, 1.0f, 0, 0, 1e-6f, false}, {1000, 2.0f, 0, 40, 0.95f, false},   {1000, 1.0f, 0, 0, 0.5f, true},
        {4099, 1.0f, 0, 0, 0.6f, false},  {4099, 1.5f, 30.0f, 50, 1.0f, true}, {4099, 1.0f, 0, 0, 1.0f, false},
    };
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const Case &c : cases) {
        if (c.V <= kMostColumns) draws_are_the_twins(&e, dtype, c);
      }
    }
    broken_rows_are_named(&e);
  }
  std::printf("head: %d of %d checks failed\n", failures, checks);
  return failures == 0 ? 0 : 1;
}
