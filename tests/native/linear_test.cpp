// The linear layer with adapters against its fp64 twin, and the twin against the complex step.
#include "linear_twin.h"

namespace lethe::test {
namespace {

// ---- the backend against the twin ----

struct Refs {
  lethe_ref x, w, dw, bias, dbias, residual, y, u, dy, du, dx;
  std::vector<lethe_ref> a, b, da, db;
  lethe_ref row_keys;
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
  std::vector<int32_t> halves(2 * d.row_keys.size());
  if (!halves.empty()) std::memcpy(halves.data(), d.row_keys.data(), 8 * d.row_keys.size());
  r.row_keys = c.keyed ? operands->add(halves) : 0;
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

// Whether the backend that is tested is CUDA's, which stores y's and dx's low-rank part first.
bool stores_parts = false;

Numbers with_stored(Numbers bound, const Numbers &sizes, int32_t stored) {
  if (!stores_parts || stored != LETHE_BF16) return bound;
  for (size_t i = 0; i < bound.size(); ++i) bound[i] += tolerance::linear::kStoredPart * sizes[i];
  return bound;
}

int64_t arena_bytes(const Case &c) {
  return 16 * (c.T + 1) * (c.out + c.in + c.total_rank()) * 4 + 8 * (c.out + 1) * c.in +
         16 * (c.total_rank() + 1) * (c.in + c.out) + 32768;
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
  expect_close(
      operands.read(r.y, c.T * c.out, c.dtype), y_twin.value,
      with_stored(bounds(y_twin, static_cast<double>(c.in + R + 1), c.dtype), stored_outputs(c, d, u), c.dtype),
      name + " y");
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
  expect(operands.intact(written), name + " writes nothing else");
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, name + " close");
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::vector<Adapter> none;
  const std::vector<Adapter> one = {{0, 33, 8, 2.0}};
  const std::vector<Adapter> qkv = {{0, 16, 5, 2.0}, {16, 8, 8, 0.5}, {24, 9, 3, -1.5}};
  const std::vector<Adapter> dropped = {
      {0, 16, 5, 2.0, false, 0.5f, 1}, {16, 8, 8, 0.5, true, 0.1f, uint64_t{1} << 63}, {24, 9, 3, -1.5}};
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
    for (const int64_t T : {0, 1, 3, 50}) {
      for (const int64_t in : {37, 64, 200}) {
        const auto residual = static_cast<Residual>(i % 3);
        all.push_back({dtype, T, T - T / 3, 33, in, residual, dropped, i % 2 == 0, i % 5 != 0, i % 7 != 0, i % 3,
                       i % 4 < 2, i % 6 != 0});
        ++i;
      }
    }
    all.push_back({dtype,
                   514,
                   513,
                   17,
                   130,
                   Residual::kNone,
                   {{0, 17, 4, 2.0, false, 0.25f, 9}},
                   true,
                   true,
                   true,
                   0,
                   false,
                   true});
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
    all.push_back({dtype, 514, 513, 17, 19, Residual::kNone, {{0, 17, 4, 2.0}}, true, true, true, 0, true});
    // Gaps between adapters, in front of them and behind, over every residual; scales that differ in one block of A.
    for (const Residual residual : {Residual::kNone, Residual::kSeparate, Residual::kInPlace}) {
      all.push_back({dtype, 9, 7, 64, 48, residual, {{8, 16, 8, 2.0}, {40, 8, 8, 2.0}}, true, true, true, 0, true});
      all.push_back({dtype, 9, 9, 64, 48, residual, {{40, 24, 3, 2.0}, {0, 16, 5, 0.5}}, true, true, true, 1, true});
    }
    // Equal parts, which one batch takes: in equal steps of memory, and in unequal ones behind a frozen adapter.
    for (const bool stacked : {true, false}) {
      all.push_back(
          {dtype, 9, 7, 64, 48, Residual::kSeparate, {{0, 32, 8, 2.0}, {32, 32, 8, 2.0}}, stacked, false, true, 0});
      all.push_back({dtype,
                     9,
                     7,
                     70,
                     48,
                     Residual::kNone,
                     {{0, 16, 8, 2.0}, {16, 16, 8, 2.0, true}, {32, 16, 8, 2.0}, {48, 16, 8, 0.5}, {65, 5, 8, 0.5}},
                     stacked,
                     true,
                     true,
                     stacked ? 0 : 1});
    }
    // More adapters than one pass over dx takes, and ranks, rows and columns that cross its tiles.
    std::vector<Adapter> many;
    for (int64_t n = 0; n < 18; ++n) many.push_back({n, 2, n == 4 ? 37 : 1, 0.5, n == 3, n % 3 == 1 ? 0.0f : 0.4f, 70});
    all.push_back({dtype, 35, 33, 20, 141, Residual::kNone, many, false, true, true, 0, false, true});
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

void rows_do_not_depend_on_their_batch(lethe_engine *engine) {
  // CUDA promises it for row counts that share an algorithm: those up to 128 are the first.
  const int64_t T = stores_parts ? 100 : 300;
#if defined(LETHE_SMALL)
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{256, 128}, {512, 64}, {37, 53}};
#else
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{1536, 512}, {512, 1344}, {768, 256}, {37, 53}, {64, 2304}};
#endif
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const auto &[out, in] : shapes) {
      const Case c{dtype, T,     T,    out, in,         Residual::kSeparate,   {{0, out, 8, 2.0, true, 0.3f, 5}},
                   true,  false, true, 0,   out == 512, in == 53 || out == 512};
      Layer layer(engine, c, make_data(c, 5));
      const Numbers all = layer.rows(0, T, T);
      for (const int64_t n : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}, int64_t{16}, int64_t{33}, T / 3, T - 1}) {
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

// Known answers of Random123's reference implementation, and the twin's masks keep the share they should.
void philox_gives_its_known_answers() {
  const struct {
    uint32_t counter[4];
    uint64_t key;
    uint32_t words[4];
  } known[] = {
      {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, ~uint64_t{0}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       0x299f31d0a4093822,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto &k : known) {
    uint32_t words[4];
    philox(k.counter, k.key, words);
    expect(std::equal(words, words + 4, k.words), "Philox4x32-10");
  }
  const Adapter adapter = {0, 1, 1, 1.0, false, 0.1f, 3};
  Case c{};
  c.T = 50;
  c.in = 400;
  c.keyed = true;
  const Data d = make_data(c, 1);
  double share = 0;
  for (int64_t t = 0; t < c.T; ++t) {
    for (int64_t i = 0; i < c.in; ++i) share += kept(c, d, adapter, t, i) / 20000;
  }
  // Four standard deviations of a share of 20000.
  expect(std::fabs(share - 0.9) <= 4 * std::sqrt(0.09 / 20000), "the share that is kept");
}

// Without row keys an adapter with dropout is one without, to the bit.
void evaluation_drops_nothing(lethe_engine *engine) {
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    Case c{dtype, 21, 21, 40, 70, Residual::kNone, {{0, 40, 8, 2.0, false, 0.4f, 3}}, true, false, true, 0};
    const Data d = make_data(c, 7);
    Layer layer(engine, c, d);
    const Numbers without_keys = layer.rows(0, 21, 21);
    c.adapters[0].dropout = 0;
    c.keyed = true;
    Layer plain(engine, c, d);
    expect_equal(plain.rows(0, 21, 21), without_keys, name_of(c) + " evaluation drops nothing");
  }
}

void bad_dropout_is_refused(lethe_engine *engine) {
  const Case c{LETHE_F32, 2, 2, 4, 4, Residual::kNone, {{0, 4, 2, 1.0}}, true, false, true, 0};
  Operands operands(engine, arena_bytes(c));
  const Refs r = make_linear(engine, c, make_data(c, 8), &operands);
  for (const float p : {-0.1f, 1.0f, std::nanf("")}) {
    expect(
        lethe_linear_adapter(engine, r.linear, 0, 4, 2, 1.0f, p, 0, r.a[0], r.b[0], 0, 0) == LETHE_INVALID_ARGUMENT &&
            std::strstr(lethe_error_trace(), "dropout must be in [0, 1)") != nullptr,
        "a bad dropout");
  }
  expect(lethe_linear_close(engine, r.linear) == LETHE_OK, "close");
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
    stores_parts = std::strncmp(backend, "cuda", 4) == 0;
    twin_matches_the_complex_step(false);
    twin_matches_the_complex_step(true);
    philox_gives_its_known_answers();
    evaluation_drops_nothing(engine);
    bad_dropout_is_refused(engine);
    uint64_t seed = 0;
    for (const Case &c : cases()) {
      forward_matches(engine, c, ++seed);
      backward_matches(engine, c, ++seed);
    }
    a_zero_b_changes_nothing(engine);
    for (const int32_t threads : {1, 2, 3}) {
      if (stores_parts && threads > 1) break;  // of the host, which it does not use
      lethe_engine *other = nullptr;
      expect(lethe_engine_open(backend, plugins, threads, &other) == LETHE_OK, "engine");
      if (other == nullptr) continue;
      rows_do_not_depend_on_their_batch(other);
      for (const Case &c : cases()) {
        if (c.keyed && c.T == 50) backward_matches(other, c, ++seed);
      }
      expect(lethe_engine_close(other) == LETHE_OK, "close");
    }
  });
}
