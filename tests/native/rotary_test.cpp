// Rotary embedding against its twin.
#include <complex>

#include "kernel_test.h"

using namespace kernel_test;
namespace tolerance = lethe::tolerance;

namespace {

// One head's row, turned.
template <class N>
std::vector<N> turned(std::vector<N> x, int64_t rotary_dim, const float *cos, const float *sin) {
  const size_t half = static_cast<size_t>(rotary_dim / 2);
  for (size_t j = 0; j < half; ++j) {
    const N a = x[j], b = x[j + half];
    x[j] = a * static_cast<double>(cos[j]) - b * static_cast<double>(sin[j]);
    x[j + half] = b * static_cast<double>(cos[j]) + a * static_cast<double>(sin[j]);
  }
  return x;
}

struct Shape {
  const char *name;
  int64_t T, heads, head_dim, rotary_dim, stride;
  int64_t skew = 0;  // elements from an aligned place to x
};

constexpr int64_t kPositions = 600;

struct Table {
  std::vector<float> cos, sin;
  explicit Table(int64_t half) {
    for (int64_t p = 0; p < kPositions; ++p) {
      for (int64_t j = 0; j < half; ++j) {
        const double angle =
            static_cast<double>(p) * std::pow(10000.0, -static_cast<double>(j) / static_cast<double>(half));
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
};

void one_shape(lethe_engine *engine, const std::string &backend, int32_t dtype, const Shape &s) {
  const std::string where = backend + (dtype == LETHE_BF16 ? " bf16 " : " fp32 ") + s.name;
  const int64_t half = s.rotary_dim / 2;
  const Table table(half);
  Random random(static_cast<uint64_t>(s.stride));
  const std::vector<float> before = random.many(s.skew + s.T * s.stride, 3.0f, dtype);
  std::vector<float> at;
  for (int64_t t = 0; t < s.T; ++t) at.push_back(static_cast<float>(t == 0 ? kPositions - 1 : (t * 37) % kPositions));
  const Buffer x(engine, dtype, before), positions(engine, LETHE_I32, at);
  const Buffer cos(engine, LETHE_F32, table.cos), sin(engine, LETHE_F32, table.sin);
  const auto turn = [&](int32_t inverse) {
    return lethe_rotary(engine, dtype, s.T, s.heads, s.head_dim, s.rotary_dim, x.ref(s.skew), s.stride, positions.ref(),
                        kPositions, cos.ref(), sin.ref(), inverse);
  };
  expect(turn(0) == LETHE_OK, where);
  const std::vector<float> after = x.read();
  expect(turn(1) == LETHE_OK, where + " inverse");
  const std::vector<float> back = x.read();
  const double unit = storage_unit(dtype) + tolerance::rotary::kRelative;
  const std::string where_else = where + " leaves the rest alone", where_back = where + " inverse undoes it";
  for (int64_t t = 0; t < s.T; ++t) {
    const int64_t position = static_cast<int64_t>(at[static_cast<size_t>(t)]);
    for (int64_t c = 0; c < s.stride; ++c) {
      const size_t i = static_cast<size_t>(s.skew + t * s.stride + c);
      if (c >= s.heads * s.head_dim || c % s.head_dim >= s.rotary_dim) {
        expect(after[i] == before[i] && back[i] == before[i], where_else);
        continue;
      }
      const size_t head = i - static_cast<size_t>(c % s.head_dim);
      const float *row = before.data() + head;
      const std::vector<double> want = turned(std::vector<double>(row, row + s.head_dim), s.rotary_dim,
                                              table.cos.data() + position * half, table.sin.data() + position * half);
      const size_t j = static_cast<size_t>(c % s.head_dim);
      const double other =
          row[j < static_cast<size_t>(half) ? j + static_cast<size_t>(half) : j - static_cast<size_t>(half)];
      const double size = std::fabs(row[j]) + std::fabs(other);
      expect(std::fabs(after[i] - want[j]) <= unit * size, where);
      // Twice, the table's own rounding, and each result enters both of the next.
      expect(std::fabs(back[i] - row[j]) <= 4 * unit * size, where_back);
    }
  }
}

// The inverse is the backward pass: d<dy, R x> / dx by complex step.
void inverse_is_the_gradient(lethe_engine *engine, const std::string &where) {
  constexpr int64_t kDim = 22, kRotary = 20;
  const Table table(kRotary / 2);
  Random random(3);
  const std::vector<float> x = random.many(kDim, 2.0f, LETHE_F32), dy = random.many(kDim, 2.0f, LETHE_F32);
  const Buffer dx(engine, LETHE_F32, dy), position(engine, LETHE_I32, {123.0f});
  const Buffer cos(engine, LETHE_F32, table.cos), sin(engine, LETHE_F32, table.sin);
  expect(lethe_rotary(engine, LETHE_F32, 1, 1, kDim, kRotary, dx.ref(), kDim, position.ref(), kPositions, cos.ref(),
                      sin.ref(), 1) == LETHE_OK,
         where);
  const std::vector<float> gradient = dx.read();
  for (size_t j = 0; j < x.size(); ++j) {
    std::vector<std::complex<double>> z(x.begin(), x.end());
    z[j] += std::complex<double>(0, 1e-100);
    z = turned(z, kRotary, table.cos.data() + 123 * kRotary / 2, table.sin.data() + 123 * kRotary / 2);
    double slope = 0;
    for (size_t i = 0; i < x.size(); ++i) slope += dy[i] * z[i].imag() / 1e-100;
    expect(std::fabs(gradient[j] - slope) <= 4 * (tolerance::rotary::kRelative + tolerance::kUnit),
           where + " gradient");
  }
}

// The last of more tokens than one look of a block's threads.
void bad_position_at_the_end(lethe_engine *engine, const std::string &where) {
  constexpr int64_t kTokens = 2500;
  const Table table(1);
  std::vector<float> at(kTokens, 1.0f);
  at.back() = static_cast<float>(kPositions);
  const std::vector<float> values(kTokens * 2, 1.5f);
  const Buffer x(engine, LETHE_BF16, values), positions(engine, LETHE_I32, at);
  const Buffer cos(engine, LETHE_F32, table.cos), sin(engine, LETHE_F32, table.sin);
  expect(settled(engine, lethe_rotary(engine, LETHE_BF16, kTokens, 1, 2, 2, x.ref(), 2, positions.ref(), kPositions,
                                      cos.ref(), sin.ref(), 0)) == LETHE_OUT_OF_BOUNDS,
         where + " a bad position at the end");
  expect(std::strstr(lethe_error_trace(), "token 2499 has position 600, the cosine table has 600 rows") != nullptr,
         where + " names it");
  expect(same_bits(x.read(), values), where + " changed nothing");
  // The next call is as if nothing had been.
  expect(settled(engine, lethe_rotary(engine, LETHE_BF16, kTokens - 1, 1, 2, 2, x.ref(), 2, positions.ref(), kPositions,
                                      cos.ref(), sin.ref(), 0)) == LETHE_OK &&
             !same_bits(x.read(), values),
         where + " and goes on");
}

void bad_positions(lethe_engine *engine, const std::string &where) {
  const Table table(4);
  const Buffer cos(engine, LETHE_F32, table.cos), sin(engine, LETHE_F32, table.sin);
  const std::vector<float> values(3 * 8, 1.5f);
  for (const float bad : {-1.0f, static_cast<float>(kPositions)}) {
    const Buffer x(engine, LETHE_F32, values), positions(engine, LETHE_I32, {0.0f, 5.0f, bad});
    expect(settled(engine, lethe_rotary(engine, LETHE_F32, 3, 1, 8, 8, x.ref(), 8, positions.ref(), kPositions,
                                        cos.ref(), sin.ref(), 0)) == LETHE_OUT_OF_BOUNDS,
           where + " bad position");
    expect(std::strstr(lethe_error_trace(), "token 2") != nullptr, where + " names the token");
    expect(same_bits(x.read(), values), where + " changed nothing");
  }
}

}  // namespace

int main(int argc, char **argv) {
  const Shape shapes[] = {{"one token", 1, 1, 8, 8, 8},
                          {"64", 5, 3, 64, 64, 192},
                          {"strided", 6, 2, 40, 40, 200},
                          {"part of the head", 4, 2, 64, 20, 131},
                          {"128", 3, 2, 128, 128, 256},
                          {"ten heads", 7, 10, 64, 64, 640},
                          {"five, an odd rest", 3, 5, 127, 94, 640},
                          {"two", 9, 3, 2, 2, 6},
                          {"many tokens", 301, 3, 16, 16, 48},
                          {"skewed", 5, 6, 32, 32, 192, 1},
                          {"skewed by three", 4, 2, 64, 48, 136, 3},
                          {"no tokens", 0, 2, 64, 64, 128}};
  on_each_backend(argc, argv, 2, [&](lethe_engine *engine, const std::string &backend) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const Shape &shape : shapes) one_shape(engine, backend, dtype, shape);
    }
    inverse_is_the_gradient(engine, backend);
    bad_positions(engine, backend);
    bad_position_at_the_end(engine, backend);
  });
  return finish("rotary_test");
}
