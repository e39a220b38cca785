// The linear layer with adapters against its fp64 twin, and the twin against the complex step.
#include <algorithm>
#include <complex>

#include "op_check.h"
#include "tolerance.h"

namespace lethe::test {
namespace {

struct Adapter {
  int64_t first_out, part_out, rank;
  double scale;
  bool frozen = false;
  float dropout = 0;
  uint64_t key = 0;
};

enum class Residual { kNone, kSeparate, kInPlace };

struct Case {
  int32_t dtype;
  int64_t T, adapted, out, in;
  Residual residual;
  std::vector<Adapter> adapters;
  bool stacked, trains, wants_dx;
  int64_t offset;
  bool bias = false;
  int64_t total_rank() const {
    int64_t r = 0;
    for (const Adapter &a : adapters) r += a.rank;
    return r;
  }
};

bool drops(const Case &c) {
  return std::any_of(c.adapters.begin(), c.adapters.end(), [](const Adapter &a) { return a.dropout > 0; });
}

std::string name_of(const Case &c) {
  return std::string(c.dtype == LETHE_BF16 ? "bf16" : "fp32") + " T=" + std::to_string(c.T) +
         " adapted=" + std::to_string(c.adapted) + " out=" + std::to_string(c.out) + " in=" + std::to_string(c.in) +
         " R=" + std::to_string(c.total_rank()) + " residual=" + std::to_string(static_cast<int>(c.residual)) +
         " offset=" + std::to_string(c.offset) + (c.bias ? " bias" : "") + (drops(c) ? " dropout" : "");
}

// a[R, in] holds the adapters' A one below the other; b[i] is adapter i's [part_out, rank].
struct Data {
  Numbers x, w, residual, dy, a, dw, da, bias, dbias;
  std::vector<Numbers> b, db;
  std::vector<uint64_t> row_keys;
};

Data make_data(const Case &c, uint64_t seed) {
  Generator g(seed);
  Data d;
  d.x = numbers(&g, c.T * c.in, c.dtype);
  d.w = numbers(&g, c.out * c.in, c.dtype);
  d.residual = numbers(&g, c.T * c.out, c.dtype);
  d.dy = numbers(&g, c.T * c.out, c.dtype);
  d.a = numbers(&g, c.total_rank() * c.in, c.dtype);
  d.dw = numbers(&g, c.out * c.in, LETHE_F32);
  d.da = numbers(&g, c.total_rank() * c.in, LETHE_F32);
  d.bias = numbers(&g, c.out, c.dtype);
  d.dbias = numbers(&g, c.out, LETHE_F32);
  for (const Adapter &adapter : c.adapters) {
    d.b.push_back(numbers(&g, adapter.part_out * adapter.rank, c.dtype));
    d.db.push_back(numbers(&g, adapter.part_out * adapter.rank, LETHE_F32));
  }
  for (int64_t t = 0; t < c.T; ++t) d.row_keys.push_back(g.bits());
  return d;
}

// Philox4x32-10 as the paper writes it (Salmon et al. 2011): the words R0, L0, R1, L1 go round ten times.
std::vector<uint32_t> philox(uint64_t key, uint64_t low, uint64_t high) {
  std::vector<uint64_t> word = {low & 0xffffffff, low >> 32, high & 0xffffffff, high >> 32};
  uint64_t k0 = key & 0xffffffff, k1 = key >> 32;
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = word[0] * 0xD2511F53, second = word[2] * 0xCD9E8D57;
    word = {(second >> 32) ^ word[1] ^ k0, second & 0xffffffff, (first >> 32) ^ word[3] ^ k1, first & 0xffffffff};
    k0 = (k0 + 0x9E3779B9) & 0xffffffff;
    k1 = (k1 + 0xBB67AE85) & 0xffffffff;
  }
  return {word.begin(), word.end()};
}

// What an adapter's input i of row t is multiplied by, but for 1 / (1 - p): 0 or 1.
double mask(const Adapter &adapter, const Data &d, int64_t t, int64_t i) {
  if (adapter.dropout == 0) return 1;
  const uint32_t word =
      philox(adapter.key, d.row_keys[static_cast<size_t>(t)], static_cast<uint64_t>(i / 4))[static_cast<size_t>(i % 4)];
  return word >= static_cast<double>(adapter.dropout) * 4294967296.0 ? 1 : 0;
}

double scale_of(const Adapter &adapter) { return adapter.scale / (1 - static_cast<double>(adapter.dropout)); }

// A value and the sum of the magnitudes that made it.
struct Sums {
  Numbers value, magnitude;
  explicit Sums(int64_t n) : value(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n)) {}
  void add(int64_t i, double term) {
    value[static_cast<size_t>(i)] += term;
    magnitude[static_cast<size_t>(i)] += std::fabs(term);
  }
};

