// Linears whose weight stays in 4-bit codes: to the bit plain linears on the dequantised weight, laid out alike.
#include <algorithm>

#include "op_check.h"
#include "tolerance.h"

namespace lethe::test {
namespace {

constexpr int64_t kBlock = 64;

struct Rows {
  int64_t first, count;
};
struct Case {
  int32_t dtype;
  bool nested;
  int64_t T, out, in;
  std::vector<Rows> parts;  // of the weight, each quantised by itself; adapters sit on the same rows
  int64_t rank;             // 0: no adapters
  float dropout;
  bool bias, residual;
  int64_t block = kBlock;
  int64_t spare_columns = 0, spare_rows = 0;  // room for the adapters, where the backend has a use for it

  int64_t stride() const { return in + spare_columns; }
  bool spares() const { return spare_columns > 0 || spare_rows > 0; }
  int64_t laid_out() const { return (out + spare_rows) * stride(); }
};

std::string name_of(const Case &c) {
  return std::string(c.dtype == LETHE_BF16 ? "bf16" : "fp32") + (c.nested ? " nested" : "") +
         " T=" + std::to_string(c.T) + " out=" + std::to_string(c.out) + " in=" + std::to_string(c.in) +
         " parts=" + std::to_string(c.parts.size()) + " rank=" + std::to_string(c.rank) +
         " dropout=" + std::to_string(c.dropout) + " block=" + std::to_string(c.block) +
         (c.spares() ? " room=" + std::to_string(c.spare_columns) + "," + std::to_string(c.spare_rows) : "");
}

size_t at(int64_t i) { return static_cast<size_t>(i); }

// The codes of a part of a weight.
struct Part {
  Rows rows;
  lethe_ref packed, absmax, nested, nested_absmax;
  float offset;
};

// A weight in codes, and what a layer of it reads and writes; two layers of the same numbers have the same seed.
class Layer {
 public:
  Layer(lethe_engine *engine, const Case &c, uint64_t seed)
      : engine_(engine), c_(c), operands_(engine, bytes_of(c)), g_(seed) {
    map_ = operands_.add(numbers(&g_, 256, LETHE_F32), LETHE_F32);
    for (const Rows &rows : c.parts) parts_.push_back(make_part(rows));
    // What is spare is nobody's until a call writes it.
    scratch_ = operands_.add(Numbers(at(c.laid_out()), c.spares() ? std::nan("") : 9.0), c.dtype);
    weight_ = operands_.add(Numbers(at(c.out * c.in), 8.0), c.dtype);
    laid_out_ = operands_.add(Numbers(at(c.laid_out()), std::nan("")), c.dtype);
    std::vector<int32_t> in_order(at(c.out));
    for (size_t i = 0; i < in_order.size(); ++i) in_order[i] = static_cast<int32_t>(i);
    rows_ = operands_.add(in_order);
    bias_ = c.bias ? operands_.add(numbers(&g_, c.out, c.dtype), c.dtype) : 0;
    x_ = operands_.add(numbers(&g_, c.T * c.in, c.dtype), c.dtype);
    residual_ = c.residual ? operands_.add(numbers(&g_, c.T * c.out, c.dtype), c.dtype) : 0;
    dy_ = operands_.add(numbers(&g_, c.T * c.out, c.dtype), c.dtype);
    std::vector<int32_t> keys(at(2 * c.T));
    for (int32_t &k : keys) k = static_cast<int32_t>(g_.bits());
    keys_ = operands_.add(keys);
    const auto R = static_cast<int64_t>(c.parts.size()) * c.rank;
    y_ = operands_.add(Numbers(at(c.T * c.out)), c.dtype);
    u_ = operands_.add(Numbers(at(c.T * R)), c.dtype);
    du_ = operands_.add(Numbers(at(c.T * R)), c.dtype);
    dx_ = operands_.add(Numbers(at(c.T * c.in)), c.dtype);
    for (const Rows &rows : c.parts) {
      if (c.rank == 0) break;
      a_.push_back(operands_.add(numbers(&g_, c.rank * c.in, c.dtype), c.dtype));
      b_.push_back(operands_.add(numbers(&g_, rows.count * c.rank, c.dtype), c.dtype));
      da_.push_back(operands_.add(numbers(&g_, c.rank * c.in, LETHE_F32), LETHE_F32));
      db_.push_back(operands_.add(numbers(&g_, rows.count * c.rank, LETHE_F32), LETHE_F32));
    }
    expect(operands_.upload(), "upload");
  }
  ~Layer() {
    if (linear_ != 0) expect(lethe_linear_close(engine_, linear_) == LETHE_OK, "close");
  }
  Layer(const Layer &) = delete;
  Layer &operator=(const Layer &) = delete;

