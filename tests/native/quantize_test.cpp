// NF4 codes against a decision tree over the table's fp32 midpoints, bit for bit.
#include <algorithm>
#include <cmath>
#include <limits>

#include "op_check.h"

namespace lethe::test {
namespace {

// The table of bitsandbytes' csrc/kernels.cu.
constexpr float kTable[16] = {-1.0f,
                              -0.6961928009986877f,
                              -0.5250730514526367f,
                              -0.39491748809814453f,
                              -0.28444138169288635f,
                              -0.18477343022823334f,
                              -0.09105003625154495f,
                              0.0f,
                              0.07958029955625534f,
                              0.16093020141124725f,
                              0.24611230194568634f,
                              0.33791524171829224f,
                              0.44070982933044434f,
                              0.5626170039176941f,
                              0.7229568362236023f,
                              1.0f};
// What is above this has a code above `c`.
float threshold(int c) { return (kTable[c] + kTable[c + 1]) * 0.5f; }

uint8_t code(float x) {
  uint8_t c = 0;
  while (c < 15 && x > threshold(c)) ++c;
  return c;
}

size_t at(int64_t i) { return static_cast<size_t>(i); }

struct Packed {
  std::vector<uint8_t> codes;
  Numbers absmax;
};
Packed twin(const Numbers &src, int64_t block) {
  const auto n = static_cast<int64_t>(src.size());
  Packed p = {std::vector<uint8_t>(at((n + 1) / 2)), Numbers(at((n + block - 1) / block))};
  for (int64_t i = 0; i < n; ++i) p.absmax[at(i / block)] = std::max(p.absmax[at(i / block)], std::fabs(src[at(i)]));
  for (int64_t i = 0; i < n + n % 2; ++i) {
    const auto largest = static_cast<float>(p.absmax[at(std::min(i, n - 1) / block)]);
    const float inverse = 1.0f / largest;
    const float x = i < n ? static_cast<float>(src[at(i)]) : 0.0f;
    const uint8_t c = largest == 0 ? 0 : code(x * inverse);
    p.codes[at(i / 2)] = static_cast<uint8_t>(p.codes[at(i / 2)] | (i % 2 == 0 ? c << 4 : c));
  }
  return p;
}

Numbers unpacked(const std::vector<uint8_t> &codes, const std::vector<float> &scales, int64_t n, int64_t block,
                 int32_t dtype) {
  Numbers x(at(n));
  for (int64_t i = 0; i < n; ++i) {
    const int c = i % 2 == 0 ? codes[at(i / 2)] >> 4 : codes[at(i / 2)] & 15;
    const float product = kTable[c] * scales[at(i / block)];
    x[at(i)] = decode(encode(static_cast<double>(product), dtype), dtype);
  }
  return x;
}

void there_and_back(lethe_engine *engine, int32_t dtype, int64_t n, int64_t block, double scale) {
  const std::string name = "nf4 dtype=" + std::to_string(dtype) + " n=" + std::to_string(n) +
                           " block=" + std::to_string(block) + " scale=" + std::to_string(scale);
  Generator g(static_cast<uint64_t>(n * 10 + block));
  Numbers src = numbers(&g, n, dtype, scale);
  // A block of zeros among the others.
  for (int64_t i = block; i < std::min(n, 2 * block); ++i) src[at(i)] = i % 2 == 0 ? 0.0 : -0.0;
  const int64_t blocks = (n + block - 1) / block;
  Operands operands(engine, 16 * n + 8192);
  const lethe_ref r_src = operands.add(src, dtype, n % 3);
  const lethe_ref r_packed = operands.add(std::vector<uint8_t>(at((n + 1) / 2), 0xee), n % 5);
  const lethe_ref r_absmax = operands.add(Numbers(at(blocks), 5.0), LETHE_F32, 1);
  const lethe_ref r_dst = operands.add(Numbers(at(n), 6.0), dtype, n % 2);
  expect(operands.upload(), name);
  expect(lethe_nf4_quantize(engine, dtype, n, block, r_src, r_packed, r_absmax) == LETHE_OK, name);
  const Packed want = twin(src, block);
  expect(operands.read_bytes(r_packed, (n + 1) / 2) == want.codes, name + " codes");
  expect_equal(operands.read(r_absmax, blocks, LETHE_F32), want.absmax, name + " absmax");
  expect(lethe_nf4_dequantize(engine, dtype, n, block, r_packed, r_absmax, 0, 0, 0, 0, r_dst) == LETHE_OK, name);
  const std::vector<float> scales(want.absmax.begin(), want.absmax.end());
  expect_equal(operands.read(r_dst, n, dtype), unpacked(want.codes, scales, n, block, dtype), name + " back");
  expect(operands.intact({r_packed, r_absmax, r_dst}), name + " writes nothing else");
}

// Numbers on a threshold and beside it, in blocks whose largest is 1.
void thresholds_belong_to_the_code_below(lethe_engine *engine) {
  const float infinity = std::numeric_limits<float>::infinity();
  Numbers src;
  for (int c = 0; c < 15; ++c) {
    Numbers block(64, -1.0);
    block[1] = static_cast<double>(threshold(c));
    block[2] = static_cast<double>(std::nextafter(threshold(c), infinity));
    block[3] = static_cast<double>(std::nextafter(threshold(c), -infinity));
    src.insert(src.end(), block.begin(), block.end());
  }
  Operands operands(engine, 1 << 16);
  const lethe_ref r_src = operands.add(src, LETHE_F32);
  const lethe_ref r_packed = operands.add(std::vector<uint8_t>(src.size() / 2), 0);
  const lethe_ref r_absmax = operands.add(Numbers(15), LETHE_F32);
  expect(operands.upload(), "upload");
  expect(lethe_nf4_quantize(engine, LETHE_F32, 15 * 64, 64, r_src, r_packed, r_absmax) == LETHE_OK, "quantize");
  const std::vector<uint8_t> codes = operands.read_bytes(r_packed, 15 * 32);
  for (uint8_t i = 0; i < 15; ++i) {
    expect(codes[at(i * 32)] == i, "the threshold above code " + std::to_string(i));
    expect(codes[at(i * 32 + 1)] == (((i + 1) << 4) | i), "beside the threshold above code " + std::to_string(i));
  }
}

void double_quantisation(lethe_engine *engine, int32_t dtype, int64_t n, int64_t block) {
  const std::string name = "nested dtype=" + std::to_string(dtype) + " n=" + std::to_string(n);
  Generator g(static_cast<uint64_t>(n));
  const int64_t blocks = (n + block - 1) / block, groups = (blocks + 255) / 256;
  const Numbers map = numbers(&g, 256, LETHE_F32), largest = numbers(&g, groups, LETHE_F32, 0.1);
  std::vector<uint8_t> codes(at((n + 1) / 2)), nested(at(blocks));
  for (uint8_t &b : codes) b = static_cast<uint8_t>(g.below(256));
  for (uint8_t &b : nested) b = static_cast<uint8_t>(g.below(256));
  const float offset = 0.0371f;
  Operands operands(engine, 16 * n + 16384);
  const lethe_ref r_codes = operands.add(codes, 3), r_nested = operands.add(nested, 1);
  const lethe_ref r_map = operands.add(map, LETHE_F32), r_largest = operands.add(largest, LETHE_F32);
  const lethe_ref r_dst = operands.add(Numbers(at(n), 6.0), dtype);
  expect(operands.upload(), name);
  expect(
      lethe_nf4_dequantize(engine, dtype, n, block, r_codes, 0, r_nested, r_map, r_largest, offset, r_dst) == LETHE_OK,
      name);
  std::vector<float> scales(at(blocks));
  for (int64_t b = 0; b < blocks; ++b) {
    // Exact in fp64, so each statement rounds once.
    const auto product = static_cast<float>(map[nested[at(b)]] * largest[at(b / 256)]);
    scales[at(b)] = static_cast<float>(static_cast<double>(product) + static_cast<double>(offset));
  }
  expect_equal(operands.read(r_dst, n, dtype), unpacked(codes, scales, n, block, dtype), name);
  expect(operands.intact({r_dst}), name + " writes nothing else");
}

// More numbers than a block of threads looks at, several at fault.
void the_first_that_is_not_finite_is_named(lethe_engine *engine) {
  constexpr int64_t kCount = 40001;
  for (const int64_t first : {int64_t{2047}, int64_t{33333}, kCount - 1}) {
    Numbers src(at(kCount), 0.5);
    src[at(first)] = HUGE_VAL;
    src.back() = first == kCount - 1 ? HUGE_VAL : -HUGE_VAL;
    Operands operands(engine, 8 * kCount + 8192);
    const lethe_ref r_src = operands.add(src, LETHE_BF16, 1);
    const lethe_ref r_packed = operands.add(std::vector<uint8_t>(at((kCount + 1) / 2), 1));
    const lethe_ref r_absmax = operands.add(Numbers(at((kCount + 63) / 64), 2.0), LETHE_F32);
    expect(operands.upload(), "upload");
    const std::string text = "src[" + std::to_string(first) + "] is inf; only finite numbers have codes";
    expect(settled(engine, lethe_nf4_quantize(engine, LETHE_BF16, kCount, 64, r_src, r_packed, r_absmax)) ==
                   LETHE_INVALID_ARGUMENT &&
               std::strstr(lethe_error_trace(), text.c_str()) != nullptr,
           text);
    expect(operands.intact({}), text + " changes nothing");
    expect(settled(engine, lethe_nf4_quantize(engine, LETHE_BF16, first, 64, r_src, r_packed, r_absmax)) == LETHE_OK,
           text + " and goes on");
  }
}

void what_is_not_finite_is_named(lethe_engine *engine) {
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      for (const int64_t where : {0, 77, 199}) {
        Generator g(4);
        Numbers src = numbers(&g, 200, dtype);
        src[at(where)] = bad;
        Operands operands(engine, 8192);
        const lethe_ref r_src = operands.add(src, dtype);
        const lethe_ref r_packed = operands.add(std::vector<uint8_t>(100, 1));
        const lethe_ref r_absmax = operands.add(Numbers(4, 2.0), LETHE_F32);
        expect(operands.upload(), "upload");
        const std::string index = "src[" + std::to_string(where) + "]";
        expect(settled(engine, lethe_nf4_quantize(engine, dtype, 200, 64, r_src, r_packed, r_absmax)) ==
                       LETHE_INVALID_ARGUMENT &&
                   std::strstr(lethe_error_trace(), index.c_str()) != nullptr,
               index + " is not finite");
        expect(operands.intact({}), "what is not finite changes nothing");
      }
    }
  }
}

