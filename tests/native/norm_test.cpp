// RMSNorm and LayerNorm against their fp64 twin, and the twin against the complex step.
#include <algorithm>
#include <complex>

#include "kernel_test.h"
#include "norm_twin.h"

using namespace kernel_test;
using namespace norm_twin;
namespace tolerance = lethe::tolerance;

namespace {

#if defined(LETHE_SMALL)
constexpr bool kSmall = true;
#else
constexpr bool kSmall = false;
#endif

struct Case {
  int32_t kind;
  int64_t T, groups, d, x_gap, y_gap;  // gaps: elements between a row's end and the next
  float shift, offset;                 // offset: added to every x, which makes LayerNorm cancel
  bool bias, residual;
  int64_t skew = 0;  // elements from an aligned place to where each operand starts
  int64_t width() const { return groups * d; }
  int64_t x_stride() const { return width() + x_gap; }
  int64_t y_stride() const { return width() + y_gap; }
};

void twin_is_its_complex_step() {
  Random random(3);
  for (const int32_t kind : {LETHE_NORM_RMS, LETHE_NORM_LAYER}) {
    for (const int64_t d : {1, 2, 7, 20}) {
      std::vector<double> x, dy, w;
      for (int64_t i = 0; i < d; ++i) {
        x.push_back(static_cast<double>(random.next(2)));
        dy.push_back(static_cast<double>(random.next(2)));
        w.push_back(static_cast<double>(random.next(2)));
      }
      const std::vector<double> dx = gradient(kind, normed(kind, x.data(), d), dy.data(), w.data(), 1.0);
      double largest = 1;
      for (const double g : dx) largest = std::max(largest, std::fabs(g));
      for (size_t i = 0; i < x.size(); ++i) {
        std::vector<std::complex<double>> z(x.begin(), x.end());
        z[i] += std::complex<double>(0, 1e-100);
        const auto n = normed(kind, z.data(), d).n;
        double slope = 0;
        for (size_t j = 0; j < z.size(); ++j) slope += dy[j] * (w[j] + 1.0) * n[j].imag() / 1e-100;
        // LayerNorm of one number is 0 whatever it is, and its gradient the difference of equals over sqrt(eps).
        const double scale = largest + 1 / std::sqrt(static_cast<double>(kEps));
        expect(std::fabs(slope - dx[i]) <= tolerance::norm::kComplexStep * scale, "the twin's dx is its complex step");
      }
    }
  }
}

// `packed` with gaps between rows and `skew` elements in front.
std::vector<float> spread(const std::vector<float> &packed, int64_t rows, int64_t width, int64_t stride, float gap,
                          int64_t skew) {
  std::vector<float> out(static_cast<size_t>(skew + rows * stride), gap);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy(packed.begin() + r * width, packed.begin() + (r + 1) * width, out.begin() + skew + r * stride);
  }
  return out;
}

struct Data {
  std::vector<float> x, w, b, residual, dy, dx, dw, db;
};
Data draw(const Case &c, int32_t dtype) {
  Random random(static_cast<uint64_t>(c.T * 100 + c.d));
  const int64_t n = c.T * c.width();
  Data d = {random.many(n, 2.0f, dtype),       random.many(c.d, 1.5f, dtype),    random.many(c.d, 1.0f, dtype),
            random.many(n, 3.0f, dtype),       random.many(n, 1.0f, dtype),      random.many(n, 1.0f, dtype),
            random.many(c.d, 1.0f, LETHE_F32), random.many(c.d, 1.0f, LETHE_F32)};
  for (float &x : d.x) x = rounded(dtype, x + c.offset);
  return d;
}

// What forward and backward should give, with bounds.
struct Expected {
  std::vector<double> y, y_bound;
  Gradients gradients;
};
Expected solve(const Case &c, const Data &data, int32_t dtype) {
  const std::vector<double> x = widened(data.x), w = widened(data.w), b = widened(data.b), dy = widened(data.dy);
  const auto d = static_cast<size_t>(c.d);
  const double unit = storage_unit(dtype), kUnit = lethe::tolerance::kUnit;
  Expected e = {{}, {}, Gradients(widened(data.dw), widened(data.db))};
  const std::vector<double> exact(d);
  for (int64_t v = 0; v < c.T * c.groups; ++v) {
    const auto from = static_cast<size_t>(v) * d;
    const Normed<double> n = normed(c.kind, x.data() + from, c.d);
    const Errors error = errors(c.kind, n, x.data() + from);
    for (size_t i = 0; i < d; ++i) {
      const double wide = std::fabs(w[i] + c.shift);
      double y = n.n[i] * (w[i] + c.shift), size = std::fabs(y);
      if (c.bias) y += b[i], size += std::fabs(b[i]);
      if (c.residual) y += data.residual[from + i], size += std::fabs(data.residual[from + i]);
      e.y.push_back(y);
      e.y_bound.push_back(error.n * (1 + std::fabs(n.n[i])) * wide + 6 * kUnit * size + unit * std::fabs(y));
    }
    e.gradients.add(c.kind, n, error, dy.data() + from, exact.data(), w.data(), static_cast<double>(c.shift), unit);
  }
  e.gradients.finish(static_cast<double>(c.T * c.groups));
  return e;
}

