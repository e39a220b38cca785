// The gradient norm and AdamW part by part: to the bit against a twin; and what stochastic rounding and 8-bit moments
// promise, against what they must come to.
#include <algorithm>
#include <limits>

#include "op_check.h"
#include "tolerance.h"
#include "update_part_twin.h"

namespace lethe::test {
namespace {

// How many numbers are drawn where a mean is looked at, and in how many steps; sanitizers slow the shim down.
#if defined(LETHE_SMALL)
constexpr int64_t kMany = 4096;
constexpr int kUpdates = 4;
#else
constexpr int64_t kMany = 65536;
constexpr int kUpdates = 20;
#endif

size_t at(int64_t i) { return static_cast<size_t>(i); }
Numbers wide(const std::vector<float> &x) { return Numbers(x.begin(), x.end()); }

// A part on a device.
struct Part {
  bool master, codes;
  int32_t dtype;
  int64_t n;
  lethe_ref p = 0, m = 0, v = 0, m_scale = 0, v_scale = 0, maps = 0, g = 0, copy = 0, state = 0;

  Part(Operands *operands, const PartTwin &twin, int32_t storage, int64_t offset)
      : master(twin.master), codes(twin.codes), dtype(storage), n(static_cast<int64_t>(twin.p.size())) {
    if (master) p = operands->add(wide(twin.p), LETHE_F32, offset);
    copy = operands->add(wide(twin.p), dtype, offset);
    if (codes) {
      m = operands->add(twin.m_codes, offset);
      v = operands->add(twin.v_codes, offset);
      m_scale = operands->add(wide(twin.m_scale), LETHE_F32, offset);
      v_scale = operands->add(wide(twin.v_scale), LETHE_F32, offset);
      maps = operands->add(wide(*twin.maps), LETHE_F32, offset);
    } else {
      m = operands->add(wide(twin.m), LETHE_F32, offset);
      v = operands->add(wide(twin.v), LETHE_F32, offset);
    }
    g = operands->add(Numbers(at(n)), LETHE_F32, offset);
    state = operands->add(Numbers(LETHE_UPDATE_STATE), LETHE_F32, offset);
  }

