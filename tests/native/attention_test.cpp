// Attention through lethe.h against its twin, and the promises about bits.
#include <initializer_list>
#include <limits>
#include <tuple>

#include "attention_cases.h"
#include "attention_twin.h"
#include "kernel_test.h"

using namespace kernel_test;
using attention_twin::Bounded;
using attention_twin::Case;
using attention_twin::cases;
using attention_twin::Problem;
using attention_twin::problem;
using attention_twin::Results;
using attention_twin::with;

namespace {

constexpr float kUntouched = 12345.0f;

// The strides and places of q, k and v (and of their gradients) in their buffers.
struct Layout {
  int64_t q_stride, k_stride, v_stride, k_begin, v_begin;
  int64_t q_elements, kv_elements;  // kv_elements 0: all in q's buffer
  static Layout of(const Problem &p, bool one_buffer) {
    const int64_t wide = p.heads * p.head_dim, narrow = p.kv_heads * p.head_dim;
    if (one_buffer) {
      const int64_t row = wide + 2 * narrow;
      return {row, row, row, wide, wide + narrow, std::max(p.q_rows, p.k_rows) * row, 0};
    }
    const int64_t q_stride = wide + 3, k_stride = narrow + 5, v_stride = narrow;
    return {
        q_stride, k_stride, v_stride, 0, p.k_rows * k_stride, p.q_rows * q_stride, p.k_rows * (k_stride + v_stride)};
  }
};

struct Inputs {
  std::vector<float> q, k, v, dout;  // packed
};

Inputs draw(const Case &c, int32_t dtype, uint64_t seed) {
  Random random(seed);
  const Problem &p = c.problem;
  Inputs in = {random.many(p.q_size(), c.spread, dtype), random.many(p.k_size(), c.spread, dtype),
               random.many(p.k_size(), 1.0f, dtype), random.many(p.q_size(), 1.0f, dtype)};
  if (c.peak != 0 && p.k_rows > 0) {
    for (int64_t row = 0; row < p.q_rows; ++row) in.q[p.q_at(row, 0)] = 1.0f;
    in.k[0] = rounded(dtype, c.peak / static_cast<float>(p.scale));
  }
  return in;
}

struct Outputs {
  std::vector<float> out, lse, dq, dk, dv;
  bool operator==(const Outputs &o) const {
    return same_bits(out, o.out) && same_bits(lse, o.lse) && same_bits(dq, o.dq) && same_bits(dk, o.dk) &&
           same_bits(dv, o.dv);
  }
};

void spread_rows(const std::vector<float> &packed, int64_t rows, int64_t stride, int64_t begin,
                 std::vector<float> *to) {
  const int64_t width = rows == 0 ? 0 : static_cast<int64_t>(packed.size()) / rows;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      (*to)[static_cast<size_t>(begin + r * stride + c)] = packed[static_cast<size_t>(r * width + c)];
    }
  }
}

// Takes the rows out and marks them as accounted for.
std::vector<float> take_rows(std::vector<float> *from, int64_t rows, int64_t width, int64_t stride, int64_t begin,
                             float mark) {
  std::vector<float> packed;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) {
      float &x = (*from)[static_cast<size_t>(begin + r * stride + c)];
      packed.push_back(x);
      x = mark;
    }
  }
  return packed;
}

std::vector<float> table_of(const Problem &p) {
  std::vector<float> table;
  for (const auto &segment : p.segments) table.insert(table.end(), segment.begin(), segment.end());
  return table;
}