size_t at(int64_t i) { return static_cast<size_t>(i); }

// ---- the twin ----

Sums twin_u(const Case &c, const Data &d) {
  Sums u(c.adapted * c.total_rank());
  const int64_t R = c.total_rank();
  for (int64_t t = 0; t < c.adapted; ++t) {
    int64_t r = 0;
    for (const Adapter &adapter : c.adapters) {
      for (int64_t k = 0; k < adapter.rank; ++k, ++r) {
        for (int64_t i = 0; i < c.in; ++i)
          u.add(t * R + r, scale_of(adapter) * mask(adapter, d, t, i) * d.x[at(t * c.in + i)] * d.a[at(r * c.in + i)]);
      }
    }
  }
  return u;
}

Sums twin_y(const Case &c, const Data &d, const Numbers &u) {
  Sums y(c.T * c.out);
  const int64_t R = c.total_rank();
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t o = 0; o < c.out; ++o) {
      if (c.bias) y.add(t * c.out + o, d.bias[at(o)]);
      if (c.residual != Residual::kNone) y.add(t * c.out + o, d.residual[at(t * c.out + o)]);
      for (int64_t i = 0; i < c.in; ++i) y.add(t * c.out + o, d.x[at(t * c.in + i)] * d.w[at(o * c.in + i)]);
    }
    if (t >= c.adapted) continue;
    int64_t first = 0;
    for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
      const Adapter &adapter = c.adapters[n];
      for (int64_t o = 0; o < adapter.part_out; ++o) {
        for (int64_t k = 0; k < adapter.rank; ++k) {
          y.add(t * c.out + adapter.first_out + o, u[at(t * R + first + k)] * d.b[n][at(o * adapter.rank + k)]);
        }
      }
    }
  }
  return y;
}

Sums twin_du(const Case &c, const Data &d) {
  const int64_t R = c.total_rank();
  Sums du(c.T * R);
  for (int64_t t = 0; t < c.T; ++t) {
    int64_t r = 0;
    for (size_t n = 0; n < c.adapters.size(); ++n) {
      const Adapter &adapter = c.adapters[n];
      for (int64_t k = 0; k < adapter.rank; ++k, ++r) {
        for (int64_t o = 0; o < adapter.part_out; ++o) {
          du.add(t * R + r,
                 scale_of(adapter) * d.dy[at(t * c.out + adapter.first_out + o)] * d.b[n][at(o * adapter.rank + k)]);
        }
      }
    }
  }
  return du;
}

Sums twin_dx(const Case &c, const Data &d, const Numbers &du) {
  const int64_t R = c.total_rank();
  Sums dx(c.T * c.in);
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t i = 0; i < c.in; ++i) {
      for (int64_t o = 0; o < c.out; ++o) dx.add(t * c.in + i, d.dy[at(t * c.out + o)] * d.w[at(o * c.in + i)]);
      int64_t r = 0;
      for (const Adapter &adapter : c.adapters) {
        const double kept = mask(adapter, d, t, i);
        for (int64_t k = 0; k < adapter.rank; ++k, ++r) {
          dx.add(t * c.in + i, kept * du[at(t * R + r)] * d.a[at(r * c.in + i)]);
        }
      }
    }
  }
  return dx;
}

// x as an adapter sees it, but for 1 / (1 - p), which du holds.
Numbers masked_x(const Case &c, const Data &d, const Adapter &adapter) {
  Numbers x = d.x;
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t i = 0; i < c.in; ++i) x[at(t * c.in + i)] *= mask(adapter, d, t, i);
  }
  return x;
}