  // With the weight in codes, dequantised into `scratch` (0: its own).
  void keep_codes(lethe_ref scratch) {
    const lethe_ref to = scratch == 0 ? scratch_ : scratch;
    const int status = c_.spares()
                           ? lethe_linear_create_nf4_strided(engine_, c_.dtype, c_.out, c_.in, c_.stride(),
                                                             c_.spare_rows, c_.block, to, bias_, &linear_)
                           : lethe_linear_create_nf4(engine_, c_.dtype, c_.out, c_.in, c_.block, to, bias_, &linear_);
    expect(status == LETHE_OK, "create");
    // In any order.
    for (auto p = parts_.rbegin(); p != parts_.rend(); ++p) {
      expect(lethe_linear_nf4_part(engine_, linear_, p->rows.first, p->rows.count, p->packed, p->absmax, p->nested,
                                   c_.nested ? map_ : 0, p->nested_absmax, p->offset) == LETHE_OK,
             "part");
    }
    attach();
  }
  // With the weight that lethe_nf4_dequantize gives.
  void dequantise() {
    dequantise_parts();
    if (c_.spares()) {
      expect(lethe_gather_rows(engine_, c_.dtype, c_.out, c_.in, c_.out, weight_, c_.in, rows_, laid_out_,
                               c_.stride()) == LETHE_OK,
             "lay out");
      expect(lethe_linear_create_strided(engine_, c_.dtype, c_.out, c_.in, c_.stride(), c_.spare_rows, laid_out_, bias_,
                                         &linear_) == LETHE_OK,
             "create");
    } else {
      expect(lethe_linear_create(engine_, c_.dtype, c_.out, c_.in, weight_, 0, bias_, 0, &linear_) == LETHE_OK,
             "create");
    }
    attach();
  }

  int forward() { return lethe_linear_forward(engine_, linear_, c_.T, c_.T, x_, residual_, y_, keys(), u_); }
  int backward(bool wants_dx) {
    return lethe_linear_backward(engine_, linear_, c_.T, x_, u_, dy_, keys(), du_, wants_dx ? dx_ : 0);
  }
  lethe_ref scratch() const { return scratch_; }

  // All that the two passes wrote.
  std::vector<uint8_t> written() const {
    std::vector<uint8_t> all;
    const auto add = [&](lethe_ref ref, int64_t n, int32_t dtype) {
      const std::vector<uint8_t> bytes = operands_.read_bytes(ref, n * element_bytes(dtype));
      all.insert(all.end(), bytes.begin(), bytes.end());
    };
    const auto R = static_cast<int64_t>(c_.parts.size()) * c_.rank;
    add(y_, c_.T * c_.out, c_.dtype);
    add(u_, c_.T * R, c_.dtype);
    add(du_, c_.T * R, c_.dtype);
    add(dx_, c_.T * c_.in, c_.dtype);
    for (size_t i = 0; i < a_.size(); ++i) {
      add(da_[i], c_.rank * c_.in, LETHE_F32);
      add(db_[i], c_.parts[i].count * c_.rank, LETHE_F32);
    }
    return all;
  }
  // y, then dx.
  Numbers outputs() const {
    Numbers all = read(y_, c_.T * c_.out);
    const Numbers dx = read(dx_, c_.T * c_.in);
    all.insert(all.end(), dx.begin(), dx.end());
    return all;
  }
  // How far the outputs of two fp32 forms may be apart: each within a chain of its terms.
  Numbers bounds() {
    dequantise_parts();
    const Numbers w = read(weight_, c_.out * c_.in), x = read(x_, c_.T * c_.in), dy = read(dy_, c_.T * c_.out);
    const auto R = static_cast<int64_t>(c_.parts.size()) * c_.rank;
    const Numbers u = read(u_, c_.T * R), du = read(du_, c_.T * R);
    Numbers y(at(c_.T * c_.out), 1.0), dx(at(c_.T * c_.in));  // the residual
    for (int64_t t = 0; t < c_.T; ++t) {
      for (int64_t o = 0; o < c_.out; ++o) {
        for (int64_t i = 0; i < c_.in; ++i) {
          y[at(t * c_.out + o)] += std::fabs(x[at(t * c_.in + i)] * w[at(o * c_.in + i)]);
          dx[at(t * c_.in + i)] += std::fabs(dy[at(t * c_.out + o)] * w[at(o * c_.in + i)]);
        }
      }
      add_adapters(t, R, u, du, &y, &dx);
    }
    for (double &bound : y) bound *= 2 * tolerance::linear::sum(static_cast<double>(c_.in + R + 2));
    for (double &bound : dx) bound *= 2 * tolerance::linear::sum(static_cast<double>(c_.out + R));
    y.insert(y.end(), dx.begin(), dx.end());
    return y;
  }
  bool intact() const {
    std::vector<lethe_ref> refs = {scratch_, weight_, laid_out_, y_, u_, du_, dx_};
    refs.insert(refs.end(), da_.begin(), da_.end());
    refs.insert(refs.end(), db_.begin(), db_.end());
    return operands_.intact(refs);
  }

