// The head's fused form (LETHE_HEAD_FORM=fused; cuda/head_fused.cuh) against the twin in fp64, and beside the plain
// form: flat and peaky logits, tails in every dimension, any chunks, kinds that it does not have, passes that cannot
// take it. By products of a warp, and by those of a warpgroup where the device has them.
// head_fused_test PLUGIN_DIR BACKEND.
#include "head_fused_bounds.h"

namespace lethe::test {
namespace {

void gradients_match_the_twin(Engine *fused, Engine *plain, int64_t n, int64_t d, int64_t V, const Look &look,
                              bool bias) {
  const Problem p = make_fused(fused, LETHE_BF16, n, d, V, look, bias);
  const Result all = forward(fused, p, 1);
  const Errors errors = check_rows(p, all, true);
  const Problem q = make_fused(plain, LETHE_BF16, n, d, V, look, bias);
  const Errors beside = check_rows(q, forward(plain, q, 1), false);
  std::printf("%s, d %ld, V %ld%s: NLL %.2e (plain %.2e), UNIFORM_KL %.2e (%.2e), LOGIT_MARGIN %.2e (%.2e)\n",
              look.name, static_cast<long>(d), static_cast<long>(V), bias ? ", bias" : "", errors.of[LETHE_ROW_NLL],
              beside.of[LETHE_ROW_NLL], errors.of[LETHE_ROW_UNIFORM_KL], beside.of[LETHE_ROW_UNIFORM_KL],
              errors.of[LETHE_ROW_LOGIT_MARGIN], beside.of[LETHE_ROW_LOGIT_MARGIN]);
  drop(fused, p);
  drop(plain, q);
}

// Launches of one of the form's kernels; those by products of a warpgroup have names of their own.
int count_fused(const std::string &records, const char *name) {
  return count(records, std::string("head_fused_") + name) + count(records, std::string("head_fused_wgmma_") + name);
}

// Whatever the chunks, and in a second run.
void bits_depend_on_nothing(Engine *e, int64_t n, int64_t d, int64_t V) {
  const Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[4], true);
  const Result all = forward(e, p, 1);
  EXPECT(all.status == LETHE_OK && same_bits(all, forward(e, p, 1)));
  EXPECT(same_bits(all, forward(e, p, 0.4)));
  Result first = forward(e, p, 0, 3);
  Result head = all;
  head.stats.resize(first.stats.size());
  head.dh_rows.resize(first.dh_rows.size());
  EXPECT(same_bits(head, first));
  EXPECT(lethe_head_set_chunk(e->engine, LETHE_BF16, d, V, n / 2) == LETHE_OK);
  Result halves;
  const std::string records = recorded(e, [&] { halves = forward(e, p, 1); });
  EXPECT(same_bits(all, halves));
  const int chunks = 2 + static_cast<int>(n % 2);
  EXPECT(count_fused(records, "labels") == 1 && count(records, "head_gather") == chunks &&
         count_fused(records, "logits") == chunks && count_fused(records, "rows") == chunks &&
         count_fused(records, "gradient") == chunks && count(records, "head_rows") == 0);
  EXPECT(lethe_head_set_chunk(e->engine, LETHE_BF16, d, V, 0) == LETHE_OK);
  // Statistics alone: the same ones, by one product.
  Result statistics;
  const std::string alone = recorded(e, [&] { statistics = forward(e, p, 1, -1, false); });
  EXPECT(statistics.stats == all.stats && count_fused(alone, "gradient") == 0);
  EXPECT(count_fused(alone, "logits") == 1);
  drop(e, p);
}

// Logits that tie with the label's are not above it, and the first of the largest is the argmax, across tiles.
void ties_are_ties(Engine *e) {
  const int64_t n = 5, d = 72, V = 700;
  Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[4], false);
  std::vector<float> w = p.w.values;
  for (const int64_t v : {int64_t{100}, int64_t{300}, int64_t{699}}) {
    std::copy_n(w.begin() + 7 * d, d, w.begin() + v * d);
  }
  e->drop({p.w.ref, p.rows, p.row_params, p.mean});
  p.w = store(e, LETHE_BF16, w);
  const int32_t labels[] = {7, 100, 300, 699, 7};
  for (size_t i = 0; i < 5; ++i) p.records[i * LETHE_ROW_FIELDS + 1] = labels[i];
  // h along that row of W: its logit is the largest.
  std::vector<float> h;
  for (int64_t i = 0; i < n; ++i) h.insert(h.end(), w.begin() + 7 * d, w.begin() + 8 * d);
  e->drop({p.h.ref});
  p.h = store(e, LETHE_BF16, h);
  p.rows = e->put(p.records);
  p.row_params = e->put(p.params);
  p.mean = e->put(std::vector<float>(static_cast<size_t>(d)));
  EXPECT(lethe_head_mean(e->engine, LETHE_BF16, d, V, p.w.ref, p.mean) == LETHE_OK);
  const Result seen = forward(e, p, 1);
  for (int64_t i = 0; i < n; ++i) {
    const float *stats = seen.stats.data() + i * LETHE_STATISTICS;
    EXPECT(stats[LETHE_STAT_RANK] == 0 && stats[LETHE_STAT_ARGMAX] == 7);
    EXPECT(stats[LETHE_STAT_LABEL] == stats[LETHE_STAT_MAX]);
  }
  drop(e, p);
}

