// The one case list of the head's row kernel: correctness on every backend, and before any timing.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "lethe.h"

namespace lethe::test {

// The same numbers on every machine; std's distributions are not.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t bits() {  // SplitMix64 (Steele, Lea & Flood 2014)
    uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  double uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }
  int64_t below(int64_t n) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(n)); }

 private:
  uint64_t state_;
};

enum class Logits {
  kFlat,       // all alike but for 1e-3
  kRandom,     // standard deviation 3
  kPeaked,     // one at 40, the rest 0
  kSteep,      // one at 300: what is left underflows beside it
  kLarge,      // up to +-1e4
  kMasked,     // a third is -inf
  kSingle,     // all but one are -inf
  kAllMasked,  // all are -inf
  kNaN,        // one is NaN
  kPlusInf,    // one is +inf
};
inline constexpr const char *kLogitNames[] = {"flat",   "random", "peaked",     "steep", "large",
                                              "masked", "single", "all-masked", "nan",   "plus-inf"};

// What a reference row's logits differ by, by row: nothing, 1e-4, 1, 30, or 1e-3 around an offset of 20.
inline constexpr double kDeltaSpread[] = {0.0, 1e-4, 1.0, 30.0, 1e-3};
inline constexpr double kDeltaOffset[] = {0.0, 0.0, 0.0, 0.0, 20.0};
inline constexpr int kDeltas = 5;

struct HeadCase {
  std::string name;
  int64_t rows, V;
  int64_t pad;     // floats between a row's end and the next
  int64_t offset;  // floats between a 64-byte boundary and the first row
  Logits logits;
  int kind;  // a lethe_row_kind, or -1: every kind in turn
  bool temperatures, means, coefficients, bias;
  float soft_cap;  // 0: none
  uint64_t seed;
  int64_t ld() const { return V + pad; }
};

struct HeadData {
  std::vector<float> z;            // [rows, ld]
  std::vector<float> bias;         // [V] or empty
  std::vector<float> delta;        // [references, ld]
  std::vector<float> second;       // [rows that mix, ld]
  std::vector<int32_t> delta_of;   // [rows]: row of delta, or -1
  std::vector<int32_t> second_of;  // [rows]: row of second, or -1
  std::vector<int32_t> records;    // [rows, LETHE_ROW_FIELDS]
  std::vector<float> row_params;   // [rows, LETHE_ROW_PARAMS]
  std::vector<float> means;        // [rows] or empty: mean logits
  std::vector<float> coefficient;  // [rows] or empty
};

inline bool is_reference_kind(int kind) { return kind == LETHE_ROW_REFERENCE_KL || kind == LETHE_ROW_KL_REFERENCE; }

inline void fill_logits(const HeadCase &c, Random *random, float *z, int64_t special) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (int64_t v = 0; v < c.V; ++v) {
    const bool at = v == special;
    switch (c.logits) {
      case Logits::kFlat:
        z[v] = static_cast<float>(1.5 + 1e-3 * random->normal());
        break;
      case Logits::kPeaked:
        z[v] = at ? 40.0f : 0.0f;
        break;
      case Logits::kSteep:
        z[v] = at ? 300.0f : static_cast<float>(random->normal());
        break;
      case Logits::kLarge:
        z[v] = static_cast<float>(1e4 * (2 * random->uniform() - 1));
        break;
      case Logits::kMasked:
        z[v] = random->uniform() < 1.0 / 3 ? -infinity : static_cast<float>(3 * random->normal());
        break;
      case Logits::kSingle:
        z[v] = at ? -2.5f : -infinity;
        break;
      case Logits::kAllMasked:
        z[v] = -infinity;
        break;
      default:
        z[v] = static_cast<float>(3 * random->normal());
    }
  }
  if (c.logits == Logits::kMasked) z[special] = 0.5f;
  if (c.logits == Logits::kNaN) z[special] = std::numeric_limits<float>::quiet_NaN();
  if (c.logits == Logits::kPlusInf) z[special] = infinity;
}

inline constexpr int kKinds = 8;

// A row's parameters: temperature, and what its kind knows besides.
inline void add_params(const HeadCase &c, int kind, bool labelled, size_t row, Random *random, HeadData *data) {
  const bool reference = is_reference_kind(kind);
  const float epsilons[] = {1e-12f, 1e-3f, 0.5f};
  data->row_params.push_back(c.temperatures ? static_cast<float>(0.3 + 2 * random->uniform()) : 1.0f);
  data->row_params.push_back(reference && labelled && row % 3 == 1 ? static_cast<float>(3 * random->normal()) : 0.0f);
  data->row_params.push_back(reference && row % 4 == 1 ? static_cast<float>(2 * random->uniform()) : 0.0f);
  data->row_params.push_back(kind == LETHE_ROW_UNIFORM_KL_EPS ? epsilons[row / kKinds % 3] : 0.0f);
}