Outputs compute(lethe_engine *engine, const std::string &where, int32_t dtype, const Problem &p, bool one_buffer,
                const Inputs &in) {
  const Layout l = Layout::of(p, one_buffer);
  const float mark = rounded(dtype, kUntouched);
  std::vector<float> first(static_cast<size_t>(l.q_elements), std::numeric_limits<float>::quiet_NaN());
  std::vector<float> second(static_cast<size_t>(l.kv_elements), std::numeric_limits<float>::quiet_NaN());
  std::vector<float> *kv = one_buffer ? &first : &second;
  spread_rows(in.q, p.q_rows, l.q_stride, 0, &first);
  spread_rows(in.k, p.k_rows, l.k_stride, l.k_begin, kv);
  spread_rows(in.v, p.k_rows, l.v_stride, l.v_begin, kv);
  const Buffer q(engine, dtype, first), other(engine, dtype, second), table(engine, LETHE_I32, table_of(p));
  const Buffer out(engine, dtype, std::vector<float>(in.q.size(), mark)), dout(engine, dtype, in.dout);
  const Buffer lse(engine, LETHE_F32, std::vector<float>(static_cast<size_t>(p.q_rows * p.heads), mark));
  const Buffer dq(engine, dtype, std::vector<float>(first.size(), mark));
  const Buffer dother(engine, dtype, std::vector<float>(second.size(), mark));
  const Buffer &k = one_buffer ? q : other, &dk = one_buffer ? dq : dother;
  const auto count = static_cast<int64_t>(p.segments.size());
  expect(lethe_attention_forward(engine, dtype, p.heads, p.kv_heads, p.head_dim, static_cast<float>(p.scale), p.window,
                                 static_cast<float>(p.soft_cap), count, table.ref(), p.q_rows, q.ref(), l.q_stride,
                                 p.k_rows, k.ref(l.k_begin), l.k_stride, k.ref(l.v_begin), l.v_stride, out.ref(),
                                 lse.ref()) == LETHE_OK,
         where + " forward");
  expect(lethe_attention_backward(engine, dtype, p.heads, p.kv_heads, p.head_dim, static_cast<float>(p.scale), p.window,
                                  static_cast<float>(p.soft_cap), count, table.ref(), p.q_rows, q.ref(), l.q_stride,
                                  p.k_rows, k.ref(l.k_begin), l.k_stride, k.ref(l.v_begin), l.v_stride, out.ref(),
                                  lse.ref(), dout.ref(), dq.ref(), dk.ref(l.k_begin), dk.ref(l.v_begin)) == LETHE_OK,
         where + " backward");
  Outputs o;
  o.out = out.read();
  o.lse = lse.read();
  std::vector<float> gradients = dq.read(), others = dother.read();
  std::vector<float> *kv_gradients = one_buffer ? &gradients : &others;
  const int64_t narrow = p.kv_heads * p.head_dim;
  o.dq = take_rows(&gradients, p.q_rows, p.heads * p.head_dim, l.q_stride, 0, mark);
  o.dk = take_rows(kv_gradients, p.k_rows, narrow, l.k_stride, l.k_begin, mark);
  o.dv = take_rows(kv_gradients, p.k_rows, narrow, l.v_stride, l.v_begin, mark);
  bool kept = true;
  for (const std::vector<float> *rest : {&gradients, &others}) {
    for (const float x : *rest) kept = kept && x == mark;
  }
  expect(kept, where + " leaves what lies between rows alone");
  return o;
}

void compare(const std::string &what, const std::vector<float> &got, const Bounded &want) {
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::fabs(got[i] - want.value[i]);
    const bool close = error <= want.bound[i] + 1e-36;
    expect(close, close ? what
                        : what + "[" + std::to_string(i) + "]: " + std::to_string(got[i]) + " is not " +
                              std::to_string(want.value[i]) + ", off by " + std::to_string(error / want.bound[i]) +
                              " of its bound");
  }
}

std::vector<double> widened(const std::vector<float> &x) { return {x.begin(), x.end()}; }

// What a sanitizer has no time for; smaller cases take the same ways.
int64_t size_of(const Problem &p) { return p.q_rows * p.k_rows * p.heads * p.head_dim; }
#if defined(LETHE_SMALL)
constexpr int32_t kPlaceRows[] = {1, 29}, kShared = 16;
constexpr int64_t kLargest = 1500000, kLargestPlain = 600000, kLargestTwice = 100000;
#else
constexpr int32_t kPlaceRows[] = {1, 2, 29, 150}, kShared = 131;
constexpr int64_t kLargest = INT64_MAX, kLargestPlain = INT64_MAX, kLargestTwice = 4000000;
#endif

// What the CUDA backend does with them.
bool on_tensor_cores(const std::string &backend, int32_t dtype, const Problem &p) {
  return backend.rfind("cuda", 0) == 0 && dtype == LETHE_BF16 && p.head_dim <= 256;
}