// Rows that cannot have a softmax say so as in the plain form; single logits of -inf are probabilities of 0.
void broken_rows_are_nan(Engine *fused, Engine *plain) {
  const float infinity = std::numeric_limits<float>::infinity();
  const int64_t n = 8, d = 16, V = 300;
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity};
  for (int which = 0; which < 4; ++which) {
    Result seen[2];
    for (Engine *e : {fused, plain}) {
      Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[2], true);
      std::vector<float> bias = p.bias.values;
      if (which < 3) bias[270] = bad[which];
      if (which == 3) std::fill(bias.begin(), bias.end(), -infinity);
      e->drop({p.bias.ref});
      p.bias = store(e, LETHE_BF16, bias);
      seen[e == fused ? 0 : 1] = forward(e, p, 1);
      drop(e, p);
    }
    EXPECT(seen[0].status == LETHE_OK && seen[1].status == LETHE_OK);
    for (int64_t i = 0; i < n; ++i) {
      const bool statistics = kFusedKinds[i % 4] == LETHE_ROW_STATISTICS;
      for (int64_t j = 0; j < d; ++j) {
        const float x = seen[0].dh_rows[static_cast<size_t>(i * d + j)];
        EXPECT(statistics ? x == 0 : std::isnan(x) == (which != 2));
      }
      for (const int s : {LETHE_STAT_LSE, LETHE_STAT_LSE_OTHERS, LETHE_STAT_EZ, LETHE_STAT_MAX, LETHE_STAT_ELOG2}) {
        const auto at = static_cast<size_t>(i * LETHE_STATISTICS + s);
        EXPECT(std::isnan(seen[0].stats[at]) == std::isnan(seen[1].stats[at]));
        EXPECT(std::isnan(seen[0].stats[at]) == (which != 2));
      }
    }
  }
}

