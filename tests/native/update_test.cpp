// The gradient norm and AdamW against fp64.
#include <algorithm>
#include <limits>

#include "op_check.h"
#include "tolerance.h"

namespace lethe::test {
namespace {

using namespace lethe::tolerance::update;

size_t at(int64_t i) { return static_cast<size_t>(i); }

struct Hyper {
  float lr, beta1, beta2, eps, decay;
};

// What the documented formula gives, in fp64, and how far fp32 may be from it.
struct Twin {
  Numbers p, m, v, p_bound, m_bound, v_bound;
};

Twin twin_step(const Numbers &p, const Numbers &m, const Numbers &v, const Numbers &g, int64_t n_decay, double clip,
               double t, const Hyper &h) {
  Twin out;
  const double b1 = h.beta1, b2 = h.beta2;
  for (size_t i = 0; i < p.size(); ++i) {
    const double ghat = clip * g[i];
    const double first = b1 * m[i] + (1 - b1) * ghat;
    const double second = b2 * v[i] + (1 - b2) * ghat * ghat;
    const double decay = static_cast<int64_t>(i) < n_decay ? h.decay : 0.0;
    const double root = std::sqrt(second / (1 - std::pow(b2, t))) + h.eps;
    const double scale = h.lr / (1 - std::pow(b1, t)) / root;
    // m's terms may cancel: its error is relative to their magnitudes.
    const double first_magnitude = b1 * std::fabs(m[i]) + (1 - b1) * std::fabs(ghat);
    out.p.push_back(p[i] - scale * first - h.lr * decay * p[i]);
    out.m.push_back(first);
    out.v.push_back(second);
    out.m_bound.push_back(kFirstMoment * first_magnitude);
    out.v_bound.push_back(kSecondMoment * second + std::numeric_limits<float>::denorm_min());
    out.p_bound.push_back(scale * kStep * first_magnitude + kParameter * (std::fabs(p[i]) + std::fabs(scale * first)) +
                          kDecay * h.lr * decay * std::fabs(p[i]));
  }
  return out;
}

void norm_and_clip(lethe_engine *engine, int64_t n, double scale, float max_norm, int64_t offset) {
  const std::string name = "norm n=" + std::to_string(n) + " scale=" + std::to_string(scale) +
                           " max=" + std::to_string(max_norm) + " offset=" + std::to_string(offset);
  Generator g(static_cast<uint64_t>(n));
  const Numbers gradient = numbers(&g, n, LETHE_F32, scale);
  Operands operands(engine, n * 4 + 4096);
  const lethe_ref r_g = operands.add(gradient, LETHE_F32, offset);
  const lethe_ref r_state = operands.add({0, 0, 0, 41, 42, 43, 44, 45}, LETHE_F32, offset);
  expect(operands.upload(), name);
  expect(lethe_gradient_norm(engine, n, r_g, max_norm, r_state) == LETHE_OK, name);
  double square = 0;
  for (const double v : gradient) square += v * v;
  const double norm = std::sqrt(square);
  const double clip = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
  expect_close(operands.read(r_state, LETHE_UPDATE_STATE, LETHE_F32), {norm, clip, 1, 41, 42, 43, 44, 45},
               {kNorm * norm, kNorm * clip, 0, 0, 0, 0, 0, 0}, name);
  expect(operands.intact({r_state}), name + " writes nothing else");
}

void norm_is_the_same_for_any_thread_count(lethe_engine *engine, const char *plugins, const char *backend) {
  Generator g(3);
  const int64_t n = 100003;
  const Numbers gradient = numbers(&g, n, LETHE_F32);
  Numbers first;
  for (const int32_t threads : {1, 2, 3}) {
    lethe_engine *other = nullptr;
    expect(lethe_engine_open(backend, plugins, threads, &other) == LETHE_OK, "engine");
    if (other == nullptr) return;
    {
      Operands operands(other, n * 4 + 4096);
      const lethe_ref r_g = operands.add(gradient, LETHE_F32);
      const lethe_ref r_state = operands.add(Numbers(LETHE_UPDATE_STATE), LETHE_F32);
      expect(operands.upload(), "upload");
      expect(lethe_gradient_norm(other, n, r_g, 1.0f, r_state) == LETHE_OK, "norm");
      const Numbers state = operands.read(r_state, LETHE_UPDATE_STATE, LETHE_F32);
      if (first.empty()) first = state;
      expect_equal(state, first, "the norm's bits on " + std::to_string(threads) + " threads");
    }
    expect(lethe_engine_close(other) == LETHE_OK, "close");
  }
  (void)engine;
}

// Several steps; each is compared with the twin started from what the backend had before it.
void adamw_matches(lethe_engine *engine, int32_t dtype, int64_t n, int64_t n_decay, const Hyper &h, int64_t offset) {
  const std::string name = "adamw dtype=" + std::to_string(dtype) + " n=" + std::to_string(n) +
                           " n_decay=" + std::to_string(n_decay) + " offset=" + std::to_string(offset);
  Generator g(static_cast<uint64_t>(n + n_decay));
  Numbers p = numbers(&g, n, LETHE_F32), m(at(n), 0.0), v(at(n), 0.0);
  Operands operands(engine, 24 * n + 8192);
  const lethe_ref r_p = operands.add(p, LETHE_F32, offset);
  const lethe_ref r_m = operands.add(m, LETHE_F32, offset);
  const lethe_ref r_v = operands.add(v, LETHE_F32, offset);
  const lethe_ref r_copy = operands.add(Numbers(at(n), 7.0), dtype, offset);
  const lethe_ref r_state = operands.add(Numbers(LETHE_UPDATE_STATE), LETHE_F32);
  const lethe_ref r_g = operands.add(Numbers(at(n)), LETHE_F32, offset);
  expect(operands.upload(), name);
  for (int step = 1; step <= 4; ++step) {
    Numbers gradient = numbers(&g, n, LETHE_F32, step == 3 ? 1e-6 : 2.0);
    if (n > 0) gradient[0] = 0.0;
    std::vector<float> stored(gradient.begin(), gradient.end());
    if (n > 0) expect(lethe_write(engine, r_g, stored.data(), n * 4) == LETHE_OK, name);
    expect(lethe_gradient_norm(engine, n, r_g, 1.0f, r_state) == LETHE_OK, name);
    expect(lethe_adamw(engine, dtype, n, n_decay, r_p, r_m, r_v, r_g, r_copy, h.lr, h.beta1, h.beta2, h.eps, h.decay,
                       r_state) == LETHE_OK,
           name);
    const Numbers state = operands.read(r_state, LETHE_UPDATE_STATE, LETHE_F32);
    expect(state[3] == step, name + " counts its steps");
    const Twin twin = twin_step(p, m, v, gradient, n_decay, state[1], step, h);
    p = operands.read(r_p, n, LETHE_F32);
    m = operands.read(r_m, n, LETHE_F32);
    v = operands.read(r_v, n, LETHE_F32);
    expect_close(m, twin.m, twin.m_bound, name + " m, step " + std::to_string(step));
    expect_close(v, twin.v, twin.v_bound, name + " v, step " + std::to_string(step));
    expect_close(p, twin.p, twin.p_bound, name + " p, step " + std::to_string(step));
    Numbers copy = p;
    for (double &x : copy) x = decode(encode(x, dtype), dtype);
    expect_equal(operands.read(r_copy, n, dtype), copy, name + " copy");
  }
  expect(operands.intact({r_p, r_m, r_v, r_copy, r_state, r_g}), name + " writes nothing else");
}

void one_step_by_hand(lethe_engine *engine) {
  // t = 1: m / (1 - b1) = g and v / (1 - b2) = g^2, so p moves by lr (g / (|g| + eps) + decay p).
  Operands operands(engine, 4096);
  const lethe_ref r_p = operands.add({2.0, 2.0}, LETHE_F32), r_m = operands.add({0.0, 0.0}, LETHE_F32);
  const lethe_ref r_v = operands.add({0.0, 0.0}, LETHE_F32), r_g = operands.add({3.0, -4.0}, LETHE_F32);
  const lethe_ref r_state = operands.add(Numbers(LETHE_UPDATE_STATE), LETHE_F32);
  expect(operands.upload(), "upload");
  expect(lethe_gradient_norm(engine, 2, r_g, 0.0f, r_state) == LETHE_OK, "norm");
  expect_equal(operands.read(r_state, 4, LETHE_F32), {5.0, 1.0, 1.0, 0.0}, "norm of (3, -4), not clipped");
  expect(lethe_adamw(engine, LETHE_F32, 2, 1, r_p, r_m, r_v, r_g, 0, 0.1f, 0.9f, 0.999f, 1e-8f, 0.01f, r_state) ==
             LETHE_OK,
         "adamw");
  expect_close(operands.read(r_p, 2, LETHE_F32), {2.0 - 0.1 * (1 + 0.01 * 2), 2.1}, {1e-6, 1e-6}, "one step by hand");
}

void what_is_not_finite_changes_nothing(lethe_engine *engine) {
  for (const double bad : {std::nan(""), static_cast<double>(std::numeric_limits<float>::infinity()),
                           -static_cast<double>(std::numeric_limits<float>::infinity())}) {
    for (const int64_t where : {0, 17, 36}) {
      Generator g(9);
      Numbers gradient = numbers(&g, 37, LETHE_F32);
      gradient[at(where)] = bad;
      Operands operands(engine, 8192);
      const Numbers p = numbers(&g, 37, LETHE_F32);
      const lethe_ref r_p = operands.add(p, LETHE_F32), r_m = operands.add(p, LETHE_F32);
      const lethe_ref r_v = operands.add(p, LETHE_F32), r_g = operands.add(gradient, LETHE_F32);
      const lethe_ref r_copy = operands.add(p, LETHE_BF16);
      const lethe_ref r_state = operands.add({0, 0, 0, 5, 0, 0, 0, 0}, LETHE_F32);
      expect(operands.upload(), "upload");
      expect(lethe_gradient_norm(engine, 37, r_g, 1.0f, r_state) == LETHE_OK, "norm");
      expect(lethe_adamw(engine, LETHE_BF16, 37, 20, r_p, r_m, r_v, r_g, r_copy, 0.1f, 0.9f, 0.999f, 1e-8f, 0.1f,
                         r_state) == LETHE_OK,
             "adamw");
      const Numbers state = operands.read(r_state, LETHE_UPDATE_STATE, LETHE_F32);
      expect(state[2] == 0.0 && state[3] == 5.0, "not finite, and no step counted");
      expect(operands.intact({r_state}), "no step without a finite gradient");
    }
  }
  // Squares that overflow fp32 are still finite.
  Operands operands(engine, 4096);
  const lethe_ref r_g = operands.add({3e38, -3e38, 3e38}, LETHE_F32);
  const lethe_ref r_state = operands.add(Numbers(LETHE_UPDATE_STATE), LETHE_F32);
  expect(operands.upload(), "upload");
  expect(lethe_gradient_norm(engine, 3, r_g, 1.0f, r_state) == LETHE_OK, "norm");
  const Numbers state = operands.read(r_state, LETHE_UPDATE_STATE, LETHE_F32);
  expect(state[2] == 1.0 && state[1] > 0.0, "large gradients are clipped, not dropped");
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  return run_tests("update_test", argc, argv, [](lethe_engine *engine, const char *plugins, const char *backend) {
    for (const int64_t n : {0, 1, 15, 16, 17, 1000, 40000, 100003}) {
      norm_and_clip(engine, n, 1.0, 1.0f, n % 3);
      norm_and_clip(engine, n, 1e-4, 1.0f, 0);
      norm_and_clip(engine, n, 1e30, 0.0f, 1);
    }
    norm_is_the_same_for_any_thread_count(engine, plugins, backend);
    const Hyper usual{1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f};
    const Hyper other{0.5f, 0.5f, 0.95f, 1e-3f, 0.3f};
    for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
      for (const int64_t n : {0, 1, 15, 33, 1000}) {
        for (const int64_t n_decay : {int64_t{0}, n / 2, n}) {
          adamw_matches(engine, dtype, n, n_decay, usual, n % 3);
          adamw_matches(engine, dtype, n, n_decay, other, 0);
        }
      }
    }
    one_step_by_hand(engine);
    what_is_not_finite_changes_nothing(engine);
  });
}