// start[rows,columns] + left[T, first..first+rows of left_stride]^T right[T, first..]
Sums twin_outer(int64_t T, const Numbers &start, const Numbers &left, int64_t left_stride, int64_t left_first,
                int64_t rows, const Numbers &right, int64_t right_stride, int64_t right_first, int64_t columns) {
  Sums g(rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i) g.add(i, start[at(i)]);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = 0; j < columns; ++j) {
        g.add(r * columns + j,
              left[at(t * left_stride + left_first + r)] * right[at(t * right_stride + right_first + j)]);
      }
    }
  }
  return g;
}

// ---- the twin against the complex step of L = sum dy * y ----

using Complex = std::complex<double>;

Complex loss(const Case &c, const Data &d, const std::vector<Complex> &x, const std::vector<Complex> &w,
             const std::vector<Complex> &a, const std::vector<std::vector<Complex>> &b) {
  Complex total = 0;
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t o = 0; o < c.out; ++o) {
      Complex y = 0;
      for (int64_t i = 0; i < c.in; ++i) y += x[at(t * c.in + i)] * w[at(o * c.in + i)];
      int64_t first = 0;
      for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
        const Adapter &adapter = c.adapters[n];
        if (o < adapter.first_out || o >= adapter.first_out + adapter.part_out) continue;
        for (int64_t k = 0; k < adapter.rank; ++k) {
          Complex u = 0;
          for (int64_t i = 0; i < c.in; ++i) {
            u += mask(adapter, d, t, i) * x[at(t * c.in + i)] * a[at((first + k) * c.in + i)];
          }
          y += scale_of(adapter) * u * b[n][at((o - adapter.first_out) * adapter.rank + k)];
        }
      }
      total += y * d.dy[at(t * c.out + o)];
    }
  }
  return total;
}

void philox_gives_its_known_answers() {
  // Of Random123's kat_vectors (D. E. Shaw Research): philox4x32, 10 rounds.
  expect(philox(0, 0, 0) == std::vector<uint32_t>({0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}), "philox of zeros");
  const uint64_t ones = ~uint64_t{0};
  expect(philox(ones, ones, ones) == std::vector<uint32_t>({0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}),
         "philox of ones");
}

void twin_matches_the_complex_step(float dropout) {
  const std::vector<Adapter> adapters = {{0, 2, 2, 0.5, false, dropout, 7}, {1, 5, 3, -2.0, false, dropout, 8}};
  const Case c{LETHE_F32, 3, 3, 6, 5, Residual::kNone, adapters, true, true, true, 0};
  const Data d = make_data(c, 11);
  std::vector<Complex> x(d.x.begin(), d.x.end()), w(d.w.begin(), d.w.end()), a(d.a.begin(), d.a.end());
  std::vector<std::vector<Complex>> b;
  for (const Numbers &one : d.b) b.emplace_back(one.begin(), one.end());
  const auto step = [&](std::vector<Complex> *variable) {
    constexpr double h = 1e-100;
    Numbers gradient;
    for (Complex &v : *variable) {
      v += Complex(0, h);
      gradient.push_back(loss(c, d, x, w, a, b).imag() / h);
      v = v.real();
    }
    return gradient;
  };
  const auto compare = [](const Numbers &got, const Numbers &want, const char *what) {
    double largest = 0;
    for (const double v : want) largest = std::max(largest, std::fabs(v));
    expect_close(got, want, Numbers(want.size(), tolerance::linear::kComplexStep * largest), what);
  };
  const int64_t R = c.total_rank();
  const Numbers u = twin_u(c, d).value, du = twin_du(c, d).value;
  compare(twin_dx(c, d, du).value, step(&x), "twin dx");
  compare(twin_outer(c.T, Numbers(d.w.size()), d.dy, c.out, 0, c.out, d.x, c.in, 0, c.in).value, step(&w), "twin dw");
  Numbers da;
  int64_t row = 0;
  for (const Adapter &p : c.adapters) {
    const Numbers x_seen = masked_x(c, d, p);
    const Sums part = twin_outer(c.T, Numbers(at(p.rank * c.in)), du, R, row, p.rank, x_seen, c.in, 0, c.in);
    da.insert(da.end(), part.value.begin(), part.value.end());
    row += p.rank;
  }
  compare(da, step(&a), "twin da");
  int64_t first = 0;
  for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
    const Adapter &p = c.adapters[n];
    compare(twin_outer(c.T, Numbers(d.b[n].size()), d.dy, c.out, p.first_out, p.part_out, u, R, first, p.rank).value,
            step(&b[n]), "twin db");
  }
}

