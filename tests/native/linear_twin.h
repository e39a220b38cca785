// The linear layer's fp64 twin: cases, their numbers, and what the layer makes of them.
#pragma once

#include <algorithm>
#include <complex>

#include "op_check.h"
#include "philox_twin.h"
#include "tolerance.h"

namespace lethe::test {

inline size_t at(int64_t i) { return static_cast<size_t>(i); }

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
  bool keyed = false;                         // calls give row keys
  int64_t spare_columns = 0, spare_rows = 0;  // of the weight
  int64_t total_rank() const {
    int64_t r = 0;
    for (const Adapter &a : adapters) r += a.rank;
    return r;
  }
};

inline std::string name_of(const Case &c) {
  return std::string(c.dtype == LETHE_BF16 ? "bf16" : "fp32") + " T=" + std::to_string(c.T) +
         " adapted=" + std::to_string(c.adapted) + " out=" + std::to_string(c.out) + " in=" + std::to_string(c.in) +
         " R=" + std::to_string(c.total_rank()) + " residual=" + std::to_string(static_cast<int>(c.residual)) +
         " offset=" + std::to_string(c.offset) + (c.bias ? " bias" : "") + (c.keyed ? " keyed" : "") +
         (c.spare_columns > 0 ? " columns+" + std::to_string(c.spare_columns) : "") +
         (c.spare_rows > 0 ? " rows+" + std::to_string(c.spare_rows) : "");
}

// a[R, in] holds the adapters' A one below the other; b[i] is adapter i's [part_out, rank].
struct Data {
  Numbers x, w, residual, dy, a, dw, da, bias, dbias;
  std::vector<Numbers> b, db;
  std::vector<uint64_t> row_keys;
};

inline Data make_data(const Case &c, uint64_t seed) {
  Generator g(seed);
  Data d;
  d.x = numbers(&g, c.T * c.in, c.dtype);
  d.w = numbers(&g, c.out * c.in, c.dtype);
  d.residual = numbers(&g, c.T * c.out, c.dtype);
  d.dy = numbers(&g, c.T * c.out, c.dtype);
  d.a = numbers(&g, c.total_rank() * c.in, c.dtype);
  d.dw = numbers(&g, c.out * c.in, LETHE_F32);
  d.da = numbers(&g, c.total_rank() * c.in, LETHE_F32);
  for (int64_t t = 0; t < c.T; ++t) d.row_keys.push_back(g.bits());
  d.bias = numbers(&g, c.out, c.dtype);
  d.dbias = numbers(&g, c.out, LETHE_F32);
  for (const Adapter &adapter : c.adapters) {
    d.b.push_back(numbers(&g, adapter.part_out * adapter.rank, c.dtype));
    d.db.push_back(numbers(&g, adapter.part_out * adapter.rank, LETHE_F32));
  }
  return d;
}

// A value and the sum of the magnitudes that made it.
struct Sums {
  Numbers value, magnitude;
  explicit Sums(int64_t n) : value(static_cast<size_t>(n)), magnitude(static_cast<size_t>(n)) {}
  void add(int64_t i, double term) {
    value[static_cast<size_t>(i)] += term;
    magnitude[static_cast<size_t>(i)] += std::fabs(term);
  }
};

// ---- dropout ----

inline bool drops(const Case &c, const Adapter &adapter) { return c.keyed && adapter.dropout > 0; }

// 1 where column j of a row reaches the adapter, else 0.
inline double kept(const Case &c, const Data &d, const Adapter &adapter, int64_t t, int64_t j) {
  if (!drops(c, adapter)) return 1;
  const uint64_t row = d.row_keys[at(t)];
  const auto block = static_cast<uint64_t>(j) / 4;
  const uint32_t counter[4] = {static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32),
                               static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32)};
  uint32_t words[4];
  philox(counter, adapter.key, words);
  return words[j % 4] >= static_cast<double>(adapter.dropout) * 0x1p32 ? 1 : 0;
}

// The factor of u and du.
inline double scale_of(const Case &c, const Adapter &adapter) {
  return drops(c, adapter) ? adapter.scale / (1 - static_cast<double>(adapter.dropout)) : adapter.scale;
}

// x as the adapter sees it, without the factor.
inline Numbers masked(const Case &c, const Data &d, const Adapter &adapter) {
  Numbers x = d.x;
  for (int64_t t = 0; drops(c, adapter) && t < c.T; ++t) {
    for (int64_t i = 0; i < c.in; ++i) x[at(t * c.in + i)] *= kept(c, d, adapter, t, i);
  }
  return x;
}

// ---- the twin ----

inline Sums twin_u(const Case &c, const Data &d) {
  Sums u(c.adapted * c.total_rank());
  const int64_t R = c.total_rank();
  int64_t first = 0;
  for (const Adapter &adapter : c.adapters) {
    const Numbers x = masked(c, d, adapter);
    for (int64_t t = 0; t < c.adapted; ++t) {
      for (int64_t r = first; r < first + adapter.rank; ++r) {
        for (int64_t i = 0; i < c.in; ++i) {
          u.add(t * R + r, scale_of(c, adapter) * x[at(t * c.in + i)] * d.a[at(r * c.in + i)]);
        }
      }
    }
    first += adapter.rank;
  }
  return u;
}

