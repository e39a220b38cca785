// Normal numbers against Box & Muller's formula in fp64 over Philox's words, and their moments.
#include <cmath>

#include "op_check.h"
#include "philox_twin.h"
#include "tolerance.h"

namespace lethe::test {
namespace {

// A number of the sequence and the radius of its pair.
struct Normal {
  double value, radius;
};
Normal twin(uint64_t seed, int64_t i) {
  const auto j = static_cast<uint64_t>(i) / 4;
  const uint32_t counter[4] = {static_cast<uint32_t>(j), static_cast<uint32_t>(j >> 32), 0, 0};
  uint32_t words[4];
  philox(counter, seed, words);
  const size_t pair = static_cast<size_t>(i) % 4 / 2 * 2;
  const double u = (words[pair] + 0.5) * 0x1p-32, turn = (words[pair + 1] + 0.5) * 0x1p-32;
  const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * std::acos(-1.0) * turn;
  return {radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle)), radius};
}

Numbers drawn(lethe_engine *engine, const std::string &name, int32_t dtype, int64_t n, uint64_t seed, int64_t first,
              float std) {
  Operands operands(engine, 4 * n + 4096);
  const lethe_ref dst = operands.add(Numbers(static_cast<size_t>(n), 7.0), dtype, n % 3);
  expect(operands.upload(), name);
  expect(lethe_random_normal(engine, dtype, n, seed, first, std, dst) == LETHE_OK, name);
  expect(operands.intact({dst}), name + " writes nothing else");
  return operands.read(dst, n, dtype);
}

void numbers_are_the_twins(lethe_engine *engine, int32_t dtype, int64_t n, uint64_t seed, int64_t first, float std) {
  const std::string name = "normal dtype=" + std::to_string(dtype) + " n=" + std::to_string(n) +
                           " seed=" + std::to_string(seed) + " first=" + std::to_string(first) +
                           " std=" + std::to_string(std);
  const double unit = dtype == LETHE_BF16 ? tolerance::kBf16Unit : tolerance::kUnit;
  Numbers want(static_cast<size_t>(n)), bound(want);
  for (int64_t i = 0; i < n; ++i) {
    const Normal normal = twin(seed, first + i);
    want[static_cast<size_t>(i)] = std * normal.value;
    bound[static_cast<size_t>(i)] =
        std::fabs(std) * (tolerance::random::kNormal * normal.radius + unit * std::fabs(normal.value));
  }
  expect_close(drawn(engine, name, dtype, n, seed, first, std), want, bound, name);
}

// A part has the numbers that the whole has there.
void a_place_names_a_number(lethe_engine *engine) {
  const Numbers whole = drawn(engine, "whole", LETHE_F32, 1000, 5, 0, 1.0f);
  for (const int64_t first : {1, 2, 3, 4, 517}) {
    for (const int64_t n : {1, 6, 400}) {
      const std::string name = "part " + std::to_string(first) + "+" + std::to_string(n);
      expect_equal(drawn(engine, name, LETHE_F32, n, 5, first, 1.0f),
                   Numbers(whole.begin() + first, whole.begin() + first + n), name);
    }
  }
}

void moments_are_a_normal_distributions(lethe_engine *engine) {
  constexpr int64_t kCount = 200000;
  const Numbers x = drawn(engine, "moments", LETHE_F32, kCount, 11, 0, 1.0f);
  double moments[5] = {}, pairs = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    const double v = x[static_cast<size_t>(i)];
    for (int power = 1; power < 5; ++power) moments[power] += std::pow(v, power) / kCount;
    pairs += v * x[static_cast<size_t>((i + 1) % kCount)] / kCount;
  }
  // Four standard deviations of a mean of x, x^2, x^3, x^4 and of a product: variances 1, 2, 15, 96 and 1.
  const double deviation = 4 / std::sqrt(static_cast<double>(kCount));
  expect(std::fabs(moments[1]) <= deviation, "mean");
  expect(std::fabs(moments[2] - 1) <= deviation * std::sqrt(2.0), "variance");
  expect(std::fabs(moments[3]) <= deviation * std::sqrt(15.0), "third moment");
  expect(std::fabs(moments[4] - 3) <= deviation * std::sqrt(96.0), "fourth moment");
  expect(std::fabs(pairs) <= deviation, "neighbours");
}

void misuse(lethe_engine *engine) {
  Operands operands(engine, 4096);
  const lethe_ref dst = operands.add(Numbers(8, 1.0), LETHE_F32);
  expect(operands.upload(), "upload");
  const auto refused = [&](int want, int32_t dtype, int64_t n, int64_t first, float std, lethe_ref to,
                           const char *what) {
    expect(lethe_random_normal(engine, dtype, n, 1, first, std, to) == want &&
               std::strstr(lethe_error_trace(), what) != nullptr,
           what);
  };
  refused(LETHE_INVALID_ARGUMENT, LETHE_I32, 8, 0, 1.0f, dst, "dtype 2");
  refused(LETHE_INVALID_ARGUMENT, LETHE_F32, -1, 0, 1.0f, dst, "n is -1");
  refused(LETHE_INVALID_ARGUMENT, LETHE_F32, 8, -1, 1.0f, dst, "first is -1");
  refused(LETHE_INVALID_ARGUMENT, LETHE_F32, 8, INT64_MAX - 7, 1.0f, dst, "overflows");
  refused(LETHE_INVALID_ARGUMENT, LETHE_F32, 8, 0, std::nanf(""), dst, "std must be finite");
  refused(LETHE_INVALID_ARGUMENT, LETHE_F32, 8, 0, 1.0f, 0, "dst is none");
  refused(LETHE_OUT_OF_BOUNDS, LETHE_F32, 4096, 0, 1.0f, dst, "dst needs");
  expect(operands.intact({}), "a refused call writes nothing");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("random_test", argc, argv, [](lethe_engine *engine, const char *, const char *) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const int64_t n : {0, 1, 3, 4, 5, 1000}) {
        for (const int64_t first : {int64_t{0}, int64_t{1}, int64_t{3}, (int64_t{1} << 34) - 5, INT64_MAX - 1001}) {
          numbers_are_the_twins(engine, dtype, n, 0x123456789abcdef0u, first, 0.02f);
        }
        numbers_are_the_twins(engine, dtype, n, ~uint64_t{0}, 7, -3.0f);
      }
      // Many, so that words near both ends of their range come up.
      numbers_are_the_twins(engine, dtype, 100000, 3, 0, 1.0f);
      numbers_are_the_twins(engine, dtype, 9, 1, 0, 0.0f);
    }
    a_place_names_a_number(engine);
    moments_are_a_normal_distributions(engine);
    misuse(engine);
  });
}