// ---- the backend against the twin ----

struct Refs {
  lethe_ref x, w, dw, bias, dbias, residual, y, u, dy, du, dx, row_keys;
  std::vector<lethe_ref> a, b, da, db;
  lethe_linear linear = 0;
};

Refs make_linear(lethe_engine *engine, const Case &c, const Data &d, Operands *operands) {
  Refs r = {};
  const Numbers unwritten(static_cast<size_t>(c.T * std::max({c.out, c.in, c.total_rank()})), 7.0);
  const auto part = [](const Numbers &all, int64_t first, int64_t count) {
    return Numbers(all.begin() + first, all.begin() + first + count);
  };
  const auto blank = [&](int64_t n) { return operands->add(part(unwritten, 0, n), c.dtype, c.offset); };
  r.x = operands->add(d.x, c.dtype, c.offset);
  r.w = operands->add(d.w, c.dtype, c.offset);
  r.dw = c.trains ? operands->add(d.dw, LETHE_F32, c.offset) : 0;
  r.bias = c.bias ? operands->add(d.bias, c.dtype, c.offset) : 0;
  r.dbias = c.bias && c.trains ? operands->add(d.dbias, LETHE_F32, c.offset) : 0;
  r.residual = operands->add(d.residual, c.dtype, c.offset);
  r.y = c.residual == Residual::kInPlace ? r.residual : blank(c.T * c.out);
  r.u = blank(c.adapted * c.total_rank());
  r.dy = operands->add(d.dy, c.dtype, c.offset);
  r.du = blank(c.T * c.total_rank());
  r.dx = c.wants_dx ? blank(c.T * c.in) : 0;
  const lethe_ref all_a = c.stacked ? operands->add(d.a, c.dtype, c.offset) : 0;
  const lethe_ref all_da = c.stacked ? operands->add(d.da, LETHE_F32, c.offset) : 0;
  int64_t first = 0;
  for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
    const Adapter &p = c.adapters[n];
    const auto begin = static_cast<uint64_t>(first * c.in);
    const int64_t count = p.rank * c.in;
    r.a.push_back(c.stacked ? all_a + begin * static_cast<uint64_t>(element_bytes(c.dtype))
                            : operands->add(part(d.a, first * c.in, count), c.dtype, c.offset));
    r.da.push_back(p.frozen    ? 0
                   : c.stacked ? all_da + begin * 4
                               : operands->add(part(d.da, first * c.in, count), LETHE_F32, c.offset));
    r.b.push_back(operands->add(d.b[n], c.dtype, c.offset));
    r.db.push_back(p.frozen ? 0 : operands->add(d.db[n], LETHE_F32, c.offset));
  }
  std::vector<int32_t> halves;
  for (const uint64_t key : d.row_keys) {
    halves.push_back(static_cast<int32_t>(key));
    halves.push_back(static_cast<int32_t>(key >> 32));
  }
  r.row_keys = drops(c) ? operands->add(halves) : 0;
  expect(operands->upload(), "upload");
  expect(lethe_linear_create(engine, c.dtype, c.out, c.in, r.w, r.dw, r.bias, r.dbias, &r.linear) == LETHE_OK,
         "create");
  for (size_t n = 0; n < c.adapters.size(); ++n) {
    const Adapter &p = c.adapters[n];
    expect(lethe_linear_adapter(engine, r.linear, p.first_out, p.part_out, p.rank, static_cast<float>(p.scale),
                                p.dropout, p.key, r.a[n], r.b[n], r.da[n], r.db[n]) == LETHE_OK,
           "adapter");
  }
  return r;
}

Numbers bounds(const Sums &s, double terms, int32_t stored) {
  Numbers bound(s.value.size());
  const double rounding = stored == LETHE_BF16 ? tolerance::kBf16Unit : tolerance::kUnit;
  for (size_t i = 0; i < bound.size(); ++i) {
    bound[i] = tolerance::linear::sum(terms) * s.magnitude[i] + rounding * std::fabs(s.value[i]);
  }
  return bound;
}