  bool gradient(lethe_engine *engine, const std::vector<float> &x, float max_norm) const {
    return (n == 0 || lethe_write(engine, g, x.data(), n * 4) == LETHE_OK) &&
           lethe_gradient_norm_part(engine, n, g, 1, max_norm, state) == LETHE_OK;
  }
  // Numbers [begin, end) of the part, which has `first` in front of it.
  int update(lethe_engine *engine, const Hyper &h, int64_t begin, int64_t end, int64_t first, uint64_t seed,
             int32_t last) const {
    const auto off = [&](lethe_ref ref, int64_t bytes) { return ref == 0 ? 0 : ref + static_cast<uint64_t>(bytes); };
    const int64_t moment = codes ? 1 : 4, block = begin / LETHE_MOMENT_BLOCK * 4;
    return lethe_adamw_part(engine, dtype, end - begin, first + begin, off(p, begin * 4), off(m, begin * moment),
                            off(v, begin * moment), off(m_scale, block), off(v_scale, block), maps, off(g, begin * 4),
                            off(copy, begin * element_bytes(dtype)), h.lr, h.beta1, h.beta2, h.eps, h.decay, seed, last,
                            state);
  }
  std::vector<lethe_ref> written() const { return {p, m, v, m_scale, v_scale, g, copy, state}; }
};

PartTwin fresh(Generator *generator, bool master, bool codes, int64_t n, const std::vector<float> *maps) {
  PartTwin twin = {master, codes, {}, {}, {}, {}, {}, {}, {}, maps};
  for (const double x : numbers(generator, n, master ? LETHE_F32 : LETHE_BF16)) twin.p.push_back(static_cast<float>(x));
  twin.m.assign(at(n), 0.0f);
  twin.v.assign(at(n), 0.0f);
  const int64_t blocks = (n + LETHE_MOMENT_BLOCK - 1) / LETHE_MOMENT_BLOCK;
  twin.m_scale.assign(at(blocks), 0.0f);
  twin.v_scale.assign(at(blocks), 0.0f);
  twin.m_codes.assign(at(n), 0);
  twin.v_codes.assign(at(n), 0);
  return twin;
}

// Magnitudes over many decades, as gradients have them, and some that are 0.
std::vector<float> gradients(Generator *generator, int64_t n) {
  std::vector<float> g(at(n));
  for (float &x : g) {
    const double magnitude = std::pow(10.0, -3 * (generator->uniform() + 1));
    x = generator->below(16) == 0 ? 0.0f : static_cast<float>(generator->uniform() * magnitude);
  }
  return g;
}

void expect_twins(const Operands &operands, const Part &part, const PartTwin &twin, const std::string &name) {
  if (part.master) expect_equal(operands.read(part.p, part.n, LETHE_F32), wide(twin.p), name + " p");
  Numbers stored = wide(twin.p);
  for (double &x : stored) x = decode(encode(x, part.dtype), part.dtype);
  expect_equal(operands.read(part.copy, part.n, part.dtype), stored, name + " copy");
  if (part.codes) {
    const int64_t blocks = static_cast<int64_t>(twin.m_scale.size());
    expect(operands.read_bytes(part.m, part.n) == twin.m_codes, name + " m's codes");
    expect(operands.read_bytes(part.v, part.n) == twin.v_codes, name + " v's codes");
    expect_equal(operands.read(part.m_scale, blocks, LETHE_F32), wide(twin.m_scale), name + " m's scales");
    expect_equal(operands.read(part.v_scale, blocks, LETHE_F32), wide(twin.v_scale), name + " v's scales");
  } else {
    expect_equal(operands.read(part.m, part.n, LETHE_F32), wide(twin.m), name + " m");
    expect_equal(operands.read(part.v, part.n, LETHE_F32), wide(twin.v), name + " v");
  }
}

void matches_the_twin(lethe_engine *engine, bool master, bool codes, int32_t dtype, int64_t n, int64_t offset,
                      const Hyper &h) {
  const std::string name = std::string(master ? "master" : "no master") + (codes ? ", codes" : ", fp32 moments") +
                           ", dtype " + std::to_string(dtype) + ", n " + std::to_string(n) + ", offset " +
                           std::to_string(offset);
  // Other maps than the call's before: nothing that it left may be taken for this one's.
  const std::vector<float> maps = n % 2 == 0 ? dynamic_maps() : linear_maps();
  Generator generator(static_cast<uint64_t>(n) * 4 + (master ? 2 : 0) + (codes ? 1 : 0));
  PartTwin twin = fresh(&generator, master, codes, n, &maps);
  const int64_t first = 8 * generator.below(int64_t{1} << 40);
  Operands operands(engine, 32 * n + 16384);
  const Part part(&operands, twin, dtype, offset);
  expect(operands.upload(), name);
  for (int t = 1; t <= 3; ++t) {
    const std::vector<float> g = gradients(&generator, n);
    expect(part.gradient(engine, g, 0.25f), name);
    const auto clip = static_cast<float>(operands.read(part.state, 2, LETHE_F32)[1]);
    expect(part.update(engine, h, 0, n, first, 7, 1) == LETHE_OK, name);
    twin.step(g, h, clip, t, first, 7);
    expect_twins(operands, part, twin, name + ", step " + std::to_string(t));
    expect(operands.read(part.state, 4, LETHE_F32)[3] == t, name + " counts its steps");
  }
  expect(operands.intact(part.written()), name + " writes nothing else");
}

// Cut into parts, the same bits; the count rises with the last one alone.
void cuts_change_nothing(lethe_engine *engine, bool master, bool codes) {
  const std::string name = std::string("cut: ") + (master ? "master" : "no master") + (codes ? ", codes" : "");
  const int64_t n = 5 * LETHE_MOMENT_BLOCK + 40, cut = codes ? 2 * LETHE_MOMENT_BLOCK : 264;
  const std::vector<float> maps = dynamic_maps();
  Generator generator(11);
  PartTwin twin = fresh(&generator, master, codes, n, &maps);
  Operands operands(engine, 32 * n + 16384);
  const Part part(&operands, twin, LETHE_BF16, 0);
  expect(operands.upload(), name);
  const Hyper h{1e-2f, 0.9f, 0.99f, 1e-8f, 0.1f};
  for (int t = 1; t <= 2; ++t) {
    const std::vector<float> g = gradients(&generator, n);
    expect(part.gradient(engine, g, 0.0f), name);
    expect(part.update(engine, h, cut, n, 0, 5, 0) == LETHE_OK, name);
    expect(operands.read(part.state, 4, LETHE_F32)[3] == t - 1, name + ": not counted before the last part");
    expect(part.update(engine, h, 0, cut, 0, 5, 1) == LETHE_OK, name);
    twin.step(g, h, 1.0f, t, 0, 5);
    expect_twins(operands, part, twin, name + ", step " + std::to_string(t));
  }
}

// With equal moments each update is lr in size, here a tenth of the step from 1 to the next bf16 number: rounded to
// nearest, nothing ever moves; rounded stochastically, a tenth of the numbers does, and the mean moves as in fp32.
void small_updates_count_in_the_mean(lethe_engine *engine) {
  const int64_t n = kMany;
  const int steps = kUpdates;
  const double gap = 0x1p-7, share = 0.1;
  PartTwin twin = {false,
                   false,
                   std::vector<float>(at(n), 1.0f),
                   std::vector<float>(at(n), 0.0f),
                   std::vector<float>(at(n), 0.0f),
                   {},
                   {},
                   {},
                   {},
                   nullptr};
  Operands operands(engine, 20 * n + 16384);
  const Part part(&operands, twin, LETHE_BF16, 0);
  const lethe_ref rounded = operands.add(Numbers(at(n)), LETHE_BF16);
  const lethe_ref exact = operands.add(Numbers(at(n), 1.0 + share * gap), LETHE_F32);
  expect(operands.upload(), "upload");
  expect(lethe_convert(engine, n, LETHE_F32, exact, LETHE_BF16, rounded) == LETHE_OK, "convert");
  expect_equal(operands.read(rounded, n, LETHE_BF16), Numbers(at(n), 1.0), "to nearest, a tenth of a gap is nothing");
  const Hyper h{static_cast<float>(share * gap), 0.0f, 0.0f, 1e-30f, 0.0f};
  Numbers before(at(n), 1.0);
  for (int t = 1; t <= steps; ++t) {
    expect(part.gradient(engine, std::vector<float>(at(n), -0.125f), 0.0f), "norm");
    expect(part.update(engine, h, 0, n, 0, 3, 1) == LETHE_OK, "update");
    const Numbers now = operands.read(part.copy, n, LETHE_BF16);
    double moved = 0, wrong = 0;
    for (int64_t i = 0; i < n; ++i) {
      moved += now[at(i)] != before[at(i)] ? 1 : 0;
      wrong += now[at(i)] != before[at(i)] && now[at(i)] != before[at(i)] + gap ? 1 : 0;
    }
    // A binomial number: six deviations.
    expect(wrong == 0, "each number stays or takes the next one");
    expect(std::fabs(moved - share * n) < 6 * std::sqrt(share * (1 - share) * n),
           "step " + std::to_string(t) + ": a tenth moves, not " + std::to_string(moved / n));
    before = now;
  }
  double mean = 0, square = 0;
  for (const double x : before) mean += x / n;
  for (const double x : before) square += (x - mean) * (x - mean) / n;
  // Draws of one step, and of one number, do not depend on each other: their variances add up.
  const double variance = steps * share * (1 - share) * gap * gap;
  expect(std::fabs(mean - (1 + steps * share * gap)) < 6 * std::sqrt(variance / n), "the mean moves as in fp32");
  // A sample's variance has (kurtosis - 1) / n of its square for a variance, and a binomial's kurtosis here is below 5.
  expect(std::fabs(square - variance) < 6 * std::sqrt(4.0 / static_cast<double>(n)) * variance,
         "steps draw independently of each other");
}

// Half the way to the neighbour is the most that a code is off; with beta 0 the moments are g and g^2.
void codes_are_the_nearest(lethe_engine *engine) {
  const std::vector<float> maps = dynamic_maps();
  const int64_t n = kMany / 16 + 100;
  Generator generator(21);
  PartTwin twin = fresh(&generator, true, true, n, &maps);
  Operands operands(engine, 32 * n + 16384);
  const Part part(&operands, twin, LETHE_BF16, 0);
  expect(operands.upload(), "upload");
  const std::vector<float> g = gradients(&generator, n);
  expect(part.gradient(engine, g, 0.0f), "norm");
  expect(part.update(engine, {1e-3f, 0.0f, 0.0f, 1e-8f, 0.0f}, 0, n, 0, 0, 1) == LETHE_OK, "update");
  const std::vector<uint8_t> m = operands.read_bytes(part.m, n), v = operands.read_bytes(part.v, n);
  Numbers got_m, want_m, bound_m, got_v, want_v, bound_v;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t begin = i / LETHE_MOMENT_BLOCK * LETHE_MOMENT_BLOCK;
    double largest = 0;
    for (int64_t k = begin; k < std::min(n, begin + LETHE_MOMENT_BLOCK); ++k) {
      largest = std::max(largest, std::fabs(static_cast<double>(g[at(k)])));
    }
    const double x = g[at(i)], scales[2] = {largest, largest * largest}, values[2] = {x, x * x};
    for (int which = 0; which < 2; ++which) {
      const float *map = maps.data() + 256 * which;
      const auto above = std::upper_bound(map, map + 256, static_cast<float>(values[which] / scales[which]));
      const double gap = above == map ? map[1] - map[0] : above == map + 256 ? 0 : *above - *(above - 1);
      // v's first gap is not halved: what is not 0 does not become 0. Quotient and product round once each, a square
      // once before.
      const bool lowest = which == 1 && above == map + 1 && x != 0;
      const double bound =
          (lowest ? gap : gap / 2) * scales[which] * (1 + 1e-5) + 4 * tolerance::kUnit * std::fabs(values[which]);
      (which == 0 ? got_m : got_v).push_back(map[which == 0 ? m[at(i)] : v[at(i)]] * scales[which]);
      (which == 0 ? want_m : want_v).push_back(values[which]);
      (which == 0 ? bound_m : bound_v).push_back(bound);
    }
  }
  expect_close(got_m, want_m, bound_m, "m's codes are the nearest");
  expect_close(got_v, want_v, bound_v, "v's codes are the nearest");
}

// v is divided by its root: were a small one stored as 0, the next step would be |m| / eps.
void small_second_moments_stay_above_0(lethe_engine *engine) {
  const std::vector<float> maps = dynamic_maps();
  Generator generator(31);
  PartTwin twin = fresh(&generator, true, true, 64, &maps);
  Operands operands(engine, 16384);
  const Part part(&operands, twin, LETHE_BF16, 0);
  expect(operands.upload(), "upload");
  std::vector<float> g(64, 1e-5f);
  g[0] = 1.0f;
  const Hyper h{1e-3f, 0.9f, 0.999f, 1e-8f, 0.0f};
  expect(part.gradient(engine, g, 0.0f), "norm");
  expect(part.update(engine, h, 0, 64, 0, 0, 1) == LETHE_OK, "first update");
  const Numbers before = operands.read(part.p, 64, LETHE_F32);
  expect(part.gradient(engine, std::vector<float>(64, 0.0f), 0.0f), "norm");
  expect(part.update(engine, h, 0, 64, 0, 0, 1) == LETHE_OK, "second update");
  const Numbers after = operands.read(part.p, 64, LETHE_F32);
  for (size_t i = 0; i < 64; ++i) {
    expect(std::fabs(after[i] - before[i]) < 1e-3, "a step of " + std::to_string(after[i] - before[i]));
  }
}

void norms_of_parts(lethe_engine *engine, int64_t n, float max_norm) {
  const std::string name = "norm of parts, n " + std::to_string(n);
  Generator generator(static_cast<uint64_t>(n));
  Numbers gradient = numbers(&generator, n, LETHE_F32);
  const int64_t cuts[] = {0, n / 5, n / 5, n / 2, n};
  Operands operands(engine, n * 4 + 4096);
  const lethe_ref g = operands.add(gradient, LETHE_F32, 1);
  const lethe_ref state = operands.add({0, 0, 0, 41, 42, 43, 44, 45}, LETHE_F32, 1);
  expect(operands.upload(), name);
  const auto part = [&](int i, bool begin) {
    expect(lethe_gradient_norm_part(engine, cuts[i + 1] - cuts[i], g + static_cast<uint64_t>(cuts[i]) * 4,
                                    begin ? 1 : 0, max_norm, state) == LETHE_OK,
           name);
  };
  // The second time around nothing is left of the first.
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 4; ++i) part(i, i == 0);
  }
  double square = 0;
  for (const double x : gradient) square += x * x;
  const double norm = std::sqrt(square), clip = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
  using namespace lethe::tolerance::update;
  expect_close(operands.read(state, 4, LETHE_F32), {norm, clip, 1, 41}, {kNorm * norm, kNorm * clip, 0, 0}, name);
  expect_equal(operands.read(state + 24, 2, LETHE_F32), {44, 45}, name + " leaves the rest");
  expect(operands.intact({state}), name + " writes nothing else");
  if (n < 5) return;
  const float bad = std::numeric_limits<float>::infinity();
  expect(lethe_write(engine, g, &bad, 4) == LETHE_OK, name);
  for (int i = 0; i < 4; ++i) {
    part(i, i == 0);
    expect(operands.read(state, 3, LETHE_F32)[2] == 0.0, name + ": not finite to the end");
  }
  part(2, true);
  expect(operands.read(state, 3, LETHE_F32)[2] == 1.0, name + ": until the next begin");
}