 private:
  static int64_t bytes_of(const Case &c) { return 13 * c.laid_out() + 16 * (c.T + 40) * (c.out + c.in + 64) + 65536; }

  Part make_part(const Rows &rows) {
    const int64_t n = rows.count * c_.in, blocks = (n + c_.block - 1) / c_.block;
    std::vector<uint8_t> codes(at((n + 1) / 2)), nested(at(blocks));
    for (uint8_t &byte : codes) byte = static_cast<uint8_t>(g_.below(256));
    for (uint8_t &byte : nested) byte = static_cast<uint8_t>(g_.below(256));
    const Numbers absmax = numbers(&g_, blocks, LETHE_F32), groups = numbers(&g_, (blocks + 255) / 256, LETHE_F32);
    const auto offset = static_cast<float>(g_.uniform());
    if (!c_.nested) return {rows, operands_.add(codes), operands_.add(absmax, LETHE_F32), 0, 0, 0};
    return {rows, operands_.add(codes), 0, operands_.add(nested), operands_.add(groups, LETHE_F32), offset};
  }

  Numbers read(lethe_ref ref, int64_t n) const { return operands_.read(ref, n, c_.dtype); }

  void dequantise_parts() {
    for (const Part &p : parts_) {
      const auto to = weight_ + static_cast<uint64_t>(p.rows.first * c_.in * element_bytes(c_.dtype));
      expect(lethe_nf4_dequantize(engine_, c_.dtype, p.rows.count * c_.in, c_.block, p.packed, p.absmax, p.nested,
                                  c_.nested ? map_ : 0, p.nested_absmax, p.offset, to) == LETHE_OK,
             "dequantize");
    }
  }

  // The magnitudes that a row's adapters add.
  void add_adapters(int64_t t, int64_t R, const Numbers &u, const Numbers &du, Numbers *y, Numbers *dx) const {
    for (size_t p = 0; p < a_.size(); ++p) {
      const Rows &rows = c_.parts[p];
      const Numbers a = read(a_[p], c_.rank * c_.in), b = read(b_[p], rows.count * c_.rank);
      for (int64_t r = 0; r < c_.rank; ++r) {
        const size_t column = at(t * R + static_cast<int64_t>(p) * c_.rank + r);
        for (int64_t o = 0; o < rows.count; ++o) {
          (*y)[at(t * c_.out + rows.first + o)] += std::fabs(u[column] * b[at(o * c_.rank + r)]);
        }
        for (int64_t i = 0; i < c_.in; ++i) (*dx)[at(t * c_.in + i)] += std::fabs(du[column] * a[at(r * c_.in + i)]);
      }
    }
  }

  void attach() {
    for (size_t i = 0; i < a_.size(); ++i) {
      expect(lethe_linear_adapter(engine_, linear_, c_.parts[i].first, c_.parts[i].count, c_.rank, 2.0f, c_.dropout, i,
                                  a_[i], b_[i], da_[i], db_[i]) == LETHE_OK,
             "adapter");
    }
  }
  lethe_ref keys() const { return c_.dropout > 0 ? keys_ : 0; }

  lethe_engine *engine_;
  Case c_;
  Operands operands_;
  Generator g_;
  std::vector<Part> parts_;
  lethe_ref map_, scratch_, weight_, laid_out_, rows_, bias_, x_, residual_, dy_, keys_, y_, u_, du_, dx_;
  std::vector<lethe_ref> a_, b_, da_, db_;
  lethe_linear linear_ = 0;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const bool nested : {false, true}) {
      for (const int64_t T : {0, 1, 33}) {
        all.push_back({dtype, nested, T, 96, 64, {{0, 48}, {48, 16}, {64, 32}}, 4, 0, T == 1, true});
        all.push_back({dtype, nested, T, 96, 64, {{0, 96}}, 8, 0.3f, true, false});
        all.push_back({dtype, nested, T, 40, 192, {{0, 8}, {8, 32}}, 0, 0, false, T == 33});
      }
      // More than 256 blocks a part, other blocks, and parts whose codes do not fill their last block.
      all.push_back({dtype, nested, 7, 160, 256, {{0, 130}, {130, 30}}, 4, 0, false, false});
      all.push_back({dtype, nested, 7, 70, 33, {{0, 3}, {3, 67}}, 4, 0.1f, true, true, 32});
      all.push_back({dtype, nested, 7, 66, 128, {{0, 33}, {33, 33}}, 4, 0, true, true, 1024});
    }
  }
  return all;
}