int64_t arena_bytes(const Case &c) {
  return 16 * (c.T + 1) * (c.out + c.in + c.total_rank()) * 4 + 8 * (c.out + 1) * c.in +
         16 * (c.total_rank() + 1) * (c.in + c.out) + 8 * c.T + 32768;
}

void forward_matches(lethe_engine *engine, const Case &c, uint64_t seed) {
  const std::string name = "forward " + name_of(c);
  const Data d = make_data(c, seed);
  Operands operands(engine, arena_bytes(c));
  const Refs r = make_linear(engine, c, d, &operands);
  expect(lethe_linear_forward(engine, r.linear, c.T, c.adapted, r.x, c.residual == Residual::kNone ? 0 : r.residual,
                              r.y, r.row_keys, r.u) == LETHE_OK,
         name);
  const int64_t R = c.total_rank();
  const Numbers u = operands.read(r.u, c.adapted * R, c.dtype);
  const Sums u_twin = twin_u(c, d);
  expect_close(u, u_twin.value, bounds(u_twin, static_cast<double>(c.in + 2), c.dtype), name + " u");
  const Sums y_twin = twin_y(c, d, u);
  expect_close(operands.read(r.y, c.T * c.out, c.dtype), y_twin.value,
               bounds(y_twin, static_cast<double>(c.in + R + 1), c.dtype), name + " y");
  expect(operands.intact({r.y, r.u}), name + " writes nothing else");
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, name + " close");
}