void one_case(lethe_engine *engine, const std::string &backend, int32_t dtype, const Case &c) {
  const std::string where = backend + (dtype == LETHE_BF16 ? " bf16 " : " fp32 ") + c.name;
  const Problem &p = c.problem;
  const Inputs in = draw(c, dtype, 7);
  const Outputs got = compute(engine, where, dtype, p, c.one_buffer, in);
  if (backend != "cuda_shim" || size_of(p) <= kLargestTwice) {
    expect(compute(engine, where, dtype, p, c.one_buffer, in) == got, where + " twice");
  }
  Results want = attention_twin::solve(p, widened(in.q), widened(in.k), widened(in.v), widened(in.dout),
                                       storage_unit(dtype), on_tensor_cores(backend, dtype, p));
  // Query rows of no segment stay as they were.
  const int64_t width = p.heads * p.head_dim;
  for (int64_t row = 0; row < p.q_rows; ++row) {
    if (want.query_used[static_cast<size_t>(row)]) continue;
    const float mark = rounded(dtype, kUntouched);
    for (int64_t i = row * width; i < (row + 1) * width; ++i) want.out.value[static_cast<size_t>(i)] = mark;
    for (int64_t i = row * p.heads; i < (row + 1) * p.heads; ++i) want.lse.value[static_cast<size_t>(i)] = mark;
  }
  compare(where + " out", got.out, want.out);
  compare(where + " lse", got.lse, want.lse);
  compare(where + " dq", got.dq, want.dq);
  compare(where + " dk", got.dk, want.dk);
  compare(where + " dv", got.dv, want.dv);
}

std::vector<float> part(const std::vector<float> &x, int64_t begin, int64_t rows, int64_t width) {
  return {x.begin() + begin * width, x.begin() + (begin + rows) * width};
}

// A window that hides nothing, and a cap of 0: the bits of a call without.
void an_idle_window_changes_nothing(lethe_engine *engine, const std::string &backend, int32_t dtype) {
  const Case c = {"", problem(4, 2, 40, {{0, 150, 0, 150, 0, 0}, {150, 1, 150, 1, 0, 150}}, 151, 151), true, 2, 0};
  const Inputs in = draw(c, dtype, 8);
  expect(compute(engine, backend, dtype, c.problem, true, in) ==
             compute(engine, backend, dtype, with(c.problem, 151, 0), true, in),
         backend + " an idle window changes nothing");
}

// What a window hides may be anything.
void hidden_keys_do_not_matter(lethe_engine *engine, const std::string &backend, int32_t dtype) {
  const Case c = {"", with(problem(2, 1, 16, {{0, 10, 0, 300, 0, 0}}, 10, 300), 20, 0), false, 2, 0};
  Inputs in = draw(c, dtype, 9);
  const Outputs before = compute(engine, backend, dtype, c.problem, false, in);
  for (size_t i = 0; i < 271 * 16; ++i) {
    in.k[i] = rounded(dtype, 30.0f);
    in.v[i] = rounded(dtype, -40.0f);
  }
  expect(compute(engine, backend, dtype, c.problem, false, in) == before, backend + " hidden keys do not matter");
}

// One segment alone, and the same numbers between other segments: the same bits.
void place_does_not_matter(lethe_engine *engine, const std::string &backend, int32_t dtype, int32_t rows,
                           int64_t window) {
  const std::string where = backend + " place, " + std::to_string(rows) + " rows";
  const int32_t before = 37, after = 11, all = before + rows + after;
  const Case alone = {"", with(problem(4, 2, 40, {{0, rows, 0, rows, 0, 0}}, rows, rows), window, 0), false, 2, 0};
  const Case among = {"",
                      with(problem(4, 2, 40,
                                   {{before + rows, after, before + rows, after, 0, 0},
                                    {0, before, 0, before, 0, 0},
                                    {before, rows, before, rows, 0, 0}},
                                   all, all),
                           window, 0),
                      true, 3, 0};
  const Inputs in = draw(alone, dtype, 5);
  Inputs larger = draw(among, dtype, 6);
  const int64_t wide = 4 * 40, narrow = 2 * 40;
  std::copy(in.q.begin(), in.q.end(), larger.q.begin() + before * wide);
  std::copy(in.dout.begin(), in.dout.end(), larger.dout.begin() + before * wide);
  std::copy(in.k.begin(), in.k.end(), larger.k.begin() + before * narrow);
  std::copy(in.v.begin(), in.v.end(), larger.v.begin() + before * narrow);
  const Outputs a = compute(engine, where, dtype, alone.problem, alone.one_buffer, in);
  const Outputs b = compute(engine, where, dtype, among.problem, among.one_buffer, larger);
  expect(same_bits(a.out, part(b.out, before, rows, wide)), where + " out");
  expect(same_bits(a.lse, part(b.lse, before, rows, 4)), where + " lse");
  expect(same_bits(a.dq, part(b.dq, before, rows, wide)), where + " dq");
  expect(same_bits(a.dk, part(b.dk, before, rows, narrow)), where + " dk");
  expect(same_bits(a.dv, part(b.dv, before, rows, narrow)), where + " dv");
}