std::vector<float> packed(const Buffer &buffer, const Case &c, int64_t stride, float gap, const std::string &what) {
  const std::vector<float> all = buffer.read();
  std::vector<float> rows;
  bool kept = true;
  for (int64_t i = -c.skew; i < c.T * stride; ++i) {
    if (i >= 0 && i % stride < c.width()) {
      rows.push_back(all[static_cast<size_t>(i + c.skew)]);
    } else {
      kept = kept && all[static_cast<size_t>(i + c.skew)] == gap;
    }
  }
  expect(kept, what + " leaves what lies between rows alone");
  return rows;
}

// Gives what it has seen: y, dx, dw and db.
std::vector<float> one_case(lethe_engine *engine, const std::string &where, int32_t dtype, const Case &c) {
  const Data data = draw(c, dtype);
  const Expected want = solve(c, data, dtype);
  const bool layer = c.kind == LETHE_NORM_LAYER;
  const float gap = rounded(dtype, 321.0f);
  const int64_t xs = c.x_stride(), ys = c.y_stride();
  const auto wide = [&](const std::vector<float> &v, int64_t stride) {
    return spread(v, c.T, c.width(), stride, gap, c.skew);
  };
  const auto narrow = [&](const std::vector<float> &v) { return spread(v, 1, c.d, c.d, gap, c.skew); };
  const Buffer x(engine, dtype, wide(data.x, xs)), w(engine, dtype, narrow(data.w)), b(engine, dtype, narrow(data.b));
  const Buffer residual(engine, dtype, wide(data.residual, ys)), y(engine, dtype, wide(data.dx, ys));
  const std::vector<float> kept(static_cast<size_t>(c.T * c.groups));
  const Buffer mean(engine, LETHE_F32, kept), rstd(engine, LETHE_F32, kept);
  const auto forward = [&](lethe_ref from, int64_t from_stride, lethe_ref added, lethe_ref to, int64_t to_stride) {
    return lethe_norm_forward(engine, dtype, c.kind, c.T, c.groups, c.d, kEps, c.shift, from, from_stride,
                              w.ref(c.skew), c.bias ? b.ref(c.skew) : 0, added, to, to_stride, layer ? mean.ref() : 0,
                              rstd.ref());
  };
  expect(forward(x.ref(c.skew), xs, c.residual ? residual.ref(c.skew) : 0, y.ref(c.skew), ys) == LETHE_OK,
         where + " forward");
  const std::vector<float> y_seen = packed(y, c, ys, gap, where);
  compare(where + " y", y_seen, want.y, want.y_bound);
  if (c.residual) {
    expect(forward(x.ref(c.skew), xs, residual.ref(c.skew), residual.ref(c.skew), ys) == LETHE_OK,
           where + " onto the residual");
    expect(same_bits(packed(residual, c, ys, gap, where), y_seen), where + " onto the residual equals apart");
  }

  const Buffer dy(engine, dtype, wide(data.dy, ys)), dx(engine, dtype, wide(data.dx, xs));
  const Buffer dw(engine, LETHE_F32, data.dw), db(engine, LETHE_F32, data.db);
  const auto backward = [&](const Buffer &to, int64_t to_stride, bool accumulate, bool parameters) {
    return lethe_norm_backward(engine, dtype, c.kind, c.T, c.groups, c.d, c.shift, dy.ref(c.skew), ys, x.ref(c.skew),
                               xs, w.ref(c.skew), layer ? mean.ref() : 0, rstd.ref(), to.ref(c.skew), to_stride,
                               accumulate ? 1 : 0, parameters ? dw.ref() : 0, parameters && layer ? db.ref() : 0);
  };
  std::vector<double> sums = want.gradients.dx, sum_bounds = want.gradients.dx_bound;
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] += data.dx[i];
    sum_bounds[i] +=
        (storage_unit(dtype) + 2 * lethe::tolerance::kUnit) * (std::fabs(sums[i]) + std::fabs(want.gradients.dx[i]));
  }
  expect(backward(dx, xs, true, true) == LETHE_OK, where + " backward");
  compare(where + " dx +=", packed(dx, c, xs, gap, where), sums, sum_bounds);
  compare(where + " dw", dw.read(), want.gradients.dw, want.gradients.dw_bound);
  compare(where + " db", db.read(), layer ? want.gradients.db : widened(data.db), want.gradients.db_bound);
  expect(backward(dx, xs, false, false) == LETHE_OK, where + " backward, written");
  const std::vector<float> written = packed(dx, c, xs, gap, where);
  compare(where + " dx", written, want.gradients.dx, want.gradients.dx_bound);
  expect(same_bits(dw.read(), dw.read()), where);
  const std::vector<float> dw_before = dw.read();
  expect(backward(dy, ys, false, false) == LETHE_OK, where + " backward in place");
  expect(same_bits(packed(dy, c, ys, gap, where), written), where + " in place equals apart");
  expect(same_bits(dw.read(), dw_before), where + " a frozen weight gets no gradient");

  expect(forward(x.ref(c.skew), xs, 0, x.ref(c.skew), xs) == LETHE_OK, where + " forward in place");
  if (!c.residual) expect(same_bits(packed(x, c, xs, gap, where), y_seen), where + " forward in place equals apart");
  std::vector<float> seen = y_seen;
  for (const std::vector<float> &more : {written, dw_before, db.read()}) {
    seen.insert(seen.end(), more.begin(), more.end());
  }
  return seen;
}