void what_is_not_finite_changes_nothing(lethe_engine *engine, bool master, bool codes) {
  const std::vector<float> maps = dynamic_maps();
  Generator generator(41);
  PartTwin twin = fresh(&generator, master, codes, 300, &maps);
  Operands operands(engine, 32768);
  const Part part(&operands, twin, LETHE_BF16, 0);
  expect(operands.upload(), "upload");
  std::vector<float> g = gradients(&generator, 300);
  g[299] = std::nanf("");
  expect(part.gradient(engine, g, 1.0f), "norm");
  expect(part.update(engine, {0.1f, 0.9f, 0.999f, 1e-8f, 0.1f}, 0, 300, 0, 0, 1) == LETHE_OK, "update");
  expect(operands.read(part.state, 4, LETHE_F32)[3] == 0.0, "no step is counted");
  expect(operands.intact({part.g, part.state}), "no step without a finite gradient");
}

void arguments_are_checked(lethe_engine *engine) {
  Operands operands(engine, 8192);
  const lethe_ref x = operands.add(Numbers(8), LETHE_F32), m = operands.add(Numbers(8), LETHE_F32);
  const lethe_ref v = operands.add(Numbers(8), LETHE_F32), g = operands.add(Numbers(8), LETHE_F32);
  const lethe_ref copy = operands.add(Numbers(8), LETHE_BF16), scale = operands.add(Numbers(1), LETHE_F32);
  const lethe_ref state = operands.add(Numbers(LETHE_UPDATE_STATE), LETHE_F32);
  expect(operands.upload(), "upload");
  const auto call = [&](int32_t dtype, int64_t first, lethe_ref p, lethe_ref m_scale, lethe_ref to) {
    return lethe_adamw_part(engine, dtype, 8, first, p, m, v, m_scale, 0, 0, g, to, 0.1f, 0.9f, 0.999f, 1e-8f, 0, 0, 1,
                            state);
  };
  expect(call(LETHE_BF16, 8, x, 0, copy) == LETHE_OK, "a sound call");
  expect(call(LETHE_BF16, 4, x, 0, copy) == LETHE_INVALID_ARGUMENT, "first off a counter");
  expect(call(LETHE_F32, 0, 0, 0, x) == LETHE_INVALID_ARGUMENT, "fp32 without a master");
  expect(call(LETHE_BF16, 0, 0, 0, 0) == LETHE_INVALID_ARGUMENT, "bf16 without a copy");
  expect(call(LETHE_BF16, 0, x, scale, copy) == LETHE_INVALID_ARGUMENT, "one scale alone");
  expect(call(LETHE_BF16, 0, m, 0, copy) == LETHE_OVERLAP, "p on m");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("update_part_test", argc, argv, [](lethe_engine *engine, const char *, const char *) {
    const Hyper usual{1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f};
    const Hyper other{0.5f, 0.5f, 0.95f, 1e-3f, 0.3f};
    for (const bool codes : {false, true}) {
      for (const int64_t n :
           {int64_t{0}, int64_t{1}, int64_t{9}, int64_t{255}, int64_t{256}, int64_t{257}, kMany / 16}) {
        matches_the_twin(engine, true, codes, LETHE_F32, n, n % 3, usual);
        matches_the_twin(engine, true, codes, LETHE_BF16, n, 0, other);
        matches_the_twin(engine, false, codes, LETHE_BF16, n, n % 2, usual);
        matches_the_twin(engine, false, codes, LETHE_BF16, n, 0, other);
      }
      for (const bool master : {false, true}) {
        cuts_change_nothing(engine, master, codes);
        what_is_not_finite_changes_nothing(engine, master, codes);
      }
    }
    small_updates_count_in_the_mean(engine);
    codes_are_the_nearest(engine);
    small_second_moments_stay_above_0(engine);
    for (const int64_t n : {int64_t{0}, int64_t{1}, int64_t{100}, kMany - 7}) {
      norms_of_parts(engine, n, 1.0f);
      norms_of_parts(engine, n, 0.0f);
    }
    arguments_are_checked(engine);
  });
}