// A short segment behind a long one whose keys are in the call, and the same with a row of keys more than queries: the
// same bits, whatever memory there is for what keys in rounds find.
void rows_of_others_do_not_matter(lethe_engine *engine, const std::string &backend, int32_t dtype) {
  const std::string where = backend + " a short segment beside a row of keys";
  const std::vector<std::vector<int32_t>> segments = {{0, 520, 0, 520, 0, 0}, {520, 2, 520, 2, 0, 515}};
  const Case as_many = {"", problem(1, 1, 4, segments, 522, 522), false, 2, 0};
  const Case more = {"", problem(1, 1, 4, segments, 522, 523), false, 2, 0};
  const Inputs in = draw(as_many, dtype, 11);
  Inputs longer = in;
  longer.k.resize(static_cast<size_t>(more.problem.k_size()), 1.0f);
  longer.v.resize(static_cast<size_t>(more.problem.k_size()), 1.0f);
  const Outputs a = compute(engine, where, dtype, as_many.problem, false, in);
  const Outputs b = compute(engine, where, dtype, more.problem, false, longer);
  expect(same_bits(a.out, b.out) && same_bits(a.lse, b.lse) && same_bits(a.dq, b.dq), where);
}

// The rows [from, from + rows) of packed numbers, `width` each, at `to`.
void copy_rows(const std::vector<float> &x, int64_t from, int64_t rows, int64_t width, int64_t to,
               std::vector<float> *y) {
  std::copy_n(x.begin() + from * width, rows * width, y->begin() + to * width);
}

// Two sequences that begin alike: each whole, and the second behind the first's beginning. The second's own rows come
// to the same bits either way, and the beginning's keys to the sum of both gradients.
void a_shared_beginning(lethe_engine *engine, const std::string &backend, int32_t dtype, int32_t shared, int32_t own,
                        int64_t window) {
  const std::string where =
      backend + (dtype == LETHE_BF16 ? " bf16 " : " fp32 ") + std::to_string(own) + " behind " + std::to_string(shared);
  const int32_t first = shared + 37, second = shared + own, all = first + second;
  const int64_t wide = 4 * 40, narrow = 2 * 40;
  const Case whole = {
      "",
      with(problem(4, 2, 40, {{0, first, 0, first, 0, 0}, {first, second, first, second, 0, 0}}, all, all), window, 0),
      true, 2, 0};
  const Case behind = {"",
                       with(problem(4, 2, 40, {{0, first, 0, first, 0, 0}, {first, own, first, own, 0, shared}},
                                    first + own, first + own),
                            window, 0),
                       true, 2, 0};
  Inputs in = draw(whole, dtype, 10);
  copy_rows(in.q, 0, shared, wide, first, &in.q);
  copy_rows(in.k, 0, shared, narrow, first, &in.k);
  copy_rows(in.v, 0, shared, narrow, first, &in.v);
  std::fill_n(in.dout.begin() + first * wide, shared * wide, 0.0f);
  Inputs less = draw(behind, dtype, 10);
  for (const auto &[from, to, width] : {std::tuple(&in.q, &less.q, wide), std::tuple(&in.k, &less.k, narrow),
                                        std::tuple(&in.v, &less.v, narrow), std::tuple(&in.dout, &less.dout, wide)}) {
    copy_rows(*from, 0, first, width, 0, to);
    copy_rows(*from, first + shared, own, width, first, to);
  }
  const Outputs a = compute(engine, where, dtype, whole.problem, true, in);
  const Outputs b = compute(engine, where, dtype, behind.problem, true, less);
  const int64_t begins = first + shared;
  expect(same_bits(part(a.out, begins, own, wide), part(b.out, first, own, wide)), where + " out");
  expect(same_bits(part(a.lse, begins, own, 4), part(b.lse, first, own, 4)), where + " lse");
  expect(same_bits(part(a.dq, begins, own, wide), part(b.dq, first, own, wide)), where + " dq");
  expect(same_bits(part(a.out, 0, first, wide), part(b.out, 0, first, wide)), where + " out of the first");
  // Either way a number is rounded once to storage, after sums in fp32 of less than 2^8 terms a sequence.
  const double unit = storage_unit(dtype) + 512 * storage_unit(LETHE_F32);
  for (const auto &[apart, together, what] : {std::tuple(&a.dk, &b.dk, " dk"), std::tuple(&a.dv, &b.dv, " dv")}) {
    for (size_t i = 0; i < static_cast<size_t>(shared * narrow); ++i) {
      const double one = (*apart)[i], two = (*apart)[i + static_cast<size_t>(first * narrow)], sum = (*together)[i];
      const double scale = std::fabs(one) + std::fabs(two) + std::fabs(sum) + 1;
      expect(std::fabs(one + two - sum) <= unit * scale, where + what + " of the beginning");
    }
  }
}

