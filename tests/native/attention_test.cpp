// Attention through lethe.h against its twin, and the promises about bits.
#include <initializer_list>
#include <limits>

#include "attention_twin.h"
#include "kernel_test.h"

using namespace kernel_test;
using attention_twin::Bounded;
using attention_twin::Problem;
using attention_twin::Results;

namespace {

constexpr float kUntouched = 12345.0f;

struct Case {
  const char *name;
  Problem problem;
  bool one_buffer;  // q, k and v are slices of one matrix, as a fused projection leaves them
  float spread;     // of q and k
  float peak;       // when not 0: the first key's score for every query of head 0, above the others' by about this
};

Problem problem(int64_t heads, int64_t kv_heads, int64_t head_dim, std::vector<std::vector<int32_t>> segments,
                int64_t q_rows, int64_t k_rows) {
  return {
      heads,  kv_heads, head_dim, static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim))), std::move(segments),
      q_rows, k_rows};
}

Problem with(Problem p, int64_t window, double soft_cap) {
  p.window = window;
  p.soft_cap = soft_cap;
  return p;
}

// One query each, every second over the keys of the one before, the last first.
Problem many_segments(int32_t count) {
  std::vector<std::vector<int32_t>> segments;
  for (int32_t i = count - 1; i >= 0; --i) {
    segments.push_back({i, 1, 2 * i, 2, i % 2 == 0 ? 0 : 2 * i - 2, i % 2 == 0 ? 0 : 2});
  }
  return problem(2, 1, 8, segments, count, 2 * count);
}

