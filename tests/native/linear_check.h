// The linear layer of a backend against its fp64 twin.
#pragma once

#include "linear_twin.h"

namespace lethe::test {

struct Refs {
  lethe_ref x, w, dw, bias, dbias, residual, y, u, dy, du, dx;
  std::vector<lethe_ref> a, b, da, db;
  lethe_ref row_keys;
  lethe_linear linear = 0;
};

// The weight as it lies in memory: what is spare holds NaN until a call writes it.
inline Numbers laid_out(const Case &c, const Numbers &w) {
  const int64_t stride = c.in + c.spare_columns;
  Numbers all(at((c.out + c.spare_rows) * stride), std::nan(""));
  for (int64_t o = 0; o < c.out; ++o) std::copy_n(w.begin() + o * c.in, c.in, all.begin() + o * stride);
  return all;
}

// Whether the weight itself is as it was.
inline bool keeps_weight(const Case &c, const Data &d, const Operands &operands, lethe_ref w) {
  const int64_t stride = c.in + c.spare_columns;
  const Numbers all = operands.read(w, (c.out + c.spare_rows) * stride, c.dtype);
  bool same = true;
  for (int64_t o = 0; o < c.out; ++o) {
    same = same && std::equal(d.w.begin() + o * c.in, d.w.begin() + (o + 1) * c.in, all.begin() + o * stride);
  }
  return same;
}

inline Refs make_linear(lethe_engine *engine, const Case &c, const Data &d, Operands *operands) {
  Refs r = {};
  const Numbers unwritten(static_cast<size_t>(c.T * std::max({c.out, c.in, c.total_rank()})), 7.0);
  const auto part = [](const Numbers &all, int64_t first, int64_t count) {
    return Numbers(all.begin() + first, all.begin() + first + count);
  };
  const auto blank = [&](int64_t n) { return operands->add(part(unwritten, 0, n), c.dtype, c.offset); };
  r.x = operands->add(d.x, c.dtype, c.offset);
  std::vector<int32_t> halves(2 * d.row_keys.size());
  if (!halves.empty()) std::memcpy(halves.data(), d.row_keys.data(), 8 * d.row_keys.size());
  r.row_keys = c.keyed ? operands->add(halves) : 0;
  r.w = operands->add(laid_out(c, d.w), c.dtype, c.offset);
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
  const auto joined = [](const std::vector<Numbers> &each) {
    Numbers all;
    for (const Numbers &one : each) all.insert(all.end(), one.begin(), one.end());
    return all;
  };
  const lethe_ref all_b = c.stacked ? operands->add(joined(d.b), c.dtype, c.offset) : 0;
  const lethe_ref all_db = c.stacked ? operands->add(joined(d.db), LETHE_F32, c.offset) : 0;
  int64_t first = 0;
  uint64_t before = 0;  // numbers of the B in front
  for (size_t n = 0; n < c.adapters.size(); first += c.adapters[n].rank, ++n) {
    const Adapter &p = c.adapters[n];
    const auto begin = static_cast<uint64_t>(first * c.in);
    const int64_t count = p.rank * c.in;
    r.a.push_back(c.stacked ? all_a + begin * static_cast<uint64_t>(element_bytes(c.dtype))
                            : operands->add(part(d.a, first * c.in, count), c.dtype, c.offset));
    r.da.push_back(p.frozen    ? 0
                   : c.stacked ? all_da + begin * 4
                               : operands->add(part(d.da, first * c.in, count), LETHE_F32, c.offset));
    r.b.push_back(c.stacked ? all_b + before * static_cast<uint64_t>(element_bytes(c.dtype))
                            : operands->add(d.b[n], c.dtype, c.offset));
    r.db.push_back(p.frozen ? 0 : c.stacked ? all_db + before * 4 : operands->add(d.db[n], LETHE_F32, c.offset));
    before += static_cast<uint64_t>(d.b[n].size());
  }
  expect(operands->upload(), "upload");
  const bool spares = c.spare_columns > 0 || c.spare_rows > 0;
  expect(
      (spares ? lethe_linear_create_strided(engine, c.dtype, c.out, c.in, c.in + c.spare_columns, c.spare_rows, r.w,
                                            r.bias, &r.linear)
              : lethe_linear_create(engine, c.dtype, c.out, c.in, r.w, r.dw, r.bias, r.dbias, &r.linear)) == LETHE_OK,
      "create");
  for (size_t n = 0; n < c.adapters.size(); ++n) {
    const Adapter &p = c.adapters[n];
    expect(lethe_linear_adapter(engine, r.linear, p.first_out, p.part_out, p.rank, static_cast<float>(p.scale),
                                p.dropout, p.key, r.a[n], r.b[n], r.da[n], r.db[n]) == LETHE_OK,
           "adapter");
  }
  return r;
}

inline Numbers bounds(const Sums &s, double terms, int32_t stored) {
  Numbers bound(s.value.size());
  const double rounding = stored == LETHE_BF16 ? tolerance::kBf16Unit : tolerance::kUnit;
  for (size_t i = 0; i < bound.size(); ++i) {
    bound[i] = tolerance::linear::sum(terms) * s.magnitude[i] + rounding * std::fabs(s.value[i]);
  }
  return bound;
}

// Whether the backend that is tested is CUDA's, which stores y's and dx's low-rank part first.
inline bool stores_parts = false;

inline Numbers with_stored(Numbers bound, const Numbers &sizes, int32_t stored) {
  if (!stores_parts || stored != LETHE_BF16) return bound;
  for (size_t i = 0; i < bound.size(); ++i) bound[i] += tolerance::linear::kStoredPart * sizes[i];
  return bound;
}

inline int64_t arena_bytes(const Case &c) {
  return 16 * (c.T + 1) * (c.out + c.in + c.total_rank()) * 4 +
         8 * (c.out + 1 + c.spare_rows) * (c.in + c.spare_columns) + 16 * (c.total_rank() + 1) * (c.in + c.out) + 32768;
}

inline void forward_matches(lethe_engine *engine, const Case &c, uint64_t seed) {
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
  expect_close(
      operands.read(r.y, c.T * c.out, c.dtype), y_twin.value,
      with_stored(bounds(y_twin, static_cast<double>(c.in + R + 1), c.dtype), stored_outputs(c, d, u), c.dtype),
      name + " y");
  std::vector<lethe_ref> written = {r.y, r.u};
  if (c.spare_columns > 0) written.push_back(r.w);
  expect(operands.intact(written) && keeps_weight(c, d, operands, r.w), name + " writes nothing else");
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, name + " close");
}