void bad_tables(lethe_engine *engine, const std::string &backend) {
  const struct {
    const char *what;
    std::vector<int32_t> segment;
    int status;
    const char *trace;
  } bad[] = {
      {"queries past the end", {6, 5, 0, 5, 0, 0}, LETHE_OUT_OF_BOUNDS, "segment 1: queries"},
      {"negative first query", {-1, 2, 0, 5, 0, 0}, LETHE_OUT_OF_BOUNDS, "segment 1: queries"},
      {"negative count", {4, -2, 0, 5, 0, 0}, LETHE_OUT_OF_BOUNDS, "segment 1: queries"},
      {"own keys past the end", {4, 2, 9, 2, 0, 0}, LETHE_OUT_OF_BOUNDS, "segment 1: own keys"},
      {"sum overflows 32 bits", {4, 2, 4, 2, INT32_MAX, INT32_MAX}, LETHE_OUT_OF_BOUNDS, "segment 1: parent keys"},
      {"parent past the end", {4, 2, 4, 2, 3, 8}, LETHE_OUT_OF_BOUNDS, "segment 1: parent keys"},
      {"more queries than keys", {4, 3, 4, 2, 0, 4}, LETHE_INVALID_ARGUMENT, "segment 1: 3 queries"},
      {"a query row twice", {3, 3, 3, 3, 0, 0}, LETHE_OVERLAP, "segments 0 and 1"},
  };
  for (const auto &b : bad) {
    const Buffer rows(engine, LETHE_F32, std::vector<float>(10 * 8, 1.0f));
    const std::vector<float> marked(10 * 8, kUntouched);
    const Buffer out(engine, LETHE_F32, marked), lse(engine, LETHE_F32, std::vector<float>(10));
    const Buffer dq(engine, LETHE_F32, marked), dk(engine, LETHE_F32, marked), dv(engine, LETHE_F32, marked);
    // int32 beyond 2^24 does not pass through a float.
    std::vector<int32_t> table = {0, 4, 0, 4, 0, 0};
    table.insert(table.end(), b.segment.begin(), b.segment.end());
    lethe_ref segments = 0;
    expect(lethe_buffer_alloc(engine, 48, &segments) == LETHE_OK, "alloc");
    expect(lethe_write(engine, segments, table.data(), 48) == LETHE_OK, "write");
    expect(
        settled(engine, lethe_attention_forward(engine, LETHE_F32, 1, 1, 8, 1.0f, 0, 0, 2, segments, 10, rows.ref(), 8,
                                                10, rows.ref(), 8, rows.ref(), 8, out.ref(), lse.ref())) == b.status,
        backend + " forward, " + b.what);
    expect(std::strstr(lethe_error_trace(), b.trace) != nullptr, backend + " names the segment, " + b.what);
    expect(settled(engine, lethe_attention_backward(engine, LETHE_F32, 1, 1, 8, 1.0f, 0, 0, 2, segments, 10, rows.ref(),
                                                    8, 10, rows.ref(), 8, rows.ref(), 8, out.ref(), lse.ref(),
                                                    rows.ref(), dq.ref(), dk.ref(), dv.ref())) == b.status,
           backend + " backward, " + b.what);
    for (const Buffer *buffer : {&out, &dq, &dk, &dv}) {
      expect(same_bits(buffer->read(), marked), backend + " changed nothing, " + b.what);
    }
    lethe_buffer_free(engine, segments);
  }
}