std::vector<Case> cases() {
  return {
      {"one token", problem(1, 1, 8, {{0, 1, 0, 1, 0, 0}}, 1, 1), false, 1, 0},
      {"unequal segments with gaps",
       problem(2, 2, 64, {{1, 5, 1, 5, 0, 0}, {7, 33, 7, 33, 0, 0}, {40, 1, 40, 1, 0, 0}}, 43, 43), true, 2, 0},
      {"shared parents",
       problem(4, 2, 40, {{0, 19, 0, 19, 0, 0}, {19, 7, 19, 7, 0, 19}, {26, 22, 26, 22, 0, 19}, {50, 3, 50, 3, 4, 9}},
               54, 54),
       true, 2, 0},
      {"a chain of parents",
       problem(2, 1, 16, {{0, 6, 0, 6, 0, 0}, {6, 6, 6, 6, 0, 6}, {12, 6, 12, 6, 6, 6}, {20, 4, 20, 4, 0, 0}}, 24, 24),
       false, 2, 0},
      {"parent that is its own keys", problem(2, 1, 8, {{0, 9, 0, 9, 2, 4}}, 9, 9), false, 2, 0},
      {"parents without queries", problem(2, 2, 32, {{0, 3, 20, 3, 0, 18}, {3, 4, 23, 4, 0, 18}}, 7, 30), false, 2, 0},
      {"grouped 4:1", problem(4, 1, 64, {{0, 31, 0, 31, 0, 0}, {31, 65, 31, 65, 0, 0}}, 96, 96), true, 2, 0},
      {"grouped 6:2, one query", problem(6, 2, 64, {{0, 1, 0, 1, 0, 0}, {1, 1, 5, 1, 0, 0}}, 2, 7), false, 2, 0},
      {"head_dim 128", problem(2, 1, 128, {{0, 50, 0, 50, 0, 0}}, 50, 50), true, 2, 0},
      {"head_dim 1", problem(2, 1, 1, {{0, 20, 0, 20, 0, 0}}, 20, 20), false, 2, 0},
      {"several tiles", problem(2, 1, 40, {{0, 150, 0, 150, 0, 0}, {150, 131, 150, 131, 3, 140}}, 281, 281), true, 2,
       0},
      {"decode", problem(4, 2, 64, {{0, 1, 0, 300, 0, 0}, {1, 1, 300, 17, 0, 0}, {2, 1, 320, 40, 0, 129}}, 3, 360),
       false, 2, 0},
      {"some queries, more keys", problem(2, 1, 64, {{0, 10, 0, 137, 0, 0}, {10, 3, 140, 20, 2, 130}}, 13, 160), false,
       2, 0},
      {"peaked", problem(2, 1, 64, {{0, 140, 0, 140, 0, 0}}, 140, 140), true, 0.5f, 80},
      {"peaked from below", problem(2, 1, 64, {{0, 140, 0, 140, 0, 0}}, 140, 140), true, 0.5f, -80},
      {"large scores", problem(2, 2, 64, {{0, 60, 0, 60, 0, 0}}, 60, 60), false, 30, 0},
      {"window 1", with(problem(2, 1, 16, {{0, 20, 0, 20, 0, 0}}, 20, 20), 1, 0), true, 2, 0},
      {"window of one tile and one",
       with(problem(2, 1, 40, {{0, 150, 0, 150, 0, 0}, {150, 131, 150, 131, 3, 140}}, 281, 281), 129, 0), true, 2, 0},
      {"window over a parent's end", with(problem(4, 2, 24, {{0, 9, 0, 9, 0, 0}, {9, 30, 9, 30, 0, 9}}, 39, 39), 11, 0),
       true, 2, 0},
      {"small window, many tiles", with(problem(4, 1, 64, {{0, 420, 0, 420, 0, 0}}, 420, 420), 37, 0), true, 2, 0},
      {"window as long as the keys", with(problem(2, 1, 16, {{0, 33, 0, 33, 0, 0}}, 33, 33), 33, 0), true, 2, 0},
      {"decode in a window",
       with(problem(4, 2, 64, {{0, 1, 0, 300, 0, 0}, {1, 1, 300, 17, 0, 0}, {2, 1, 320, 40, 0, 129}}, 3, 360), 45, 0),
       false, 2, 0},
      {"some queries in a window", with(problem(2, 1, 64, {{0, 10, 0, 337, 0, 0}}, 10, 337), 150, 0), false, 2, 0},
      {"soft cap", with(problem(4, 2, 40, {{0, 150, 0, 150, 0, 0}, {150, 7, 150, 7, 3, 140}}, 157, 157), 0, 20), true,
       4, 0},
      {"soft cap that saturates", with(problem(2, 2, 64, {{0, 60, 0, 60, 0, 0}}, 60, 60), 0, 5), false, 30, 0},
      {"soft cap in a window", with(problem(4, 1, 64, {{0, 260, 0, 260, 0, 0}}, 260, 260), 70, 50), true, 6, 0},
      {"decode under a soft cap",
       with(problem(4, 2, 64, {{0, 1, 0, 300, 0, 0}, {1, 1, 320, 40, 0, 129}}, 2, 360), 100, 10), false, 6, 0},
      // Every size the CUDA kernels are made for, and sizes between them; no row or start on 16 bytes in some.
      {"head_dim 16, grouped 8:1", problem(8, 1, 16, {{1, 30, 1, 30, 0, 0}}, 33, 40), false, 2, 0},
      {"head_dim 48, grouped 3:1", problem(3, 1, 48, {{0, 50, 0, 70, 0, 0}}, 50, 70), true, 2, 0},
      {"head_dim 80", with(problem(2, 1, 80, {{0, 70, 0, 70, 0, 0}, {70, 20, 70, 20, 5, 60}}, 90, 90), 50, 0), true, 2,
       0},
      {"head_dim 96", problem(2, 2, 96, {{0, 70, 0, 90, 0, 0}}, 70, 90), true, 2, 0},
      {"head_dim 97", problem(2, 1, 97, {{0, 40, 0, 40, 0, 0}}, 40, 40), false, 2, 0},
      {"head_dim 128, several tiles",
       with(problem(2, 1, 128, {{0, 80, 0, 80, 0, 0}, {80, 40, 80, 40, 0, 80}}, 120, 120), 0, 30), true, 2, 0},
      {"head_dim 200", problem(2, 1, 200, {{2, 35, 1, 40, 0, 0}}, 37, 43), false, 2, 0},
      {"head_dim 256", problem(2, 1, 256, {{0, 40, 0, 40, 0, 0}, {40, 30, 40, 30, 3, 37}}, 72, 72), true, 2, 0},
      {"head_dim 260", problem(2, 1, 260, {{0, 20, 0, 70, 0, 0}}, 20, 70), false, 2, 0},
      {"decode in rounds", problem(4, 1, 64, {{0, 1, 0, 1100, 0, 0}, {1, 3, 1100, 20, 0, 600}}, 4, 1120), false, 2, 0},
      {"decode in rounds beside a longer segment",
       with(problem(2, 1, 128, {{0, 1, 0, 700, 0, 0}, {1, 40, 700, 40, 0, 0}, {45, 7, 740, 9, 1, 650}}, 52, 749), 640,
            20),
       true, 2, 0},
      {"decode, head_dim 96", problem(3, 1, 96, {{0, 5, 0, 80, 0, 0}}, 5, 80), true, 2, 0},
      {"decode, head_dim 256", problem(2, 2, 256, {{0, 2, 0, 90, 0, 0}, {2, 1, 90, 600, 0, 0}}, 3, 690), false, 2, 0},
      {"many segments out of order", many_segments(150), true, 2, 0},
      {"no segments", problem(2, 1, 64, {}, 5, 6), true, 1, 0},
      {"no rows", problem(2, 1, 64, {}, 0, 0), false, 1, 0},
      {"an empty segment", problem(2, 1, 64, {{3, 0, 2, 2, 0, 0}, {0, 2, 0, 2, 0, 0}, {1, 0, 0, 0, 0, 0}}, 4, 4), false,
       1, 0},
  };
}

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
constexpr int32_t kPlaceRows[] = {1, 29};
constexpr int64_t kLargest = 1500000, kLargestTwice = 100000;
#else
constexpr int32_t kPlaceRows[] = {1, 2, 29, 150};
constexpr int64_t kLargest = INT64_MAX, kLargestTwice = 4000000;
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
        if (size_of(c.problem) <= kLargest) one_case(engine, backend, dtype, c);
      }
      for (const int32_t rows : kPlaceRows) {
        for (const int64_t window : {0, 17}) place_does_not_matter(engine, backend, dtype, rows, window);
      }
      an_idle_window_changes_nothing(engine, backend, dtype);
      hidden_keys_do_not_matter(engine, backend, dtype);
    }
    bad_tables(engine, backend);
    where_tables_are_bad(engine, backend);
  });
  return finish("attention_test");
}
