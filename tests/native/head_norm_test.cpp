// The head's gradient by source through the norm before it, against fp64 sums and the norm's twin.
#include "kernel_test.h"
#include "norm_twin.h"

using namespace kernel_test;
using namespace norm_twin;

namespace {

struct Case {
  int32_t kind;
  int64_t n, sources, d;
  float shift;
};

struct Data {
  std::vector<float> x, w, dh_rows, coefficient, dx, dw, db;
  std::vector<float> rows;  // int32 that fp32 holds
};

Data draw(const Case &c, int32_t dtype) {
  Random random(static_cast<uint64_t>(c.n * 100 + c.d));
  Data data = {random.many(c.sources * c.d, 2.0f, dtype), random.many(c.d, 1.5f, dtype),
               random.many(c.n * c.d, 1.0f, dtype),       random.many(c.n, 2.0f, LETHE_F32),
               random.many(c.sources * c.d, 1.0f, dtype), random.many(c.d, 1.0f, LETHE_F32),
               random.many(c.d, 1.0f, LETHE_F32),         {}};
  for (int64_t row = 0; row < c.n; ++row) {
    // Some sources have no row, some have several that are not side by side.
    const auto source = static_cast<float>(row * 7 % std::max<int64_t>(1, c.sources - 1));
    data.rows.insert(data.rows.end(), {source, -1.0f, static_cast<float>(LETHE_ROW_UNIFORM_KL), -1.0f, -1.0f});
  }
  return data;
}

Gradients solve(const Case &c, const Data &data, int32_t dtype) {
  const auto d = static_cast<size_t>(c.d);
  const std::vector<double> x = widened(data.x), w = widened(data.w);
  std::vector<double> dy(data.x.size()), size(data.x.size()), terms(data.x.size());
  for (size_t row = 0; row < data.coefficient.size(); ++row) {
    const auto source = static_cast<size_t>(data.rows[row * LETHE_ROW_FIELDS]);
    for (size_t i = 0; i < d; ++i) {
      const double term = static_cast<double>(data.coefficient[row]) * data.dh_rows[row * d + i];
      dy[source * d + i] += term;
      size[source * d + i] += std::fabs(term);
      terms[source * d + i] += 1;
    }
  }
  Gradients g(widened(data.dw), widened(data.db));
  for (int64_t source = 0; source < c.sources; ++source) {
    const size_t from = static_cast<size_t>(source) * d;
    // A chain of products, in fp32 whatever the storage.
    std::vector<double> dy_error(d);
    for (size_t i = 0; i < d; ++i) dy_error[i] = (terms[from + i] + 1) * lethe::tolerance::kUnit * size[from + i];
    const Normed<double> n = normed(c.kind, x.data() + from, c.d);
    g.add(c.kind, n, errors(c.kind, n, x.data() + from), dy.data() + from, dy_error.data(), w.data(),
          static_cast<double>(c.shift), storage_unit(dtype));
  }
  g.finish(static_cast<double>(c.sources));
  return g;
}

// Everything the call reads and writes, on the device, with the norm's forward pass behind it.
struct Operands {
  Buffer x, w, y, rows, coefficient, dh_rows, mean, rstd, dx, dw, db;
  Operands(lethe_engine *engine, const std::string &where, int32_t dtype, const Case &c, const Data &data)
      : x(engine, dtype, data.x),
        w(engine, dtype, data.w),
        y(engine, dtype, data.dx),
        rows(engine, LETHE_I32, data.rows),
        coefficient(engine, LETHE_F32, data.coefficient),
        dh_rows(engine, dtype, data.dh_rows),
        mean(engine, LETHE_F32, std::vector<float>(static_cast<size_t>(c.sources))),
        rstd(engine, LETHE_F32, std::vector<float>(static_cast<size_t>(c.sources))),
        dx(engine, dtype, data.dx),
        dw(engine, LETHE_F32, data.dw),
        db(engine, LETHE_F32, data.db) {
    expect(lethe_norm_forward(engine, dtype, c.kind, c.sources, 1, c.d, kEps, c.shift, x.ref(), c.d, w.ref(), 0, 0,
                              y.ref(), c.d, c.kind == LETHE_NORM_LAYER ? mean.ref() : 0, rstd.ref()) == LETHE_OK,
           where + " forward");
  }
  int backward(lethe_engine *engine, int32_t dtype, const Case &c, bool parameters) const {
    const bool layer = c.kind == LETHE_NORM_LAYER;
    return lethe_head_norm_backward(engine, dtype, c.kind, c.n, c.sources, c.d, c.shift, rows.ref(), coefficient.ref(),
                                    dh_rows.ref(), x.ref(), w.ref(), layer ? mean.ref() : 0, rstd.ref(), dx.ref(),
                                    parameters ? dw.ref() : 0, parameters && layer ? db.ref() : 0);
  }
};

void one_case(lethe_engine *engine, const std::string &where, int32_t dtype, const Case &c) {
  const Data data = draw(c, dtype);
  const Gradients want = solve(c, data, dtype);
  const Operands o(engine, where, dtype, c, data);
  expect(o.backward(engine, dtype, c, false) == LETHE_OK, where + " without the weight");
  const std::vector<float> dx = o.dx.read();
  compare(where + " dx", dx, want.dx, want.dx_bound);
  expect(same_bits(o.dw.read(), data.dw) && same_bits(o.db.read(), data.db), where + " a frozen weight stays");
  expect(o.backward(engine, dtype, c, true) == LETHE_OK, where + " with the weight");
  expect(same_bits(o.dx.read(), dx), where + " the same dx");
  compare(where + " dw", o.dw.read(), want.dw, want.dw_bound);
  const bool layer = c.kind == LETHE_NORM_LAYER;
  compare(where + " db", o.db.read(), layer ? want.db : widened(data.db), want.db_bound);
  for (const Buffer *read : {&o.x, &o.dh_rows}) {
    expect(same_bits(read->read(), read == &o.x ? data.x : data.dh_rows), where + " leaves what it reads alone");
  }
}

void misuse(lethe_engine *engine, const std::string &where) {
  const auto says = [](const char *what) { return std::strstr(lethe_error_trace(), what) != nullptr; };
  const Case c = {LETHE_NORM_LAYER, 3, 4, 8, 0.0f};
  for (const float bad : {-1.0f, 4.0f}) {
    Data data = draw(c, LETHE_F32);
    data.rows[2 * LETHE_ROW_FIELDS] = bad;
    const Operands o(engine, where, LETHE_F32, c, data);
    expect(settled(engine, o.backward(engine, LETHE_F32, c, true)) == LETHE_OUT_OF_BOUNDS && says("row 2: source"),
           where + " a source outside its table");
    expect(same_bits(o.dx.read(), data.dx) && same_bits(o.dw.read(), data.dw) && same_bits(o.db.read(), data.db),
           where + " changed nothing");
  }
  const Operands o(engine, where, LETHE_F32, c, draw(c, LETHE_F32));
  const auto call = [&](int32_t kind, int64_t n, lethe_ref mean, lethe_ref dx, lethe_ref db) {
    return lethe_head_norm_backward(engine, LETHE_F32, kind, n, 4, 8, 0, o.rows.ref(), o.coefficient.ref(),
                                    o.dh_rows.ref(), o.x.ref(), o.w.ref(), mean, o.rstd.ref(), dx, o.dw.ref(), db);
  };
  expect(call(2, 3, o.mean.ref(), o.dx.ref(), 0) == LETHE_INVALID_ARGUMENT && says("kind"), where + " unknown kind");
  expect(call(LETHE_NORM_RMS, 3, 0, o.dx.ref(), o.db.ref()) == LETHE_INVALID_ARGUMENT && says("LETHE_NORM_RMS"),
         where + " RMS with db");
  expect(call(LETHE_NORM_LAYER, 3, 0, o.dx.ref(), 0) == LETHE_INVALID_ARGUMENT && says("mean"),
         where + " LayerNorm without its mean");
  expect(call(LETHE_NORM_LAYER, -1, o.mean.ref(), o.dx.ref(), 0) == LETHE_INVALID_ARGUMENT, where + " negative n");
  expect(call(LETHE_NORM_LAYER, 1 << 20, o.mean.ref(), o.dx.ref(), 0) == LETHE_OUT_OF_BOUNDS, where + " n too large");
  expect(call(LETHE_NORM_LAYER, 3, o.mean.ref(), o.x.ref(), 0) == LETHE_OVERLAP, where + " dx on x");
}

}  // namespace