// Kinds that need more are refused by name, and nothing is written.
void other_kinds_are_refused(Engine *e) {
  const Problem p = make_fused(e, LETHE_BF16, 9, 24, 130, kLooks[2], false);
  std::string trace;
  const auto with = [&](int kind, float epsilon, int32_t source, bool gradient) {
    std::vector<int32_t> records = p.records;
    std::vector<float> params = p.params;
    records[4 * LETHE_ROW_FIELDS] = source;
    records[4 * LETHE_ROW_FIELDS + 2] = kind;
    params[4 * LETHE_ROW_PARAMS + 3] = epsilon;
    Problem changed = p;
    changed.rows = e->put(records);
    changed.row_params = e->put(params);
    Result result = forward(e, changed, 1, -1, gradient);
    e->drop({changed.rows, changed.row_params});
    const auto before = [](const std::vector<float> &x) {
      return std::all_of(x.begin(), x.end(), [](float v) { return v == kBefore; });
    };
    if (result.status != LETHE_OK) EXPECT(before(result.stats) && before(result.dh_rows));
    trace = result.trace;
    return result.status;
  };
  const auto says = [&](const char *what) { return trace.find(what) != std::string::npos; };
  EXPECT(with(LETHE_ROW_KL_UNIFORM, 0, 4, true) == LETHE_UNSUPPORTED &&
         says("row 4: LETHE_ROW_KL_UNIFORM has no fused form; unset LETHE_HEAD_FORM"));
  EXPECT(with(LETHE_ROW_UNIFORM_KL_EPS, 1e-3f, 4, true) == LETHE_UNSUPPORTED &&
         says("row 4: LETHE_ROW_UNIFORM_KL_EPS has no fused form; unset LETHE_HEAD_FORM"));
  EXPECT(with(LETHE_ROW_KL_UNIFORM, 0, 4, false) == LETHE_OK);
  EXPECT(with(LETHE_ROW_UNIFORM_KL_EPS, 1e-3f, 4, false) == LETHE_UNSUPPORTED);
  EXPECT(with(LETHE_ROW_KL_UNIFORM, 0, 99, true) == LETHE_OUT_OF_BOUNDS && says("row 4: source 99"));
  EXPECT(with(LETHE_ROW_NLL, 0, 4, true) == LETHE_OK);
  drop(e, p);
}

// Passes that the form has no place for take the plain one; of a mixed batch, the rows with a reference do.
void the_form_is_chosen(Engine *e) {
  const auto launched = [&](const Problem &p) {
    Result result;
    const std::string records = recorded(e, [&] { result = forward(e, p, 1); });
    EXPECT(result.status == LETHE_OK);
    EXPECT((count_fused(records, "logits") > 0) != (count(records, "head_rows") > 0));
    return count_fused(records, "logits");
  };
  for (const int32_t dtype : {LETHE_F32, LETHE_BF16}) {
    for (const int64_t d : {24, 20}) {
      Problem p = make_fused(e, dtype, 6, d, 150, kLooks[2], false);
      EXPECT(launched(p) == (dtype == LETHE_BF16 && d == 24 ? 1 : 0));
      p.soft_cap = 20;
      EXPECT(launched(p) == 0);
      p.soft_cap = 0;
      const lethe_ref mean = p.mean;
      p.mean = 0;
      EXPECT(launched(p) == 0);
      p.mean = mean;
      drop(e, p);
    }
  }
  Problem p = make_problem(e, LETHE_BF16, 24, 16, 140, true, kPlain);
  for (size_t i = 0; i < 24; ++i) {
    int32_t &kind = p.records[i * LETHE_ROW_FIELDS + 2];
    if (kind == LETHE_ROW_KL_UNIFORM || kind == LETHE_ROW_UNIFORM_KL_EPS) kind = LETHE_ROW_NLL;
    p.params[i * LETHE_ROW_PARAMS + 3] = 0;
  }
  e->drop({p.rows, p.row_params});
  p.rows = e->put(p.records);
  p.row_params = e->put(p.params);
  Result mixed;
  const std::string records = recorded(e, [&] { mixed = forward(e, p, 1); });
  EXPECT(mixed.status == LETHE_OK && count_fused(records, "logits") == 1 && count(records, "head_rows") == 1);
  for (int64_t i = 0; i < p.n; ++i) {
    std::vector<double> dh;
    const HeadTwin twin = twin_of(p, i, &dh);
    const std::vector<float> seen(mixed.dh_rows.begin() + i * p.d, mixed.dh_rows.begin() + (i + 1) * p.d);
    // Of rows with a reference, the difference is rounded to bf16 besides.
    EXPECT(distance(seen, dh) <= 8 * tolerance::kBf16Unit);
  }
  drop(e, p);
}