void codes_give_the_bits_of_the_dequantised_weight(lethe_engine *engine, const Case &c, uint64_t seed) {
  const std::string name = name_of(c);
  Layer plain(engine, c, seed), codes(engine, c, seed), shares(engine, c, seed), other(engine, c, seed + 1);
  plain.dequantise();
  codes.keep_codes(0);
  shares.keep_codes(codes.scratch());
  other.keep_codes(codes.scratch());
  for (Layer *layer : {&plain, &codes, &shares, &other}) expect(layer->forward() == LETHE_OK, name + " forward");
  for (Layer *layer : {&plain, &codes, &shares, &other}) expect(layer->backward(true) == LETHE_OK, name + " backward");
  const std::vector<uint8_t> want = plain.written();
  expect(codes.written() == want, name);
  expect(shares.written() == want, name + " in scratch that others write");
  expect(c.T == 0 || other.written() != want, name + " other numbers");
  expect(codes.intact() && shares.intact(), name + " writes nothing else");
}

// With room for their adapters beside the rows, below them, or both; more than 16 bytes aligned, or not at all.
void with_room(lethe_engine *engine) {
  const auto room = [](Case c, int64_t columns, int64_t rows) {
    c.spare_columns = columns;
    c.spare_rows = rows;
    return c;
  };
  uint64_t seed = 1000;
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const bool nested : {false, true}) {
      const Case parts = {dtype, nested, 33, 96, 64, {{0, 48}, {48, 16}, {64, 32}}, 4, 0, true, true};
      const Case ragged = {dtype, nested, 7, 70, 33, {{0, 3}, {3, 67}}, 4, 0, true, true, 32};
      // Rows of fewer numbers than a thread has, two of which begin in one.
      const Case narrow = {dtype, nested, 7, 70, 3, {{0, 30}, {30, 40}}, 4, 0, false, true, 32};
      const Case drops = {dtype, nested, 7, 40, 192, {{0, 8}, {8, 32}}, 4, 0.3f, false, false};
      for (const Case &c : {room(parts, 16, 0), room(parts, 0, 16), room(parts, 16, 16), room(parts, 13, 12),
                            room(ragged, 16, 0), room(ragged, 15, 8), room(narrow, 16, 8), room(drops, 16, 16)}) {
        codes_give_the_bits_of_the_dequantised_weight(engine, c, seed += 2);
      }
    }
  }
}

// Codes with room beside codes without: the same products but for their rounding.
void room_changes_only_rounding(lethe_engine *engine) {
  const Case packed = {LETHE_F32, true, 33, 96, 64, {{0, 48}, {48, 16}, {64, 32}}, 4, 0, true, true};
  Case wide = packed;
  wide.spare_columns = 16;
  wide.spare_rows = 16;
  Layer one(engine, packed, 5000), other(engine, wide, 5000);
  for (Layer *layer : {&one, &other}) {
    layer->keep_codes(0);
    expect(layer->forward() == LETHE_OK && layer->backward(true) == LETHE_OK, "both forms");
  }
  expect_close(other.outputs(), one.outputs(), one.bounds(), "y and dx in both forms");
  expect(other.outputs() != one.outputs(), "two forms");
}

void refused(int status, int want, const char *what) {
  expect(status == want && std::strstr(lethe_error_trace(), what) != nullptr, what);
}