void backward_matches(lethe_engine *engine, Case c, uint64_t seed) {
  c.adapted = c.T;
  c.residual = Residual::kNone;
  const std::string name = "backward " + name_of(c);
  const Data d = make_data(c, seed);
  Operands operands(engine, arena_bytes(c));
  const Refs r = make_linear(engine, c, d, &operands);
  const int64_t R = c.total_rank();
  const auto terms = static_cast<double>(c.T + 1);
  expect(lethe_linear_forward(engine, r.linear, c.T, c.T, r.x, 0, r.y, r.row_keys, r.u) == LETHE_OK, name);
  expect(lethe_linear_backward(engine, r.linear, c.T, r.x, r.u, r.dy, r.row_keys, r.du, r.dx) == LETHE_OK, name);
  const Numbers u = operands.read(r.u, c.T * R, c.dtype);
  const Numbers du = operands.read(r.du, c.T * R, c.dtype);
  const Sums du_twin = twin_du(c, d);
  expect_close(du, du_twin.value, bounds(du_twin, static_cast<double>(c.out + 2), c.dtype), name + " du");
  std::vector<lethe_ref> written = {r.y, r.u, r.du};
  if (c.wants_dx) {
    const Sums dx = twin_dx(c, d, du);
    expect_close(operands.read(r.dx, c.T * c.in, c.dtype), dx.value,
                 bounds(dx, static_cast<double>(c.out + R), c.dtype), name + " dx");
    written.push_back(r.dx);
  }
  if (c.trains) {
    const Sums dw = twin_outer(c.T, d.dw, d.dy, c.out, 0, c.out, d.x, c.in, 0, c.in);
    expect_close(operands.read(r.dw, c.out * c.in, LETHE_F32), dw.value, bounds(dw, terms, LETHE_F32), name + " dw");
    written.push_back(r.dw);
    if (c.bias) {
      Sums sums(c.out);
      for (int64_t o = 0; o < c.out; ++o) {
        sums.add(o, d.dbias[at(o)]);
        for (int64_t t = 0; t < c.T; ++t) sums.add(o, d.dy[at(t * c.out + o)]);
      }
      expect_close(operands.read(r.dbias, c.out, LETHE_F32), sums.value, bounds(sums, terms, LETHE_F32),
                   name + " dbias");
      written.push_back(r.dbias);
    }
  }
  int64_t first = 0;
  for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
    const Adapter &p = c.adapters[n];
    if (p.frozen) continue;
    const Numbers start(d.da.begin() + first * c.in, d.da.begin() + (first + p.rank) * c.in);
    const Sums da = twin_outer(c.T, start, du, R, first, p.rank, masked_x(c, d, p), c.in, 0, c.in);
    const Sums db = twin_outer(c.T, d.db[n], d.dy, c.out, p.first_out, p.part_out, u, R, first, p.rank);
    expect_close(operands.read(r.da[n], p.rank * c.in, LETHE_F32), da.value, bounds(da, terms, LETHE_F32),
                 name + " da");
    expect_close(operands.read(r.db[n], p.part_out * p.rank, LETHE_F32), db.value, bounds(db, terms, LETHE_F32),
                 name + " db");
    written.push_back(r.da[n]);
    written.push_back(r.db[n]);
  }
  expect(operands.intact(written), name + " writes nothing else");
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, name + " close");
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::vector<Adapter> none;
  const std::vector<Adapter> one = {{0, 33, 8, 2.0}};
  const std::vector<Adapter> qkv = {{0, 16, 5, 2.0}, {16, 8, 8, 0.5}, {24, 9, 3, -1.5}};
  const std::vector<Adapter> crossing = {{0, 20, 4, 1.0}, {10, 23, 1, 1.0, true}, {32, 1, 17, 0.25}};
  int i = 0;
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const auto &adapters : {none, one, qkv, crossing}) {
      for (const int64_t T : {0, 1, 2, 3, 7, 50}) {
        const auto residual = static_cast<Residual>(i % 3);
        all.push_back({dtype, T, T * (i % 4) / 3 > T ? T : T * (i % 4) / 3, 33, 37, residual, adapters, i % 2 == 0,
                       i % 5 != 0, i % 7 != 0, i % 3, i % 4 < 2});
        ++i;
      }
    }
    all.push_back({dtype, 5, 4, 1, 1, Residual::kSeparate, {{0, 1, 1, 1.0}}, true, true, true, 0});
    all.push_back({dtype,
                   67,
                   40,
                   224,
                   96,
                   Residual::kInPlace,
                   {{0, 96, 8, 2.0}, {96, 64, 8, 2.0}, {160, 64, 8, 2.0}},
                   true,
                   true,
                   true,
                   0});
    all.push_back(
        {dtype, 67, 40, 224, 96, Residual::kSeparate, {{0, 96, 8, 2.0}, {96, 64, 8, 2.0}}, false, true, true, 1});
    all.push_back({dtype, 9, 6, 400, 33, Residual::kNone, {{5, 300, 16, 2.0}}, true, true, true, 3});
    for (const bool stacked : {true, false}) {
      all.push_back({dtype,
                     9,
                     7,
                     33,
                     37,
                     Residual::kSeparate,
                     {{0, 20, 4, 1.0, false, 0.25f, 11}, {10, 23, 1, 1.0, true}, {32, 1, 6, 0.25, false, 0.9f, 12}},
                     stacked,
                     true,
                     true,
                     0,
                     stacked});
    }
    all.push_back({dtype, 515, 514, 17, 19, Residual::kNone, {{0, 17, 4, 2.0, false, 0.1f, 13}}, true, true, true, 0});
    all.push_back({dtype, 514, 513, 17, 19, Residual::kNone, {{0, 17, 4, 2.0}}, true, true, true, 0, true});
  }
  return all;
}

// ---- bits ----

// A layer and its rows, of which a call takes some.
class Layer {
 public:
  Layer(lethe_engine *engine, const Case &c, const Data &d)
      : engine_(engine), c_(c), operands_(engine, arena_bytes(c)), r_(make_linear(engine, c, d, &operands_)) {}
  ~Layer() { expect(lethe_linear_close(engine_, r_.linear) == LETHE_OK, "close"); }
  Layer(const Layer &) = delete;
  Layer &operator=(const Layer &) = delete;