inline void backward_matches(lethe_engine *engine, Case c, uint64_t seed) {
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
  if (c.spare_columns > 0 || c.spare_rows > 0) written.push_back(r.w);
  if (c.wants_dx) {
    const Sums dx = twin_dx(c, d, du);
    expect_close(operands.read(r.dx, c.T * c.in, c.dtype), dx.value,
                 with_stored(bounds(dx, static_cast<double>(c.out + R), c.dtype), stored_inputs(c, d, du), c.dtype),
                 name + " dx");
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
    const Sums da = twin_outer(c.T, start, du, R, first, p.rank, masked(c, d, p), c.in, 0, c.in);
    const Sums db = twin_outer(c.T, d.db[n], d.dy, c.out, p.first_out, p.part_out, u, R, first, p.rank);
    expect_close(operands.read(r.da[n], p.rank * c.in, LETHE_F32), da.value, bounds(da, terms, LETHE_F32),
                 name + " da");
    expect_close(operands.read(r.db[n], p.part_out * p.rank, LETHE_F32), db.value, bounds(db, terms, LETHE_F32),
                 name + " db");
    written.push_back(r.da[n]);
    written.push_back(r.db[n]);
  }
  expect(operands.intact(written) && keeps_weight(c, d, operands, r.w), name + " writes nothing else");
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, name + " close");
}

// A layer and its rows, of which a call takes some.
class Layer {
 public:
  Layer(lethe_engine *engine, const Case &c, const Data &d)
      : engine_(engine), c_(c), operands_(engine, arena_bytes(c)), r_(make_linear(engine, c, d, &operands_)) {}
  ~Layer() { expect(lethe_linear_close(engine_, r_.linear) == LETHE_OK, "close"); }
  Layer(const Layer &) = delete;
  Layer &operator=(const Layer &) = delete;

  // The keys of the rows from `first` on.
  lethe_ref keys(int64_t first) const { return r_.row_keys == 0 ? 0 : r_.row_keys + 8 * static_cast<uint64_t>(first); }

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
  lethe_engine *engine_;
  Case c_;
  Operands operands_;
  Refs r_;
};

}  // namespace lethe::test