int main(int argc, char **argv) {
  std::vector<Case> cases;
  for (const int32_t kind : {LETHE_NORM_RMS, LETHE_NORM_LAYER}) {
    // More sources than are summed at a time, rows of no and of many sources, widths with a tail.
    cases.push_back({kind, 40, 23, 64, 0.0f});
    cases.push_back({kind, 300, 150, 37, 1.0f});
    cases.push_back({kind, 25, 3, 130, 0.0f});
    cases.push_back({kind, 1, 1, 5, 1.0f});
    cases.push_back({kind, 0, 9, 16, 0.0f});
    // As wide as a block of CUDA holds, and wider, with whole pieces of 16 bytes and with a tail.
    cases.push_back({kind, 7, 3, 8192, 0.0f});
    cases.push_back({kind, 7, 5, 8200, 1.0f});
    cases.push_back({kind, 7, 3, 8203, 0.0f});
    cases.push_back({kind, 0, 0, 16, 0.0f});
  }
  on_each_backend(argc, argv, 2, [&](lethe_engine *engine, const std::string &backend) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const Case &c : cases) {
        one_case(engine,
                 backend + (dtype == LETHE_BF16 ? " bf16" : " fp32") + " kind=" + std::to_string(c.kind) + " " +
                     std::to_string(c.n) + " rows of " + std::to_string(c.sources) + "x" + std::to_string(c.d),
                 dtype, c);
      }
    }
    misuse(engine, backend);
  });
  return finish("head_norm_test");
}