// dw from dy, then dx in dy's place: the order of the two must not show.
void in_place_keeps_the_weights_gradient(lethe_engine *engine, const std::string &where) {
  const Case c = {LETHE_NORM_LAYER, 9, 1, 33, 0, 0, 0.0f, 0.0f, true, false};
  const Data data = draw(c, LETHE_F32);
  const Buffer x(engine, LETHE_F32, data.x), w(engine, LETHE_F32, data.w), y(engine, LETHE_F32, data.dx);
  const Buffer mean(engine, LETHE_F32, std::vector<float>(9)), rstd(engine, LETHE_F32, std::vector<float>(9));
  expect(lethe_norm_forward(engine, LETHE_F32, c.kind, 9, 1, 33, kEps, 0, x.ref(), 33, w.ref(), 0, 0, y.ref(), 33,
                            mean.ref(), rstd.ref()) == LETHE_OK,
         where);
  std::vector<float> seen[2];
  for (const int in_place : {0, 1}) {
    const Buffer dy(engine, LETHE_F32, data.dy), dx(engine, LETHE_F32, data.dx);
    const Buffer dw(engine, LETHE_F32, data.dw), db(engine, LETHE_F32, data.db);
    expect(lethe_norm_backward(engine, LETHE_F32, c.kind, 9, 1, 33, 0, dy.ref(), 33, x.ref(), 33, w.ref(), mean.ref(),
                               rstd.ref(), in_place == 1 ? dy.ref() : dx.ref(), 33, 0, dw.ref(), db.ref()) == LETHE_OK,
           where);
    seen[in_place] = dw.read();
    const std::vector<float> more = db.read();
    seen[in_place].insert(seen[in_place].end(), more.begin(), more.end());
  }
  expect(same_bits(seen[0], seen[1]), where + " dw and db in place equal apart");
}

// Where rows start is no matter of arithmetic.
void alignment_does_not_show(lethe_engine *engine, const std::string &where, int32_t dtype) {
  for (const int32_t kind : {LETHE_NORM_RMS, LETHE_NORM_LAYER}) {
    for (const int64_t d : {64, 256, 1024, 4096, 9000, 16392}) {
      if (d > 1024 && kSmall) continue;
      const int64_t groups = d > 256 ? 1 : 3;
      Case c = {kind, groups == 1 ? 1 : 2, groups, d, 8, 16, 1.0f, 0.5f, kind == LETHE_NORM_LAYER, true};
      const std::string name = where + " kind=" + std::to_string(kind) + " d=" + std::to_string(d);
      const std::vector<float> aligned = one_case(engine, name, dtype, c);
      c.skew = 1;
      expect(same_bits(one_case(engine, name + " skewed", dtype, c), aligned), name + " alignment does not show");
    }
  }
}

