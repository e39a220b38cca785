// Ops that matrix products bound: attention and the head.
#include <algorithm>

#include "cases.h"

namespace lethe::bench {

namespace {

constexpr int64_t kLargeVocabulary = 128256;

// What is asked of the head at a shape, as a share of its products: of the plain form, and of the fused one, which has
// no row kernel beside them.
struct HeadLimit {
  int64_t n, width, V;
  double plain, fused;
};
constexpr HeadLimit kHeads[] = {{8192, 4096, kLargeVocabulary, 0.90, 0.90},
                                {4096, 4096, 32000, 0.85, 0.85},
                                {8192, 2048, kLargeVocabulary, 0.82, 0.90}};

struct AttentionShape {
  int64_t T, length, heads, kv_heads, head_dim;
  bool backward;
};

Work attention(Device &d, int32_t dtype, const AttentionShape &s) {
  const int64_t size = element_bytes(dtype), q_width = s.heads * s.head_dim, k_width = s.kv_heads * s.head_dim;
  std::vector<int32_t> table;
  double pairs = 0;
  for (int64_t first = 0; first < s.T; first += s.length) {
    const int64_t n = std::min(s.length, s.T - first);
    const auto at = static_cast<int32_t>(first), count = static_cast<int32_t>(n);
    table.insert(table.end(), {at, count, at, count, 0, 0});
    pairs += static_cast<double>(n) * static_cast<double>(n + 1) / 2;
  }
  const auto segments = static_cast<int64_t>(table.size() / LETHE_SEGMENT_FIELDS);
  const lethe_ref segment_table = d.ints(table);
  const lethe_ref q = d.normal(dtype, s.T * q_width, 1, 1), k = d.normal(dtype, s.T * k_width, 1, 2);
  const lethe_ref v = d.normal(dtype, s.T * k_width, 1, 3), out = d.bytes(s.T * q_width * size);
  const lethe_ref lse = d.bytes(s.T * s.heads * 4);
  const float scale = 0.08838835f;
  const auto forward = [=, &d] {
    require(lethe_attention_forward(d.engine(), dtype, s.heads, s.kv_heads, s.head_dim, scale, 0, 0, segments,
                                    segment_table, s.T, q, q_width, s.T, k, k_width, v, k_width, out, lse));
  };
  const double product = 2 * pairs * static_cast<double>(q_width);
  const auto least = static_cast<double>(size * s.T * 2 * (q_width + k_width));
  const std::vector<std::vector<int64_t>> dense = {{s.T, q_width, q_width}};
  if (!s.backward) return {forward, {{out, s.T * q_width, dtype}}, least, 2 * product, dense};
  forward();
  const lethe_ref dout = d.normal(dtype, s.T * q_width, 1, 4), dq = d.bytes(s.T * q_width * size);
  const lethe_ref dk = d.bytes(s.T * k_width * size), dv = d.bytes(s.T * k_width * size);
  return {[=, &d] {
            require(lethe_attention_backward(d.engine(), dtype, s.heads, s.kv_heads, s.head_dim, scale, 0, 0, segments,
                                             segment_table, s.T, q, q_width, s.T, k, k_width, v, k_width, out, lse,
                                             dout, dq, dk, dv));
          },
          {{dq, s.T * q_width, dtype}, {dk, s.T * k_width, dtype}, {dv, s.T * k_width, dtype}},
          2 * least,
          5 * product,
          dense};
}

struct HeadShape {
  int64_t n, width, V;
  std::vector<int32_t> kinds;  // in turn
  bool tuned = false;          // with the chunk and the tiles that measuring takes
};

Work head(Device &d, int32_t dtype, const HeadShape &s) {
  const int64_t size = element_bytes(dtype);
  std::vector<int32_t> records;
  int64_t references = 0;
  for (int64_t i = 0; i < s.n; ++i) {
    const int32_t kind = s.kinds[static_cast<size_t>(i) % s.kinds.size()];
    const bool reference = kind == LETHE_ROW_REFERENCE_KL || kind == LETHE_ROW_KL_REFERENCE;
    // The reference's states stand behind the model's own, as in a batch.
    records.insert(records.end(), {static_cast<int32_t>(i), static_cast<int32_t>((i * 7919) % s.V), kind,
                                   reference ? static_cast<int32_t>(s.n + references) : -1, -1});
    references += reference ? 1 : 0;
  }
  const int64_t sources = s.n + references;
  int64_t least = 0, most = 0;
  require(lethe_head_workspace(d.engine(), dtype, s.n, s.width, s.V, &least, &most));
  const int64_t workspace_bytes = std::max(least, std::min(most, int64_t{4} << 30));
  const lethe_ref h = d.normal(dtype, sources * s.width, 1, 1), w = d.normal(dtype, s.V * s.width, 0.02f, 2);
  const lethe_ref mean = d.bytes(s.width * 4), rows = d.ints(records), stats = d.bytes(s.n * LETHE_STATISTICS * 4);
  const lethe_ref dh = d.bytes(s.n * s.width * size), workspace = d.bytes(workspace_bytes);
  require(lethe_head_mean(d.engine(), dtype, s.width, s.V, w, mean));
  // The CPU, which numbers are compared with, has nothing to tune.
  if (s.tuned && !d.is_cpu()) {
    int64_t chunk = 0;
    require(lethe_head_tune(d.engine(), dtype, s.n, sources, s.width, s.V, references, 0, h, w, 0, 0, mean, rows, 0,
                            stats, dh, workspace, workspace_bytes, &chunk));
  }
  const double product = 2 * static_cast<double>(s.width) * static_cast<double>(s.V);
  return {[=, &d] {
            require(lethe_head_forward(d.engine(), dtype, s.n, sources, s.width, s.V, references, 0, h, w, 0, 0, mean,
                                       rows, 0, stats, dh, workspace, workspace_bytes));
          },
          {{dh, s.n * s.width, dtype}},
          static_cast<double>(size * s.V * s.width),
          product * static_cast<double>(2 * s.n + references),
          {{0, s.V, s.width}, {0, s.width, s.V}}};
}

void add_attention(std::vector<Case> *all) {
  for (const int64_t length : {100, 2048}) {
    for (const bool backward : {false, true}) {
      const AttentionShape full = {8192, length, 32, 8, 128, backward}, small = {90, length / 4, 4, 2, 64, backward};
      all->push_back({backward ? "attention_backward" : "attention_forward",
                      "8192 tokens in " + std::to_string(length) + "s, 32 heads x 128, 8 of keys", LETHE_BF16,
                      Ceiling::kProducts, 0, [small](Device &d) { return attention(d, LETHE_BF16, small); },
                      [full](Device &d) { return attention(d, LETHE_BF16, full); }});
    }
  }
}

void add_heads(std::vector<Case> *all, bool forms) {
  const struct {
    const char *name;
    std::vector<int32_t> kinds;
  } losses[] = {{"head ME", {LETHE_ROW_UNIFORM_KL}},
                {"head NLL", {LETHE_ROW_NLL}},
                {"head KL", {LETHE_ROW_REFERENCE_KL}},
                {"head mixed", {LETHE_ROW_NLL, LETHE_ROW_UNIFORM_KL, LETHE_ROW_REFERENCE_KL, LETHE_ROW_STATISTICS}}};
  for (const HeadLimit &shape : kHeads) {
    for (const auto &loss : losses) {
      const HeadShape full = {shape.n, shape.width, shape.V, loss.kinds}, small = {13, 72, 1003, loss.kinds};
      all->push_back(
          {loss.name,
           std::to_string(full.n) + " rows, d " + std::to_string(full.width) + ", V " + std::to_string(full.V),
           LETHE_BF16, Ceiling::kProducts, shape.plain, [small](Device &d) { return head(d, LETHE_BF16, small); },
           [full](Device &d) { return head(d, LETHE_BF16, full); }});
      const Case plain = all->back();
      // Measuring takes some ninety passes: of one loss alone, and of all kinds of rows together.
      if (forms && (loss.kinds == losses[1].kinds || loss.kinds == losses[3].kinds)) {
        HeadShape tuned = full, tuned_small = small;
        tuned.tuned = tuned_small.tuned = true;
        Case other = plain;
        other.name += " tuned";
        // An engine of its own: the others' passes are not tuned.
        other.variable = "LETHE_HEAD_FORM";
        other.form = "plain";
        other.small = [tuned_small](Device &d) { return head(d, LETHE_BF16, tuned_small); };
        other.full = [tuned](Device &d) { return head(d, LETHE_BF16, tuned); };
        all->push_back(std::move(other));
      }
      // The fused form has no reference rows; below and beyond compute capability 9.0 the two are one.
      if (!forms || (loss.kinds != losses[0].kinds && loss.kinds != losses[1].kinds)) continue;
      for (const char *form : {"fused", "fused_mma"}) {
        Case other = plain;
        other.name += std::string(" ") + form;
        // On compute capability 9.0 the other is there to be compared with.
        other.limit = std::string(form) == "fused" ? shape.fused : 0;
        other.variable = "LETHE_HEAD_FORM";
        other.form = form;
        // No product is the library's, whose rows could be seen: those of a chunk, about.
        other.full = [full](Device &d) {
          Work work = head(d, LETHE_BF16, full);
          for (std::vector<int64_t> &product : work.products) product[0] = std::min<int64_t>(full.n, 2048);
          return work;
        };
        all->push_back(std::move(other));
      }
    }
  }
}

// Few columns of hidden states: the products are little beside the row kernel, the same for both of its forms.
void add_head_rows(std::vector<Case> *all) {
  for (const int64_t V : {int64_t{32000}, int64_t{50257}, kLargeVocabulary, int64_t{256000}}) {
    for (const char *form : {"two_looks", "on_chip"}) {
      for (const int32_t kind : {LETHE_ROW_UNIFORM_KL, LETHE_ROW_REFERENCE_KL}) {
        if (V == 256000 && kind == LETHE_ROW_REFERENCE_KL)
          continue;  // both rows are more than eight blocks have anywhere
        const HeadShape full = {1024, 64, V, {kind}}, small = {13, 64, 1003, {kind}};
        all->push_back(
            {std::string("head_rows ") + form,
             std::string(kind == LETHE_ROW_UNIFORM_KL ? "ME" : "KL") + ", 1024 rows, d 64, V " + std::to_string(V),
             LETHE_BF16, Ceiling::kNone, 0, [small](Device &d) { return head(d, LETHE_BF16, small); },
             [full](Device &d) { return head(d, LETHE_BF16, full); }, V != 32000, "LETHE_HEAD_ROWS", form});
      }
    }
  }
}

}  // namespace

std::vector<Case> matrix_cases(bool forms) {
  std::vector<Case> all;
  add_heads(&all, forms);
  if (forms) add_head_rows(&all);
  add_attention(&all);
  return all;
}

}  // namespace lethe::bench