inline HeadData make_head_data(const HeadCase &c) {
  Random random(c.seed);
  HeadData data;
  const auto rows = static_cast<size_t>(c.rows);
  const auto ld = static_cast<size_t>(c.ld());
  data.z.assign(rows * ld, 0.0f);
  for (int64_t v = 0; c.bias && v < c.V; ++v) data.bias.push_back(static_cast<float>(random.normal()));
  for (size_t row = 0; row < rows; ++row) {
    const int kind = c.kind >= 0 ? c.kind : static_cast<int>(row % kKinds);
    const int64_t special = random.below(c.V);
    const int64_t labels[] = {special, random.below(c.V), 0, c.V - 1, -1};
    int64_t label = labels[(row / kKinds + row) % 5];
    if (kind == LETHE_ROW_NLL && label < 0) label = special;
    fill_logits(c, &random, data.z.data() + row * ld, special);
    const int32_t record[] = {static_cast<int32_t>(row), static_cast<int32_t>(label), kind, -1, -1};
    data.records.insert(data.records.end(), record, record + LETHE_ROW_FIELDS);
    data.delta_of.push_back(-1);
    data.second_of.push_back(-1);
    if (is_reference_kind(kind)) {
      data.delta_of.back() = static_cast<int32_t>(data.delta.size() / ld);
      data.records[row * LETHE_ROW_FIELDS + 3] = static_cast<int32_t>(row);
      const size_t type = (row / kKinds + static_cast<size_t>(c.seed)) % kDeltas;
      for (size_t v = 0; v < ld; ++v) {
        data.delta.push_back(static_cast<float>(kDeltaOffset[type] + kDeltaSpread[type] * random.normal()));
      }
    }
    add_params(c, kind, label >= 0, row, &random, &data);
    if (data.row_params[row * LETHE_ROW_PARAMS + 2] > 0) {
      data.second_of.back() = static_cast<int32_t>(data.second.size() / ld);
      data.records[row * LETHE_ROW_FIELDS + 4] = static_cast<int32_t>(row);
      for (size_t v = 0; v < ld; ++v) data.second.push_back(static_cast<float>(random.normal()));
    }
    if (c.means) data.means.push_back(static_cast<float>(random.normal()));
    if (c.coefficients) data.coefficient.push_back(static_cast<float>(random.normal()));
  }
  return data;
}

// `full` adds the long rows; without it the list is short enough for a sanitizer.
inline std::vector<HeadCase> head_cases(bool full) {
  std::vector<HeadCase> cases;
  const auto add = [&](int64_t rows, int64_t V, int64_t pad, int64_t offset, Logits logits, int kind = -1) {
    const uint64_t seed = cases.size();
    const std::string name = std::string(kLogitNames[static_cast<int>(logits)]) + " rows=" + std::to_string(rows) +
                             " V=" + std::to_string(V) + " pad=" + std::to_string(pad) +
                             " offset=" + std::to_string(offset) + (kind < 0 ? "" : " kind=" + std::to_string(kind));
    // Temperatures, means, coefficients, a bias and a soft cap: every pair of them meets in some case.
    const float cap = seed % 5 == 2 ? 30.0f : seed % 7 == 3 ? 5.0f : 0.0f;
    cases.push_back({name, rows, V, pad, offset, logits, kind, seed % 2 == 1, seed % 3 == 1 && cap == 0, seed % 4 == 3,
                     seed / 2 % 3 == 1, cap, seed});
  };
  const Logits sound[] = {Logits::kFlat,  Logits::kRandom, Logits::kPeaked, Logits::kSteep,
                          Logits::kLarge, Logits::kMasked, Logits::kSingle};
  const Logits broken[] = {Logits::kAllMasked, Logits::kNaN, Logits::kPlusInf};
  int64_t turn = 0;
  for (const int64_t V : {1, 2, 7, 8, 9, 15, 16, 17, 264}) {
    for (const Logits logits : sound) add(V <= 17 ? 40 : 16, V, turn % 4, (turn / 3) % 4, logits), ++turn;
    for (const Logits logits : broken) add(kKinds, V, turn % 4, (turn / 3) % 4, logits), ++turn;
  }
  // Enough tiles of the smallest block that a gradient in place could overtake the reads.
  add(kKinds, 1025, 1, 2, Logits::kRandom);
  add(kKinds, 1026, 0, 0, Logits::kRandom);
  // On chip a row takes what static and dynamic shared memory have together before a kernel asks for more.
  add(2, 11999, 3, 1, Logits::kRandom, LETHE_ROW_NLL);
  add(2, 12001, 0, 0, Logits::kRandom, LETHE_ROW_UNIFORM_KL);
  if (!full) return cases;
  for (const int64_t V : {1001, 1026, 2047, 4096, 8193, 32003}) {
    for (const Logits logits : sound) add(V > 10000 ? kKinds : 40, V, turn % 4, (turn / 3) % 4, logits), ++turn;
    add(kKinds, V, 1, 1, Logits::kNaN);
  }
  // A vocabulary of each remainder by 8 that a vector load can meet, and every delta beside every kind.
  for (const int64_t V : {32000, 32001, 32002, 32007}) add(40, V, 0, turn++ % 4, Logits::kRandom);
  return cases;
}

}  // namespace lethe::test