void misuse(lethe_engine *engine, const std::string &where) {
  const Buffer x(engine, LETHE_F32, std::vector<float>(64)), y(engine, LETHE_F32, std::vector<float>(64));
  const Buffer w(engine, LETHE_F32, std::vector<float>(8)), r(engine, LETHE_F32, std::vector<float>(8));
  const auto forward = [&](int32_t kind, lethe_ref to, int64_t stride, lethe_ref b, lethe_ref mean) {
    return lethe_norm_forward(engine, LETHE_F32, kind, 4, 1, 8, kEps, 0, x.ref(), 8, w.ref(), b, 0, to, stride, mean,
                              r.ref());
  };
  const auto says = [](const char *what) { return std::strstr(lethe_error_trace(), what) != nullptr; };
  expect(forward(2, y.ref(), 8, 0, 0) == LETHE_INVALID_ARGUMENT && says("kind"), where + " unknown kind");
  expect(forward(LETHE_NORM_RMS, y.ref(), 8, w.ref(), 0) == LETHE_INVALID_ARGUMENT && says("LETHE_NORM_RMS"),
         where + " RMS with a bias");
  expect(forward(LETHE_NORM_RMS, y.ref(), 8, 0, r.ref()) == LETHE_INVALID_ARGUMENT, where + " RMS with a mean");
  expect(forward(LETHE_NORM_RMS, x.ref(), 9, 0, 0) == LETHE_INVALID_ARGUMENT && says("one stride"),
         where + " in place with another stride");
  expect(forward(LETHE_NORM_RMS, x.ref(1), 8, 0, 0) == LETHE_OVERLAP, where + " shifted in place");
  expect(forward(LETHE_NORM_RMS, y.ref(), 7, 0, 0) == LETHE_INVALID_ARGUMENT, where + " a stride below the width");
  const auto backward = [&](lethe_ref mean, lethe_ref dx, int32_t accumulate) {
    return lethe_norm_backward(engine, LETHE_F32, LETHE_NORM_LAYER, 4, 1, 8, 0, y.ref(), 8, x.ref(), 8, w.ref(), mean,
                               r.ref(), dx, 8, accumulate, 0, 0);
  };
  expect(backward(0, y.ref(), 0) == LETHE_INVALID_ARGUMENT && says("mean"), where + " LayerNorm without its mean");
  expect(backward(r.ref(4), y.ref(), 1) == LETHE_INVALID_ARGUMENT && says("accumulated"),
         where + " accumulating in place");
  expect(backward(r.ref(4), y.ref(), 0) == LETHE_OK, where + " in place");
}

}  // namespace

int main(int argc, char **argv) {
  twin_is_its_complex_step();
  std::vector<Case> cases;
  for (const int32_t kind : {LETHE_NORM_RMS, LETHE_NORM_LAYER}) {
    const bool layer = kind == LETHE_NORM_LAYER;
    cases.push_back({kind, 5, 1, 64, 0, 0, 0.0f, 0.0f, layer, false});
    cases.push_back({kind, 7, 1, 37, 3, 5, 1.0f, 0.5f, layer, true});
    cases.push_back({kind, 4, 6, 16, 32, 1, 0.0f, -1.0f, false, false});
    cases.push_back({kind, 3, 2, 5, 0, 7, 1.0f, 0.0f, layer, true});
    cases.push_back({kind, 1, 1, 1, 0, 0, 0.0f, 1.0f, false, false});
    cases.push_back({kind, 1, 1, 300, 0, 0, 0.0f, 50.0f, layer, false});
    cases.push_back({kind, 0, 1, 16, 0, 0, 0.0f, 0.0f, false, false});
    cases.push_back({kind, 2, 3, 3, 1, 0, 0.0f, 0.0f, layer, false, 1});
    cases.push_back({kind, 33, 2, 127, 0, 2, 1.0f, 0.0f, false, true, 3});
    cases.push_back({kind, kSmall ? 24 : 150, 4, 64, 0, 0, 0.0f, 0.0f, false, false});
    cases.push_back({kind, 3, 2, 256, 0, 0, 0.0f, 0.0f, false, true});
    cases.push_back({kind, 21, 1, 320, 0, 64, 0.0f, 1.0f, layer, false});
    cases.push_back({kind, 2, 1, 4096 + 5, 0, 0, 1.0f, 0.0f, layer, true});
    cases.push_back({kind, 2, 1, 16384 + 9, 5, 0, 1.0f, 0.0f, layer, false, 1});
    if (kSmall) continue;
    if (!layer) cases.push_back({kind, 2100, 1, 257, 0, 0, 0.0f, 0.0f, false, false});
    cases.push_back({kind, 2, 1, 8192, 0, 0, 0.0f, 0.0f, layer, true});
    cases.push_back({kind, 6, 1, 16384 + 8, 0, 8, 0.0f, 0.0f, layer, true});
  }
  on_each_backend(argc, argv, 2, [&](lethe_engine *engine, const std::string &backend) {
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const Case &c : cases) {
        one_case(engine,
                 backend + (dtype == LETHE_BF16 ? " bf16" : " fp32") + " kind=" + std::to_string(c.kind) + " " +
                     std::to_string(c.T) + "x" + std::to_string(c.groups) + "x" + std::to_string(c.d),
                 dtype, c);
      }
      alignment_does_not_show(engine, backend + (dtype == LETHE_BF16 ? " bf16" : " fp32"), dtype);
    }
    in_place_keeps_the_weights_gradient(engine, backend);
    misuse(engine, backend);
  });
  return finish("norm_test");
}