// Off 16 bytes: h and w decide the form, dh_rows may lie anywhere.
void operands_lie_anywhere(Engine *e) {
  const int64_t n = 6, d = 24, V = 150;
  const Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[4], false);
  const Result all = forward(e, p, 1);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, LETHE_BF16, n, d, V, &least, &most) == LETHE_OK);
  const auto copied = [&](lethe_ref from, int64_t elements) {
    const lethe_ref buffer = e->put(std::vector<uint16_t>(static_cast<size_t>(elements + 1)));
    EXPECT(lethe_copy(e->engine, buffer + 2, from, elements * 2) == LETHE_OK);
    return buffer;
  };
  const lethe_ref stats = e->put(std::vector<float>(static_cast<size_t>(n * LETHE_STATISTICS)));
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(most + 3)));
  const lethe_ref h = copied(p.h.ref, n * d), w = copied(p.w.ref, V * d), dh = copied(p.h.ref, n * d);
  const auto run = [&](lethe_ref h_at, lethe_ref w_at) {
    return recorded(e, [&] {
      EXPECT(lethe_head_forward(e->engine, LETHE_BF16, n, n, d, V, 0, 0, h_at, w_at, 0, 0, p.mean, p.rows, p.row_params,
                                stats, dh + 2, workspace + 3, most) == LETHE_OK);
    });
  };
  EXPECT(count_fused(run(h + 2, p.w.ref), "logits") == 0);
  EXPECT(count_fused(run(p.h.ref, w + 2), "logits") == 0);
  EXPECT(count_fused(run(p.h.ref, p.w.ref), "logits") == 1);
  const lethe_ref aligned = e->put(std::vector<uint16_t>(static_cast<size_t>(n * d)));
  EXPECT(lethe_copy(e->engine, aligned, dh + 2, n * d * 2) == LETHE_OK);
  EXPECT(load(e, LETHE_BF16, aligned, static_cast<size_t>(n * d)) == all.dh_rows);
  e->drop({stats, workspace, h, w, dh, aligned});
  drop(e, p);
}

// What a launch is told of its boxes by value is in a graph, too.
void a_graph_holds_a_pass(Engine *e) {
  const int64_t n = 9, d = 72, V = 600;
  const Problem p = make_fused(e, LETHE_BF16, n, d, V, kLooks[4], true);
  const Result all = forward(e, p, 1);
  int64_t least = 0, most = 0;
  EXPECT(lethe_head_workspace(e->engine, LETHE_BF16, n, d, V, &least, &most) == LETHE_OK);
  const lethe_ref stats = e->put(std::vector<float>(static_cast<size_t>(n * LETHE_STATISTICS), kBefore));
  const lethe_ref dh = e->put(std::vector<uint16_t>(static_cast<size_t>(n * d)));
  const lethe_ref workspace = e->put(std::vector<char>(static_cast<size_t>(most)));
  lethe_graph graph = 0;
  EXPECT(lethe_graph_begin(e->engine) == LETHE_OK);
  EXPECT(lethe_head_forward(e->engine, LETHE_BF16, n, n, d, V, 0, 0, p.h.ref, p.w.ref, p.bias.ref, 0, p.mean, p.rows,
                            p.row_params, stats, dh, workspace, most) == LETHE_OK);
  EXPECT(lethe_graph_end(e->engine, &graph) == LETHE_OK);
  EXPECT(lethe_graph_launch(e->engine, graph) == LETHE_OK);
  EXPECT(e->get<float>(stats, all.stats.size()) == all.stats);
  EXPECT(load(e, LETHE_BF16, dh, all.dh_rows.size()) == all.dh_rows);
  EXPECT(lethe_graph_close(e->engine, graph) == LETHE_OK);
  e->drop({stats, dh, workspace});
  drop(e, p);
}

std::string described(const Engine &e) {
  if (e.status != LETHE_OK) return std::to_string(e.status) + lethe_error_trace();
  std::string text(4096, '\0');
  EXPECT(lethe_engine_describe(e.engine, text.data(), 4096) == LETHE_OK);
  return text.c_str();
}