void misuse(lethe_engine *engine) {
  Operands operands(engine, 1 << 16);
  const lethe_ref x = operands.add(Numbers(200, 1.0), LETHE_F32), y = operands.add(Numbers(200, 1.0), LETHE_F32);
  const lethe_ref packed = operands.add(std::vector<uint8_t>(100)), absmax = operands.add(Numbers(4), LETHE_F32);
  const lethe_ref nested = operands.add(std::vector<uint8_t>(4)), map = operands.add(Numbers(256), LETHE_F32);
  const lethe_ref groups = operands.add(Numbers(1), LETHE_F32);
  expect(operands.upload(), "upload");
  const auto refused = [](int status, int want, const char *what) {
    expect(status == want && std::strstr(lethe_error_trace(), what) != nullptr, what);
  };
  for (const int64_t block : {int64_t{-64}, int64_t{0}, int64_t{16}, int64_t{48}, int64_t{8192}, INT64_MAX}) {
    refused(lethe_nf4_quantize(engine, LETHE_F32, 200, block, x, packed, absmax), LETHE_INVALID_ARGUMENT, "block must");
    refused(lethe_nf4_dequantize(engine, LETHE_F32, 200, block, packed, absmax, 0, 0, 0, 0, y), LETHE_INVALID_ARGUMENT,
            "block must");
  }
  refused(lethe_nf4_quantize(engine, LETHE_I32, 200, 64, x, packed, absmax), LETHE_INVALID_ARGUMENT, "dtype 2");
  refused(lethe_nf4_quantize(engine, LETHE_F32, -1, 64, x, packed, absmax), LETHE_INVALID_ARGUMENT, "n is -1");
  refused(lethe_nf4_quantize(engine, LETHE_F32, INT64_MAX, 64, x, packed, absmax), LETHE_INVALID_ARGUMENT, "overflows");
  refused(lethe_nf4_quantize(engine, LETHE_F32, 200, 64, x, packed, 0), LETHE_INVALID_ARGUMENT, "absmax is none");
  refused(lethe_nf4_quantize(engine, LETHE_F32, 200, 64, x, x + 4, absmax), LETHE_OVERLAP, "src and packed");
  refused(lethe_nf4_quantize(engine, LETHE_F32, 1 << 20, 64, x, packed, absmax), LETHE_OUT_OF_BOUNDS, "src needs");
  const auto dequantize = [&](lethe_ref scales, lethe_ref codes, lethe_ref values, lethe_ref largest, float offset) {
    return lethe_nf4_dequantize(engine, LETHE_F32, 200, 64, packed, scales, codes, values, largest, offset, y);
  };
  refused(dequantize(0, 0, 0, 0, 0), LETHE_INVALID_ARGUMENT, "nested is none");
  refused(dequantize(0, nested, 0, groups, 0), LETHE_INVALID_ARGUMENT, "nested_map is none");
  refused(dequantize(0, nested, map, 0, 0), LETHE_INVALID_ARGUMENT, "nested_absmax is none");
  refused(dequantize(absmax, nested, map, groups, 0), LETHE_INVALID_ARGUMENT, "exclude each other");
  refused(dequantize(absmax, 0, 0, 0, 1.0f), LETHE_INVALID_ARGUMENT, "exclude each other");
  expect(operands.intact({}), "a refused call writes nothing");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("quantize_test", argc, argv, [](lethe_engine *engine, const char *, const char *) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const int64_t n : {0, 1, 2, 31, 32, 33, 64, 65, 1000, 4097, 100001}) {
        for (const int64_t block : {32, 64, 256, 512, 4096}) there_and_back(engine, dtype, n, block, 0.02);
        there_and_back(engine, dtype, n, 64, 1e30);
      }
      for (const int64_t n : {1, 63, 64 * 256, 64 * 300 + 7}) double_quantisation(engine, dtype, n, 64);
    }
    thresholds_belong_to_the_code_below(engine);
    what_is_not_finite_is_named(engine);
    the_first_that_is_not_finite_is_named(engine);
    misuse(engine);
  });
}
