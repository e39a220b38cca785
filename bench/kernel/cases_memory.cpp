// Ops that memory bounds: each reads its operands once and writes its results once at least.
#include <cmath>
#include <cstdio>

#include "cases.h"

namespace lethe::bench {

namespace {

constexpr double kOfCopy = 0.8;
using Sizes = std::vector<int64_t>;
using Make = std::function<Work(Device &, const Sizes &)>;

std::string words(const char *names, const Sizes &sizes) {
  std::string text = names;
  for (const int64_t size : sizes) {
    const size_t at = text.find('#');
    if (at == std::string::npos) break;
    text.replace(at, 1, std::to_string(size));
  }
  return text;
}

Case make_case(const char *name, const char *names, int32_t dtype, const Sizes &small, const Sizes &full,
               const Make &make) {
  return {name,
          words(names, full),
          dtype,
          Ceiling::kCopy,
          kOfCopy,
          [make, small](Device &d) { return make(d, small); },
          [make, full](Device &d) { return make(d, full); }};
}

Work norm(Device &d, int32_t dtype, int32_t kind, int64_t T, int64_t width, bool backward) {
  const bool layer = kind == LETHE_NORM_LAYER;
  const int64_t n = T * width, size = element_bytes(dtype);
  const lethe_ref x = d.normal(dtype, n, 1, 1), w = d.normal(dtype, width, 1, 2);
  const lethe_ref b = layer ? d.normal(dtype, width, 1, 3) : 0, y = d.bytes(n * size);
  const lethe_ref mean = layer ? d.bytes(T * 4) : 0, rstd = d.bytes(T * 4);
  const auto forward = [=, &d] {
    require(
        lethe_norm_forward(d.engine(), dtype, kind, T, 1, width, 1e-5f, 0, x, width, w, b, 0, y, width, mean, rstd));
  };
  if (!backward) return {forward, {{y, n, dtype}, {rstd, T, LETHE_F32}}, 2.0 * static_cast<double>(n * size), 0};
  forward();
  const lethe_ref dy = d.normal(dtype, n, 1, 4), dx = d.bytes(n * size);
  return {[=, &d] {
            require(lethe_norm_backward(d.engine(), dtype, kind, T, 1, width, 0, dy, width, x, width, w, mean, rstd, dx,
                                        width, 0, 0, 0));
          },
          {{dx, n, dtype}},
          3.0 * static_cast<double>(n * size),
          0};
}

Work rotary(Device &d, int32_t dtype, int64_t T, int64_t heads, int64_t head_dim) {
  const int64_t n = T * heads * head_dim, positions = 2048, half = head_dim / 2;
  std::vector<int32_t> at(static_cast<size_t>(T));
  for (size_t t = 0; t < at.size(); ++t) at[t] = static_cast<int32_t>(t % static_cast<size_t>(positions));
  std::vector<float> cosines(static_cast<size_t>(positions * half)), sines(cosines.size());
  for (size_t i = 0; i < cosines.size(); ++i) {
    const size_t position = i / static_cast<size_t>(half);
    const double angle = static_cast<double>(position) * 0.01;
    cosines[i] = static_cast<float>(std::cos(angle));
    sines[i] = static_cast<float>(std::sin(angle));
  }
  const lethe_ref x = d.normal(dtype, n, 1, 1), ids = d.ints(at);
  const auto table = static_cast<int64_t>(cosines.size()) * 4;
  const lethe_ref c = d.bytes(table), s = d.bytes(table);
  require(lethe_write(d.engine(), c, cosines.data(), table));
  require(lethe_write(d.engine(), s, sines.data(), table));
  return {[=, &d] {
            require(lethe_rotary(d.engine(), dtype, T, heads, head_dim, head_dim, x, heads * head_dim, ids, positions,
                                 c, s, 0));
          },
          {{x, n, dtype}},
          2.0 * static_cast<double>(n * element_bytes(dtype)),
          0};
}

Work gated(Device &d, int32_t dtype, int64_t T, int64_t f, bool backward) {
  const int64_t n = T * f, size = element_bytes(dtype);
  const lethe_ref in = d.normal(dtype, 2 * n, 1, 1), out = d.bytes(n * size);
  if (!backward) {
    return {[=, &d] { require(lethe_gated_forward(d.engine(), dtype, LETHE_ACTIVATION_SILU, T, f, in, out)); },
            {{out, n, dtype}},
            3.0 * static_cast<double>(n * size),
            0};
  }
  const lethe_ref dout = d.normal(dtype, n, 1, 2), din = d.bytes(2 * n * size);
  return {[=, &d] { require(lethe_gated_backward(d.engine(), dtype, LETHE_ACTIVATION_SILU, T, f, in, dout, din)); },
          {{din, 2 * n, dtype}},
          5.0 * static_cast<double>(n * size),
          0};
}

Work activation(Device &d, int32_t dtype, int64_t T, int64_t f, bool backward) {
  const int64_t n = T * f, size = element_bytes(dtype);
  const lethe_ref in = d.normal(dtype, n, 1, 1), out = d.bytes(n * size), dout = d.normal(dtype, n, 1, 2);
  return {[=, &d] {
            require(backward
                        ? lethe_activation_backward(d.engine(), dtype, LETHE_ACTIVATION_GELU_TANH, T, f, in, dout, out)
                        : lethe_activation_forward(d.engine(), dtype, LETHE_ACTIVATION_GELU_TANH, T, f, in, out));
          },
          {{out, n, dtype}},
          (backward ? 3.0 : 2.0) * static_cast<double>(n * size),
          0};
}

std::vector<int32_t> permutation(int64_t n) {
  std::vector<int32_t> index(static_cast<size_t>(n));
  // An odd factor visits every residue of a power of two once, far from its neighbours.
  for (size_t i = 0; i < index.size(); ++i) index[i] = static_cast<int32_t>((i * 40503u) % index.size());
  return index;
}

Work rows(Device &d, int32_t dtype, int64_t n, int64_t width, bool scatter) {
  const lethe_ref src = d.normal(dtype, n * width, 1, 1), dst = d.bytes(n * width * element_bytes(dtype));
  const lethe_ref index = d.ints(permutation(n));
  return {[=, &d] {
            require(scatter ? lethe_scatter_rows(d.engine(), dtype, n, width, n, src, width, index, dst, width)
                            : lethe_gather_rows(d.engine(), dtype, n, width, n, src, width, index, dst, width));
          },
          {{dst, n * width, dtype}},
          2.0 * static_cast<double>(n * width * element_bytes(dtype)),
          0};
}

Work embedding(Device &d, int32_t dtype, int64_t T, int64_t width, int64_t V, bool backward) {
  const int64_t n = T * width, size = element_bytes(dtype);
  std::vector<int32_t> ids(static_cast<size_t>(T));
  for (size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<int32_t>((t * 2654435761u) % static_cast<size_t>(V));
  const lethe_ref tokens = d.ints(ids), rows = d.normal(dtype, n, 1, 1);
  if (!backward) {
    const lethe_ref table = d.normal(dtype, V * width, 1, 2);
    return {[=, &d] { require(lethe_embedding_forward(d.engine(), dtype, T, width, V, 1, table, tokens, rows)); },
            {{rows, n, dtype}},
            2.0 * static_cast<double>(n * size),
            0};
  }
  // Zeroed anew, so that any number of calls leaves the same.
  const lethe_ref gradient = d.bytes(V * width * 4);
  return {[=, &d] {
            require(lethe_zero(d.engine(), gradient, V * width * 4));
            require(lethe_embedding_backward(d.engine(), dtype, T, width, V, 1, rows, tokens, gradient));
          },
          {{gradient, V * width, LETHE_F32}},
          static_cast<double>(n * size + 2 * n * 4 + V * width * 4),
          0};
}

Work adamw(Device &d, int32_t dtype, int64_t n) {
  const lethe_ref p = d.normal(LETHE_F32, n, 0.02f, 1), g = d.normal(LETHE_F32, n, 1e-3f, 2), m = d.bytes(n * 4);
  const lethe_ref v = d.bytes(n * 4), copy = d.bytes(n * element_bytes(dtype));
  const lethe_ref state = d.bytes(int64_t{LETHE_UPDATE_STATE} * 4);
  require(lethe_gradient_norm(d.engine(), n, g, 1, state));
  return {[=, &d] {
            require(lethe_adamw(d.engine(), dtype, n, n, p, m, v, g, dtype == LETHE_BF16 ? copy : 0, 1e-4f, 0.9f,
                                0.999f, 1e-8f, 0.01f, state));
          },
          {{p, n, LETHE_F32}, {m, n, LETHE_F32}, {v, n, LETHE_F32}},
          static_cast<double>(n) * (28 + (dtype == LETHE_BF16 ? 2 : 0)),
          0};
}

// Without a master, and with moments of a byte each where `codes`.
Work adamw_part(Device &d, int64_t n, bool codes) {
  const int64_t blocks = (n + LETHE_MOMENT_BLOCK - 1) / LETHE_MOMENT_BLOCK, moment = codes ? 1 : 4;
  const lethe_ref copy = d.normal(LETHE_BF16, n, 0.02f, 1), g = d.normal(LETHE_F32, n, 1e-3f, 2);
  const lethe_ref m = d.bytes(n * moment), v = d.bytes(n * moment), state = d.bytes(int64_t{LETHE_UPDATE_STATE} * 4);
  const lethe_ref m_scale = codes ? d.bytes(blocks * 4) : 0, v_scale = codes ? d.bytes(blocks * 4) : 0;
  const lethe_ref maps = codes ? d.bytes(int64_t{512} * 4) : 0;
  if (codes) {
    float values[512];
    for (int i = 0; i < 256; ++i) {
      values[i] = static_cast<float>(i - 127) / 128;
      values[256 + i] = static_cast<float>(i) / 255;
    }
    require(lethe_write(d.engine(), maps, values, sizeof values));
  }
  require(lethe_gradient_norm_part(d.engine(), n, g, 1, 1, state));
  return {[=, &d] {
            require(lethe_adamw_part(d.engine(), LETHE_BF16, n, 0, 0, m, v, m_scale, v_scale, maps, g, copy, 1e-4f,
                                     0.9f, 0.999f, 1e-8f, 0.01f, 1, 1, state));
          },
          {{copy, n, LETHE_BF16}},
          static_cast<double>(n) * (4 + 4 + 4.0 * static_cast<double>(moment)) +
              (codes ? 16.0 : 0.0) * static_cast<double>(blocks),
          0};
}

Work gradient_norm_part(Device &d, int64_t n) {
  const lethe_ref g = d.normal(LETHE_F32, n, 1e-3f, 2), state = d.bytes(int64_t{LETHE_UPDATE_STATE} * 4);
  return {[=, &d] { require(lethe_gradient_norm_part(d.engine(), n, g, 1, 1, state)); },
          {{state, 3, LETHE_F32}},
          4.0 * static_cast<double>(n),
          0};
}

Work gradient_norm(Device &d, int64_t n) {
  const lethe_ref g = d.normal(LETHE_F32, n, 1e-3f, 2), state = d.bytes(int64_t{LETHE_UPDATE_STATE} * 4);
  return {[=, &d] { require(lethe_gradient_norm(d.engine(), n, g, 1, state)); },
          {{state, 3, LETHE_F32}},
          4.0 * static_cast<double>(n),
          0};
}

Work nf4(Device &d, int32_t dtype, int64_t n, bool quantize) {
  const int64_t block = 64, blocks = (n + block - 1) / block;
  const lethe_ref src = d.normal(dtype, n, 0.02f, 1), packed = d.bytes((n + 1) / 2), absmax = d.bytes(blocks * 4);
  const lethe_ref dst = d.bytes(n * element_bytes(dtype));
  const auto forth = [=, &d] { require(lethe_nf4_quantize(d.engine(), dtype, n, block, src, packed, absmax)); };
  const auto back = [=, &d] {
    require(lethe_nf4_dequantize(d.engine(), dtype, n, block, packed, absmax, 0, 0, 0, 0, dst));
  };
  const double bytes =
      static_cast<double>(n) * (static_cast<double>(element_bytes(dtype)) + 0.5) + 4.0 * static_cast<double>(blocks);
  forth();
  if (!quantize) return {back, {{dst, n, dtype}}, bytes, 0};
  return {forth, {{absmax, blocks, LETHE_F32}}, bytes, 0};
}

Work convert(Device &d, int64_t n, int32_t from, int32_t to) {
  const lethe_ref src = d.normal(from, n, 1, 1), dst = d.bytes(n * element_bytes(to));
  return {[=, &d] { require(lethe_convert(d.engine(), n, from, src, to, dst)); },
          {{dst, n, to}},
          static_cast<double>(n * (element_bytes(from) + element_bytes(to))),
          0};
}

Work random(Device &d, int32_t dtype, int64_t n) {
  const lethe_ref dst = d.bytes(n * element_bytes(dtype));
  return {[=, &d] { require(lethe_random_normal(d.engine(), dtype, n, 7, 0, 1, dst)); },
          {{dst, n, dtype}},
          static_cast<double>(n * element_bytes(dtype)),
          0};
}

Work zero(Device &d, int64_t bytes) {
  const lethe_ref dst = d.bytes(bytes);
  return {[=, &d] { require(lethe_zero(d.engine(), dst, bytes)); },
          {{dst, bytes / 4, LETHE_F32}},
          static_cast<double>(bytes),
          0};
}

Work head_mean(Device &d, int32_t dtype, int64_t width, int64_t V) {
  const lethe_ref w = d.normal(dtype, V * width, 1, 1), mean = d.bytes(width * 4);
  return {[=, &d] { require(lethe_head_mean(d.engine(), dtype, width, V, w, mean)); },
          {{mean, width, LETHE_F32}},
          static_cast<double>(V * width * element_bytes(dtype)),
          0};
}

// One head row for each source.
Work combine(Device &d, int32_t dtype, int64_t n, int64_t width, bool through_norm) {
  std::vector<int32_t> records;
  for (int64_t i = 0; i < n; ++i) records.insert(records.end(), {static_cast<int32_t>(i), 0, LETHE_ROW_NLL, -1, -1});
  const int64_t size = n * width * element_bytes(dtype);
  const lethe_ref table = d.ints(records), coefficient = d.constant(n, 0.5f);
  const lethe_ref dh_rows = d.normal(dtype, n * width, 1, 1), out = d.bytes(size);
  if (!through_norm) {
    return {[=, &d] { require(lethe_head_combine(d.engine(), dtype, n, n, width, table, coefficient, dh_rows, out)); },
            {{out, n * width, dtype}},
            2.0 * static_cast<double>(size),
            0};
  }
  const lethe_ref x = d.normal(dtype, n * width, 1, 2), w = d.normal(dtype, width, 1, 3), rstd = d.constant(n, 1);
  return {[=, &d] {
            require(lethe_head_norm_backward(d.engine(), dtype, LETHE_NORM_RMS, n, n, width, 0, table, coefficient,
                                             dh_rows, x, w, 0, rstd, out, 0, 0));
          },
          {{out, n * width, dtype}},
          3.0 * static_cast<double>(size),
          0};
}

}  // namespace

Work copy_work(Device &d, int64_t bytes) {
  const lethe_ref src = d.normal(LETHE_F32, bytes / 4, 1, 1), dst = d.bytes(bytes);
  return {[=, &d] { require(lethe_copy(d.engine(), dst, src, bytes)); },
          {{dst, bytes / 4, LETHE_F32}},
          2.0 * static_cast<double>(bytes),
          0};
}

std::vector<Case> memory_cases() {
  std::vector<Case> all;
  const auto add = [&all](const char *name, const char *names, int32_t dtype, const Sizes &small, const Sizes &full,
                          const Make &make) { all.push_back(make_case(name, names, dtype, small, full, make)); };
  for (const int32_t t : {LETHE_BF16, LETHE_F32}) {
    add("norm_forward rms", "# x #", t, {37, 300}, {32768, 4096},
        [t](Device &d, const Sizes &s) { return norm(d, t, LETHE_NORM_RMS, s[0], s[1], false); });
    add("norm_backward rms", "# x #", t, {37, 300}, {32768, 4096},
        [t](Device &d, const Sizes &s) { return norm(d, t, LETHE_NORM_RMS, s[0], s[1], true); });
    add("norm_forward layer", "# x #", t, {37, 300}, {32768, 4096},
        [t](Device &d, const Sizes &s) { return norm(d, t, LETHE_NORM_LAYER, s[0], s[1], false); });
    add("norm_backward layer", "# x #", t, {37, 300}, {32768, 4096},
        [t](Device &d, const Sizes &s) { return norm(d, t, LETHE_NORM_LAYER, s[0], s[1], true); });
    add("rotary", "# x # heads x #", t, {37, 3, 64}, {32768, 32, 128},
        [t](Device &d, const Sizes &s) { return rotary(d, t, s[0], s[1], s[2]); });
    add("gated_forward silu", "# x #", t, {37, 300}, {8192, 14336},
        [t](Device &d, const Sizes &s) { return gated(d, t, s[0], s[1], false); });
    add("gated_backward silu", "# x #", t, {37, 300}, {8192, 14336},
        [t](Device &d, const Sizes &s) { return gated(d, t, s[0], s[1], true); });
  }
  const int32_t t = LETHE_BF16;
  add("activation_forward gelu_tanh", "# x #", t, {37, 300}, {16384, 14336},
      [t](Device &d, const Sizes &s) { return activation(d, t, s[0], s[1], false); });
  add("activation_backward gelu_tanh", "# x #", t, {37, 300}, {16384, 14336},
      [t](Device &d, const Sizes &s) { return activation(d, t, s[0], s[1], true); });
  add("gather_rows", "# x #", t, {64, 300}, {32768, 4096},
      [t](Device &d, const Sizes &s) { return rows(d, t, s[0], s[1], false); });
  add("scatter_rows", "# x #", t, {64, 300}, {32768, 4096},
      [t](Device &d, const Sizes &s) { return rows(d, t, s[0], s[1], true); });
  add("embedding_forward", "# x #, V #", t, {37, 300, 50}, {32768, 4096, 128256},
      [t](Device &d, const Sizes &s) { return embedding(d, t, s[0], s[1], s[2], false); });
  add("embedding_backward", "# x #, V #", t, {37, 300, 50}, {32768, 4096, 32000},
      [t](Device &d, const Sizes &s) { return embedding(d, t, s[0], s[1], s[2], true); });
  add("adamw", "# parameters", t, {3001}, {40000000}, [t](Device &d, const Sizes &s) { return adamw(d, t, s[0]); });
  add("gradient_norm", "# parameters", LETHE_F32, {3001}, {80000000},
      [](Device &d, const Sizes &s) { return gradient_norm(d, s[0]); });
  add("adamw_part", "# parameters, no master", LETHE_BF16, {3001}, {200000000},
      [](Device &d, const Sizes &s) { return adamw_part(d, s[0], false); });
  add("adamw_part", "# parameters, no master, 8-bit moments", LETHE_BF16, {3001}, {200000000},
      [](Device &d, const Sizes &s) { return adamw_part(d, s[0], true); });
  add("gradient_norm_part", "# parameters", LETHE_F32, {3001}, {200000000},
      [](Device &d, const Sizes &s) { return gradient_norm_part(d, s[0]); });
  add("nf4_dequantize", "# numbers", t, {4099}, {int64_t{4096} * 4096},
      [t](Device &d, const Sizes &s) { return nf4(d, t, s[0], false); });
  add("nf4_dequantize", "# numbers", t, {4099}, {int64_t{4096} * 32768},
      [t](Device &d, const Sizes &s) { return nf4(d, t, s[0], false); });
  add("nf4_quantize", "# numbers", t, {4099}, {int64_t{4096} * 32768},
      [t](Device &d, const Sizes &s) { return nf4(d, t, s[0], true); });
  add("convert", "# numbers, fp32 to bf16", t, {4099}, {int64_t{1} << 27},
      [](Device &d, const Sizes &s) { return convert(d, s[0], LETHE_F32, LETHE_BF16); });
  add("random_normal", "# numbers", t, {4099}, {int64_t{1} << 28},
      [t](Device &d, const Sizes &s) { return random(d, t, s[0]); });
  add("zero", "# bytes", LETHE_F32, {4096}, {int64_t{1} << 29},
      [](Device &d, const Sizes &s) { return zero(d, s[0]); });
  add("head_mean", "d #, V #", t, {300, 500}, {4096, 128256},
      [t](Device &d, const Sizes &s) { return head_mean(d, t, s[0], s[1]); });
  add("head_combine", "# x #", t, {37, 300}, {32768, 4096},
      [t](Device &d, const Sizes &s) { return combine(d, t, s[0], s[1], false); });
  add("head_norm_backward", "# x #", t, {37, 300}, {32768, 4096},
      [t](Device &d, const Sizes &s) { return combine(d, t, s[0], s[1], true); });
  return all;
}

}  // namespace lethe::bench