// Which two of many segments are at fault, wherever they stand in the table, and in whole words what is wrong.
void where_tables_are_bad(lethe_engine *engine, const std::string &backend) {
  const struct {
    std::vector<std::vector<int32_t>> segments;
    int status;
    const char *trace;
  } bad[] = {
      {{{8, 2, 8, 2, 0, 0}, {0, 5, 0, 5, 0, 0}, {5, 0, 5, 0, 0, 0}, {4, 2, 4, 2, 0, 0}},
       LETHE_OVERLAP,
       "segments 1 and 3 share query rows"},
      {{{6, 3, 6, 3, 0, 0}, {2, 2, 2, 2, 0, 0}, {8, 1, 8, 1, 0, 0}, {3, 1, 3, 1, 0, 0}},
       LETHE_OVERLAP,
       "segments 1 and 3 share query rows"},
      {{{4, 2, 4, 2, 0, 0}, {4, 2, 4, 2, 0, 0}}, LETHE_OVERLAP, "segments 0 and 1 share query rows"},
      {{{0, 1, 0, 1, 0, 0}, {1, 1, 1, 1, 0, 0}, {2, -1, 2, 1, 0, 0}, {9, 9, 0, 0, 0, 0}},
       LETHE_OUT_OF_BOUNDS,
       "segment 2: queries are -1 rows from 2 of 10"},
      {{{0, 1, 0, 1, -3, 4}}, LETHE_OUT_OF_BOUNDS, "segment 0: parent keys are 4 rows from -3 of 10"},
      {{{0, 1, 10, 1, 0, 0}}, LETHE_OUT_OF_BOUNDS, "segment 0: own keys are 1 rows from 10 of 10"},
      {{{0, 2, 0, 1, 0, 9}}, LETHE_INVALID_ARGUMENT, "segment 0: 2 queries but only 1 own keys"},
  };
  const Buffer rows(engine, LETHE_F32, std::vector<float>(10 * 8, 1.0f));
  for (const auto &b : bad) {
    Problem p = problem(1, 1, 8, b.segments, 10, 10);
    const Buffer table(engine, LETHE_I32, table_of(p)), out(engine, LETHE_F32, std::vector<float>(10 * 8));
    const auto count = static_cast<int64_t>(b.segments.size());
    expect(settled(engine, lethe_attention_forward(engine, LETHE_F32, 1, 1, 8, 1.0f, 0, 0, count, table.ref(), 10,
                                                   rows.ref(), 8, 10, rows.ref(), 8, rows.ref(), 8, out.ref(), 0)) ==
               b.status,
           backend + " status, " + b.trace);
    expect(std::strstr(lethe_error_trace(), b.trace) != nullptr, backend + " says: " + b.trace);
  }
}

}  // namespace

int main(int argc, char **argv) {
  attention_twin::check_gradients(problem(2, 1, 3, {{0, 3, 0, 4, 0, 0}, {3, 2, 4, 2, 0, 3}}, 6, 7));
  attention_twin::check_gradients(with(problem(2, 1, 3, {{0, 3, 0, 4, 0, 0}, {3, 2, 4, 2, 0, 3}}, 6, 7), 2, 0.7));
  on_each_backend(argc, argv, 2, [](lethe_engine *engine, const std::string &backend) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const Case &c : cases()) {
        if (size_of(c.problem) <= (dtype == LETHE_BF16 ? kLargest : kLargestPlain)) one_case(engine, backend, dtype, c);
      }
      for (const int32_t rows : kPlaceRows) {
        for (const int64_t window : {0, 17}) place_does_not_matter(engine, backend, dtype, rows, window);
      }
      for (const int32_t own : kPlaceRows) {
        // Few queries decode, in another order.
        if (own == 1 || (own == 2 && backend.rfind("cuda", 0) == 0 && dtype == LETHE_BF16)) continue;
        for (const int64_t window : {0, 45})
          a_shared_beginning(engine, backend, dtype, own == 2 ? 16 : kShared, own, window);
      }
      an_idle_window_changes_nothing(engine, backend, dtype);
      hidden_keys_do_not_matter(engine, backend, dtype);
      rows_of_others_do_not_matter(engine, backend, dtype);
    }
    bad_tables(engine, backend);
    where_tables_are_bad(engine, backend);
  });
  return finish("attention_test");
}