  // y, and dx where it is wanted, of the rows [first, first + T), of which the first `adapted` are.
  Numbers rows(int64_t first, int64_t T, int64_t adapted) {
    const auto bytes = static_cast<uint64_t>(first * element_bytes(c_.dtype));
    const auto in = bytes * static_cast<uint64_t>(c_.in);
    const auto out = bytes * static_cast<uint64_t>(c_.out);
    if (c_.residual == Residual::kInPlace) operands_.upload();
    const lethe_ref residual = c_.residual == Residual::kNone ? 0 : r_.residual + out;
    expect(lethe_linear_forward(engine_, r_.linear, T, adapted, r_.x + in, residual, r_.y + out, keys(first), r_.u) ==
               LETHE_OK,
           "forward");
    Numbers y = operands_.read(r_.y + out, T * c_.out, c_.dtype);
    if (c_.wants_dx) {
      expect(lethe_linear_backward(engine_, r_.linear, T, r_.x + in, r_.u, r_.dy + out, keys(first), r_.du,
                                   r_.dx + in) == LETHE_OK,
             "backward");
      const Numbers dx = operands_.read(r_.dx + in, T * c_.in, c_.dtype);
      y.insert(y.end(), dx.begin(), dx.end());
    }
    return y;
  }

 private:
  lethe_ref keys(int64_t first) const { return r_.row_keys == 0 ? 0 : r_.row_keys + static_cast<uint64_t>(first) * 8; }

  lethe_engine *engine_;
  Case c_;
  Operands operands_;
  Refs r_;
};

void rows_do_not_depend_on_their_batch(lethe_engine *engine) {
  const int64_t T = 300;
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{1536, 512}, {512, 1344}, {768, 256}, {37, 53}, {64, 2304}};
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const auto &[out, in] : shapes) {
      const float dropout = out == 768 || out == 37 ? 0.25f : 0.0f;
      const Case c{dtype, T,     T,    out, in,        Residual::kSeparate, {{0, out, 8, 2.0, true, dropout, 5}},
                   true,  false, true, 0,   out == 512};
      Layer layer(engine, c, make_data(c, 5));
      const Numbers all = layer.rows(0, T, T);
      for (const int64_t n : {1, 2, 3, 5, 16, 33, 100, 299}) {
        for (const int64_t first : {int64_t{0}, (T - n) / 2, T - n}) {
          const Numbers some = layer.rows(first, n, n);
          Numbers same(all.begin() + first * out, all.begin() + (first + n) * out);
          same.insert(same.end(), all.begin() + T * out + first * in, all.begin() + T * out + (first + n) * in);
          expect_equal(some, same, name_of(c) + " rows " + std::to_string(first) + "+" + std::to_string(n));
        }
      }
      expect_equal(layer.rows(0, T, T), all, name_of(c) + " a second time");
    }
  }
}

void a_zero_b_changes_nothing(lethe_engine *engine) {
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const auto residual : {Residual::kNone, Residual::kSeparate, Residual::kInPlace}) {
      Case c{dtype, 70, 70, 211, 130, residual, {{0, 100, 8, 2.0}, {100, 111, 3, 2.0}}, true, false, false, 0};
      Data d = make_data(c, 6);
      for (Numbers &b : d.b) std::fill(b.begin(), b.end(), 0.0);
      Layer layer(engine, c, d);
      const Numbers base = layer.rows(0, 70, 0);
      expect_equal(layer.rows(0, 70, 70), base, name_of(c) + " B = 0");
      expect_equal(layer.rows(0, 70, 33), base, name_of(c) + " B = 0 in part");
      c.adapters.clear();
      d.b.clear();
      Layer plain(engine, c, d);
      expect_equal(plain.rows(0, 70, 70), base, name_of(c) + " no adapter");
    }
  }
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("linear_test", argc, argv, [](lethe_engine *engine, const char *plugins, const char *backend) {
    philox_gives_its_known_answers();
    twin_matches_the_complex_step(0);
    twin_matches_the_complex_step(0.25f);
    uint64_t seed = 0;
    for (const Case &c : cases()) {
      forward_matches(engine, c, ++seed);
      backward_matches(engine, c, ++seed);
    }
    a_zero_b_changes_nothing(engine);
    for (const int32_t threads : {1, 2, 3}) {
      lethe_engine *other = nullptr;
      expect(lethe_engine_open(backend, plugins, threads, &other) == LETHE_OK, "engine");
      if (other == nullptr) continue;
      rows_do_not_depend_on_their_batch(other);
      expect(lethe_engine_close(other) == LETHE_OK, "close");
    }
  });
}
