// Linears: alone, and with adapters in the plain form (U, then U B^T, then the product with W) and the augmented one
// (U, then [x | U] [W | B]^T; backward [dy | dU] over W and A).
#include <algorithm>

#include "cases.h"

namespace lethe::bench {

namespace {

// parts: the widths of the outputs that have an adapter each, of `rank` ranks; rank 0: none has one.
struct LinearShape {
  int64_t T, in, rank;
  std::vector<int64_t> parts;
  bool backward, augmented;
  bool nf4 = false;  // the weight stays in 4-bit codes

  int64_t out() const {
    int64_t sum = 0;
    for (const int64_t part : parts) sum += part;
    return sum;
  }
  int64_t adapters() const { return rank > 0 ? static_cast<int64_t>(parts.size()) : 0; }
  int64_t total_rank() const { return rank * adapters(); }
  // Columns and rows for the adapters; the CPU has the plain form alone, and is what the other is compared with.
  int64_t room(const Device &d) const { return augmented && !d.is_cpu() ? (total_rank() + 15) / 16 * 16 : 0; }
};

lethe_linear weight_in_codes(Device &d, int32_t dtype, const LinearShape &s) {
  constexpr int64_t kBlock = 64;
  const int64_t n = s.out() * s.in, blocks = (n + kBlock - 1) / kBlock;
  std::vector<int32_t> codes(static_cast<size_t>(n / 8 + 1));
  uint32_t state = 1;  // Knuth's linear congruential generator
  for (int32_t &eight : codes) {
    state = state * 1664525u + 1013904223u;
    eight = static_cast<int32_t>(state ^ state >> 16);
  }
  const lethe_ref packed = d.ints(codes), scales = d.normal(LETHE_F32, blocks, 0.02f, 1);
  const int64_t room = s.room(d), stride = s.in + room;
  const lethe_ref scratch = d.bytes((s.out() + room) * stride * element_bytes(dtype));
  lethe_linear handle = 0;
  require(lethe_linear_create_nf4_strided(d.engine(), dtype, s.out(), s.in, stride, room, kBlock, scratch, 0, &handle));
  require(lethe_linear_nf4_part(d.engine(), handle, 0, s.out(), packed, scales, 0, 0, 0, 0));
  return handle;
}

// The linear, its weight packed or, for the augmented form, with room for its adapters.
lethe_linear make_linear(Device &d, int32_t dtype, const LinearShape &s) {
  if (s.nf4) return weight_in_codes(d, dtype, s);
  const int64_t out = s.out(), room = s.room(d), stride = s.in + room;
  lethe_linear handle = 0;
  if (room == 0) {
    const lethe_ref w = d.normal(dtype, out * s.in, 0.02f, 1);
    require(lethe_linear_create(d.engine(), dtype, out, s.in, w, 0, 0, 0, &handle));
    return handle;
  }
  const lethe_ref packed = d.normal(dtype, out * s.in, 0.02f, 1);
  const lethe_ref w = d.bytes((out + room) * stride * element_bytes(dtype));
  std::vector<int32_t> rows(static_cast<size_t>(out));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  require(lethe_gather_rows(d.engine(), dtype, out, s.in, out, packed, s.in, d.ints(rows), w, stride));
  require(lethe_linear_create_strided(d.engine(), dtype, out, s.in, stride, room, w, 0, &handle));
  return handle;
}

Work linear(Device &d, int32_t dtype, const LinearShape &s) {
  const int64_t size = element_bytes(dtype), out = s.out(), R = s.total_rank();
  const lethe_linear handle = make_linear(d, dtype, s);
  const lethe_ref x = d.normal(dtype, s.T * s.in, 1, 2), y = d.bytes(s.T * out * size);
  const int64_t adapted = R > 0 ? s.T : 0;
  std::vector<Output> gradients;
  double rank_flops = 0;
  lethe_ref u = 0, du = 0;
  if (R > 0) {
    // As a model lays them out: all A, then all B.
    const lethe_ref a = d.normal(dtype, R * s.in, 0.02f, 3), b = d.normal(dtype, out * s.rank, 0.02f, 4);
    const lethe_ref da = d.bytes(R * s.in * 4), db = d.bytes(out * s.rank * 4);
    u = d.bytes(s.T * R * size);
    du = d.bytes(s.T * R * size);
    int64_t first = 0, row = 0;
    for (const int64_t part : s.parts) {
      const auto above = static_cast<lethe_ref>(row * s.in), before = static_cast<lethe_ref>(first * s.rank);
      const auto bytes = static_cast<lethe_ref>(size);
      require(lethe_linear_adapter(d.engine(), handle, first, part, s.rank, 2, 0, 0, a + above * bytes,
                                   b + before * bytes, da + above * 4, db + before * 4));
      rank_flops += 2.0 * static_cast<double>(s.T * s.rank * (part + s.in));
      first += part;
      row += s.rank;
    }
    gradients = {{da, R * s.in, LETHE_F32}, {db, out * s.rank, LETHE_F32}};
  }
  const auto forward = [=, &d] { require(lethe_linear_forward(d.engine(), handle, s.T, adapted, x, 0, y, 0, u)); };
  const auto t = static_cast<double>(s.T), outputs = static_cast<double>(out), in = static_cast<double>(s.in);
  const double least = static_cast<double>(size) * (t * in + t * outputs + outputs * in);
  const double flops = 2 * t * outputs * in;
  if (!s.backward) return {forward, {{y, s.T * out, dtype}}, least, flops + rank_flops, {{s.T, out, s.in}}};
  forward();
  const lethe_ref dy = d.normal(dtype, s.T * out, 1, 5), dx = d.bytes(s.T * s.in * size);
  std::vector<Output> all = {{dx, s.T * s.in, dtype}};
  all.insert(all.end(), gradients.begin(), gradients.end());
  return {[=, &d] { require(lethe_linear_backward(d.engine(), handle, s.T, x, u, dy, 0, du, dx)); },
          all,
          least,
          flops + 2 * rank_flops,
          {{s.T, s.in, out}}};
}

constexpr int64_t kFewestRows = 512;

std::string text_of(const LinearShape &s) {
  std::string text = std::to_string(s.T) + " x " + std::to_string(s.in) + " to ";
  for (size_t i = 0; i < s.parts.size(); ++i) text += (i == 0 ? "" : "+") + std::to_string(s.parts[i]);
  return s.rank > 0 ? text + ", r " + std::to_string(s.rank) : text;
}

void add(std::vector<Case> *all, const std::string &name, const LinearShape &full) {
  LinearShape small = full;
  small.T = 37;
  small.in = 100;
  small.rank = std::min<int64_t>(full.rank, 12);
  for (int64_t &part : small.parts) part = part / 1024 * 8 + 3;
  all->push_back({name, text_of(full), LETHE_BF16, Ceiling::kProducts, 0,
                  [small](Device &d) { return linear(d, LETHE_BF16, small); },
                  [full](Device &d) { return linear(d, LETHE_BF16, full); }, full.T > kFewestRows});
}

}  // namespace

Work plain_linear(Device &d, int32_t dtype, int64_t rows, int64_t out, int64_t in) {
  return linear(d, dtype, {rows, in, 0, {out}, false, false});
}

std::vector<Case> linear_cases(bool augmented) {
  std::vector<Case> all;
  for (const int64_t out : {4096, 14336}) {
    for (const int64_t rows : {kFewestRows, int64_t{2048}, int64_t{8192}}) {
      for (const bool backward : {false, true}) {
        add(&all, backward ? "linear_backward" : "linear_forward", {rows, 4096, 0, {out}, backward, false});
      }
    }
  }
  // Skinny products alone, as U would be if its sum were not split.
  for (const int64_t in : {4096, 14336}) {
    for (const int64_t rows : {kFewestRows, int64_t{2048}, int64_t{8192}})
      add(&all, "linear_forward", {rows, in, 0, {16}, false, false});
  }
  // Beside the plain ones of the same shapes.
  for (const int64_t rows : {kFewestRows, int64_t{2048}}) {
    for (const bool backward : {false, true}) {
      const std::string name = backward ? "linear_nf4_backward" : "linear_nf4_forward";
      add(&all, name, {rows, 4096, 8, {14336}, backward, false, true});
      if (augmented) add(&all, name + " augmented", {rows, 4096, 8, {14336}, backward, true, true});
    }
  }
  // One adapter each, then those of q, k, v and of gate, up.
  const struct {
    int64_t in;
    std::vector<int64_t> parts, ranks;
  } shapes[] = {{4096, {4096}, {8, 16, 64}},      {4096, {1024}, {8, 16, 64}}, {4096, {14336}, {8, 16, 64}},
                {14336, {4096}, {8, 16, 64}},     {2048, {8192}, {8, 16, 64}}, {4096, {4096, 1024, 1024}, {16}},
                {4096, {4096, 4096, 4096}, {16}}, {4096, {14336, 14336}, {16}}};
  for (const auto &shape : shapes) {
    for (const int64_t rows : {kFewestRows, int64_t{2048}, int64_t{8192}}) {
      for (const int64_t rank : shape.ranks) {
        for (const bool backward : {false, true}) {
          const std::string name = backward ? "lora_backward " : "lora_forward ";
          add(&all, name + "plain", {rows, shape.in, rank, shape.parts, backward, false});
          if (augmented) add(&all, name + "augmented", {rows, shape.in, rank, shape.parts, backward, true});
        }
      }
    }
  }
  return all;
}

}  // namespace lethe::bench