// Whether the backend has a use for room.
bool misuse(lethe_engine *engine) {
  Operands operands(engine, 1 << 16);
  const lethe_ref scratch = operands.add(Numbers(8 * 64), LETHE_F32), packed = operands.add(std::vector<uint8_t>(256));
  const lethe_ref absmax = operands.add(Numbers(8), LETHE_F32), x = operands.add(Numbers(64), LETHE_F32);
  const lethe_ref y = operands.add(Numbers(8), LETHE_F32), dx = operands.add(Numbers(64), LETHE_F32);
  expect(operands.upload(), "upload");
  lethe_linear linear = 0, plain = 0;
  const auto create = [&](int64_t block, lethe_ref to) {
    return lethe_linear_create_nf4(engine, LETHE_F32, 8, 64, block, to, 0, &linear);
  };
  refused(create(48, scratch), LETHE_INVALID_ARGUMENT, "block must");
  refused(create(64, 0), LETHE_INVALID_ARGUMENT, "scratch is none");
  refused(lethe_linear_create_nf4(engine, LETHE_F32, 1 << 12, 64, 64, scratch, 0, &linear), LETHE_OUT_OF_BOUNDS,
          "scratch needs");
  refused(lethe_linear_create_nf4(engine, LETHE_F32, 8, 64, 64, scratch, 0, nullptr), LETHE_INVALID_ARGUMENT,
          "linear must not be null");
  expect(create(64, scratch) == LETHE_OK, "create");
  const auto part = [&](lethe_linear of, int64_t first, int64_t count, lethe_ref codes) {
    return lethe_linear_nf4_part(engine, of, first, count, codes, absmax, 0, 0, 0, 0);
  };
  expect(lethe_linear_create(engine, LETHE_F32, 8, 64, scratch, 0, 0, 0, &plain) == LETHE_OK, "create");
  refused(part(plain, 0, 8, packed), LETHE_INVALID_ARGUMENT, "this linear's weight is plain");
  refused(part(linear, 0, 9, packed), LETHE_OUT_OF_BOUNDS, "leave the weight's 8");
  refused(part(linear, 9, INT64_MAX, packed), LETHE_OUT_OF_BOUNDS, "leave the weight's 8");
  refused(part(linear, -1, 2, packed), LETHE_INVALID_ARGUMENT, "first_out is -1");
  refused(part(linear, 0, 0, packed), LETHE_INVALID_ARGUMENT, "part_out is 0");
  refused(part(linear, 0, 8, scratch), LETHE_OVERLAP, "packed and scratch");
  refused(part(linear, 0, 8, 0), LETHE_INVALID_ARGUMENT, "packed is none");
  refused(part(linear + 9, 0, 8, packed), LETHE_CLOSED, "the linear was closed");
  const auto forward = [&](lethe_ref to) { return lethe_linear_forward(engine, linear, 1, 0, x, 0, to, 0, 0); };
  refused(forward(y), LETHE_INVALID_ARGUMENT, "only 0 of the weight's 8 rows");
  expect(part(linear, 0, 5, packed) == LETHE_OK, "part");
  refused(part(linear, 4, 4, packed), LETHE_OVERLAP, "are those of another part");
  refused(forward(y), LETHE_INVALID_ARGUMENT, "only 5 of the weight's 8 rows");
  refused(lethe_linear_backward(engine, linear, 1, x, 0, y, 0, 0, dx), LETHE_INVALID_ARGUMENT, "only 5 of the");
  expect(part(linear, 5, 3, packed) == LETHE_OK, "part");
  refused(forward(scratch), LETHE_OVERLAP, "scratch and y");
  refused(forward(packed), LETHE_OVERLAP, "packed and y");
  expect(forward(y) == LETHE_OK, "forward");
  expect(operands.intact({scratch, y}), "a refused call writes nothing");
  for (const lethe_linear made : {linear, plain}) expect(lethe_linear_close(engine, made) == LETHE_OK, "close");
  refused(forward(y), LETHE_CLOSED, "the linear was closed");
  const auto roomy = [&](int64_t stride, int64_t rows) {
    return lethe_linear_create_nf4_strided(engine, LETHE_F32, 6, 64, stride, rows, 64, scratch, 0, &linear);
  };
  refused(roomy(63, 0), LETHE_INVALID_ARGUMENT, "w_stride must be at least in");
  refused(roomy(64, -1), LETHE_INVALID_ARGUMENT, "spare_rows is -1");
  refused(roomy(64, 1 << 12), LETHE_OUT_OF_BOUNDS, "scratch needs");
  const int status = roomy(68, 1);
  if (status != LETHE_OK) {
    refused(status, LETHE_UNSUPPORTED, "create the linear packed");
    return false;
  }
  // The spare row is the call's, too.
  const auto inside = scratch + 4 * 6 * 68;
  expect(part(linear, 0, 6, packed) == LETHE_OK, "part");
  refused(forward(inside), LETHE_OVERLAP, "scratch and y");
  expect(lethe_linear_close(engine, linear) == LETHE_OK, "close");
  return true;
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("linear_nf4_test", argc, argv, [](lethe_engine *engine, const char *, const char *) {
    uint64_t seed = 0;
    for (const Case &c : cases()) codes_give_the_bits_of_the_dequantised_weight(engine, c, seed += 2);
    if (misuse(engine)) {
      with_room(engine);
      room_changes_only_rounding(engine);
    }
  });
}