// What a device of compute capability 9.0 makes of it, the shim's older one makes another thing of.
void the_variable_is_read(const char *backend, const char *plugins) {
  const auto with = [&](const char *form) { return described(*opened(form, backend, plugins)); };
  const auto names = [&](const char *form, const char *name) {
    return with(form).find(std::string(R"("head_form":")") + name + "\"") != std::string::npos;
  };
  const bool shim = std::strcmp(backend, "cuda_shim") == 0;
  for (const char *form : {"plain", "", static_cast<const char *>(nullptr)}) EXPECT(names(form, "plain"));
  EXPECT(names("fused_mma", "fused_mma"));
  EXPECT(names("fused", "fused_wgmma") || (!shim && names("fused", "fused_mma")));
  EXPECT(with("quick").find("LETHE_HEAD_FORM=quick; give plain, fused or fused_mma, or unset it") != std::string::npos);
  if (!shim) return;
  Shim knobs(backend, plugins);
  knobs.set_tensor_maps(0);
  EXPECT(with("fused").find("no cuTensorMapEncodeTiled") != std::string::npos && names("fused_mma", "fused_mma"));
  knobs.set_tensor_maps(1);
  knobs.set_device(0, 10, 0);
  EXPECT(names("fused", "fused_mma"));
  knobs.set_device(0, 9, 0);
}

// Tails of a row tile, of a tile of columns, of a stage's depth in either product.
struct Shape {
  int64_t n, d, V;
};
// And, of a warpgroup's products alone: more tiles than the shim has multiprocessors, two of them of rows, and more
// stages than a ring has.
#if defined(LETHE_SMALL)
const std::vector<Shape> kShapes = {{9, 24, 300}};
const Shape kLong = {130, 264, 520};
#else
const std::vector<Shape> kShapes = {{12, 64, 1000}, {8, 264, 257}, {131, 8, 37}, {4, 16, 1}, {8, 40, 256}};
const Shape kLong = {140, 328, 1300};
#endif

void all_cases(Engine *fused, Engine *plain) {
  for (const Shape &s : kShapes) {
    for (const Look &look : kLooks) gradients_match_the_twin(fused, plain, s.n, s.d, s.V, look, s.d % 16 != 0);
  }
  bits_depend_on_nothing(fused, 7, 40, 530);
  ties_are_ties(fused);
  broken_rows_are_nan(fused, plain);
  other_kinds_are_refused(fused);
  the_form_is_chosen(fused);
  operands_lie_anywhere(fused);
  a_graph_holds_a_pass(fused);
}

}  // namespace
}  // namespace lethe::test

int main(int argc, char **argv) {
  using namespace lethe::test;
  if (argc != 3) {
    std::fprintf(stderr, "usage: head_fused_test PLUGIN_DIR BACKEND\n");
    return 2;
  }
  Shim(argv[2], argv[1]).set_device(0, 9, 0);
  const auto plain = opened(nullptr, argv[2], argv[1]);
  if (plain->status == LETHE_NO_DEVICE) return 77;
  for (const char *form : {"fused", "fused_mma"}) {
    const auto fused = opened(form, argv[2], argv[1]);
    EXPECT(fused->status == LETHE_OK && plain->status == LETHE_OK);
    if (fused->status != LETHE_OK || plain->status != LETHE_OK) break;
    std::printf("%s\n", described(*fused).c_str());
    all_cases(fused.get(), plain.get());
    if (described(*fused).find("fused_wgmma") == std::string::npos) continue;
    gradients_match_the_twin(fused.get(), plain.get(), kLong.n, kLong.d, kLong.V, kLooks[4], true);
#if !defined(LETHE_SMALL)
    bits_depend_on_nothing(fused.get(), kLong.n + 1, kLong.d, kLong.V);
#endif
  }
  the_variable_is_read(argv[2], argv[1]);
  std::printf("gradients use %.0f %% of their bounds; %d of %d bounds exceed a tenth\n", 100 * worst_share, loose,
              bounded);
  EXPECT(8 * loose <= bounded);
  std::printf("head_fused_test: %d passed, %d failed\n", checks - failures, failures);
  return failures == 0 ? 0 : 1;
}