inline Sums twin_y(const Case &c, const Data &d, const Numbers &u) {
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

inline Sums twin_du(const Case &c, const Data &d) {
  const int64_t R = c.total_rank();
  Sums du(c.T * R);
  for (int64_t t = 0; t < c.T; ++t) {
    int64_t r = 0;
    for (size_t n = 0; n < c.adapters.size(); ++n) {
      const Adapter &adapter = c.adapters[n];
      for (int64_t k = 0; k < adapter.rank; ++k, ++r) {
        for (int64_t o = 0; o < adapter.part_out; ++o) {
          du.add(t * R + r,
                 scale_of(c, adapter) * d.dy[at(t * c.out + adapter.first_out + o)] * d.b[n][at(o * adapter.rank + k)]);
        }
      }
    }
  }
  return du;
}

inline Sums twin_dx(const Case &c, const Data &d, const Numbers &du) {
  const int64_t R = c.total_rank();
  Sums dx(c.T * c.in);
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t i = 0; i < c.in; ++i) {
      for (int64_t o = 0; o < c.out; ++o) dx.add(t * c.in + i, d.dy[at(t * c.out + o)] * d.w[at(o * c.in + i)]);
      int64_t r = 0;
      for (const Adapter &adapter : c.adapters) {
        const double mask = kept(c, d, adapter, t, i);
        for (int64_t k = 0; k < adapter.rank; ++k, ++r) {
          dx.add(t * c.in + i, mask * du[at(t * R + r)] * d.a[at(r * c.in + i)]);
        }
      }
    }
  }
  return dx;
}

// ---- what CUDA stores in bf16 before the product with W is added to it: the sizes of what is rounded, summed ----

inline Numbers stored_outputs(const Case &c, const Data &d, const Numbers &u) {
  Numbers sizes(at(c.T * c.out));
  const int64_t R = c.total_rank();
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t o = 0; o < c.out; ++o) {
      const double residual = c.residual == Residual::kNone ? 0 : d.residual[at(t * c.out + o)];
      double value = residual, magnitude = std::fabs(residual), roundings = 0;
      int64_t first = 0;
      for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
        const Adapter &p = c.adapters[n];
        if (t >= c.adapted || o < p.first_out || o >= p.first_out + p.part_out) continue;
        double part = 0;
        for (int64_t k = 0; k < p.rank; ++k)
          part += u[at(t * R + first + k)] * d.b[n][at((o - p.first_out) * p.rank + k)];
        value += part;
        magnitude += std::fabs(part);
        ++roundings;
      }
      // In the product itself they are not stored.
      if (c.spare_columns > 0) value = residual, magnitude = 0, roundings = 0;
      // Of overlapping adapters each is a rounding, in an order of the backend's.
      sizes[at(t * c.out + o)] = roundings > 1 ? roundings * magnitude : roundings * std::fabs(value);
      if (c.bias) sizes[at(t * c.out + o)] += std::fabs(value + d.bias[at(o)]);
    }
  }
  return sizes;
}

inline Numbers stored_inputs(const Case &c, const Data &d, const Numbers &du) {
  Numbers sizes(at(c.T * c.in));
  const int64_t R = c.total_rank();
  const bool any_drops =
      std::any_of(c.adapters.begin(), c.adapters.end(), [&](const Adapter &p) { return drops(c, p); });
  if (c.spare_rows > 0 && !any_drops) return sizes;
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t i = 0; i < c.in; ++i) {
      double value = 0;
      int64_t r = 0;
      for (size_t n = 0; n < c.adapters.size(); ++n) {
        const double mask = kept(c, d, c.adapters[n], t, i);
        for (int64_t k = 0; k < c.adapters[n].rank; ++k, ++r) value += mask * du[at(t * R + r)] * d.a[at(r * c.in + i)];
        const bool stored = n + 1 == c.adapters.size() ||
                            (any_drops && static_cast<int64_t>(n + 1) % tolerance::linear::kMaskedParts == 0);
        if (stored) sizes[at(t * c.in + i)] += std::fabs(value);
      }
    }
  }
  return sizes;
}

// start[rows,columns] + left[T, first..first+rows of left_stride]^T right[T, first..]
inline Sums twin_outer(int64_t T, const Numbers &start, const Numbers &left, int64_t left_stride, int64_t left_first,
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

inline Complex loss(const Case &c, const Data &d, const std::vector<Complex> &x, const std::vector<Complex> &w,
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
            u += kept(c, d, adapter, t, i) * x[at(t * c.in + i)] * a[at((first + k) * c.in + i)];
          }
          y += scale_of(c, adapter) * u * b[n][at((o - adapter.first_out) * adapter.rank + k)];
        }
      }
      total += y * d.dy[at(t * c.out + o)];
    }
  }
  return total;
}

inline void twin_matches_the_complex_step(bool keyed) {
  const std::vector<Adapter> adapters = {{0, 2, 2, 0.5, false, 0.3f, 7}, {1, 5, 3, -2.0}};
  const Case c{LETHE_F32, 3, 3, 6, 5, Residual::kNone, adapters, true, true, true, 0, false, keyed};
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
  const Numbers a_steps = step(&a);
  int64_t first = 0;
  for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
    const Adapter &p = c.adapters[n];
    const Numbers da(a_steps.begin() + first * c.in, a_steps.begin() + (first + p.rank) * c.in);
    compare(twin_outer(c.T, Numbers(da.size()), du, R, first, p.rank, masked(c, d, p), c.in, 0, c.in).value, da,
            "twin da");
    compare(twin_outer(c.T, Numbers(d.b[n].size()), d.dy, c.out, p.first_out, p.part_out, u, R, first, p.rank).value,
            step(&b[n]), "twin db");
  }
}

}  // namespace lethe::test
