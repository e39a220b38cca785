#include "check.h"
#include "ops_norm.h"

using lethe::add_norm_backward;
using lethe::add_norm_shape;
using lethe::guarded;
using lethe::kByte;
using lethe::kInt64;
using lethe::Operands;

namespace {

void add_sizes(Operands *operands, int32_t dtype, int64_t d, int64_t V) {
  operands->floating(dtype);
  operands->positive("d", d);
  operands->positive("V", V);
  // Indices cross as int32, argmax and rank as fp32, which holds integers to 2^24.
  operands->require(V <= (1 << 24), LETHE_INVALID_ARGUMENT, "V exceeds 2^24");
}

void check_cap(Operands *operands, float soft_cap) {
  operands->require(soft_cap >= 0.0f && soft_cap < 1e30f, LETHE_INVALID_ARGUMENT,
                    "soft_cap must be 0 for none, or above 0 and finite");
}

struct PassRefs {
  lethe_ref h, w, bias, rows, row_params, workspace;
};

// The operands of the two passes over the logits.
void add_pass(Operands *operands, lethe_head_args *args, const PassRefs &refs) {
  add_sizes(operands, args->dtype, args->d, args->V);
  args->h = operands->in("h", refs.h, args->dtype, {args->sources, args->d});
  args->w = operands->in("w", refs.w, args->dtype, {args->V, args->d});
  args->bias = operands->in_or_null("bias", refs.bias, args->dtype, {args->V});
  check_cap(operands, args->soft_cap);
  args->rows = operands->in<int32_t>("rows", refs.rows, LETHE_I32, {args->n, LETHE_ROW_FIELDS});
  args->row_params = operands->in_or_null<float>("row_params", refs.row_params, LETHE_F32, {args->n, LETHE_ROW_PARAMS});
  args->workspace = operands->out("workspace", refs.workspace, kByte, {args->workspace_bytes});
}

struct ForwardRefs {
  lethe_ref mean, stats, dh_rows;
};

lethe_head_args forward_args(int32_t dtype, int64_t n, int64_t sources, int64_t d, int64_t V, int64_t references,
                             int64_t seconds, float soft_cap, int64_t workspace_bytes) {
  lethe_head_args args = {};
  args.dtype = dtype;
  args.n = n;
  args.sources = sources;
  args.d = d;
  args.V = V;
  args.workspace_bytes = workspace_bytes;
  args.soft_cap = soft_cap;
  args.references = references;
  args.seconds = seconds;
  return args;
}

void add_forward(Operands *operands, lethe_head_args *args, const PassRefs &refs, const ForwardRefs &forward) {
  operands->require(0 <= args->seconds && args->seconds <= args->references && args->references <= args->n,
                    LETHE_INVALID_ARGUMENT, "0 <= seconds <= references <= n must hold");
  add_pass(operands, args, refs);
  args->mean = operands->in_or_null<float>("mean", forward.mean, LETHE_F32, {args->d});
  args->stats = operands->out<float>("stats", forward.stats, LETHE_F32, {args->n, LETHE_STATISTICS});
  args->dh_rows = operands->out_or_null("dh_rows", forward.dh_rows, args->dtype, {args->n, args->d});
}

}  // namespace

extern "C" {

int lethe_head_mean(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, lethe_ref w, lethe_ref mean) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_sizes(&operands, dtype, d, V);
    const void *weights = operands.in("w", w, dtype, {V, d});
    auto *out = operands.out<float>("mean", mean, LETHE_F32, {d});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_mean, dtype, d, V, weights, out);
  });
}

int lethe_head_workspace(lethe_engine *engine, int32_t dtype, int64_t n, int64_t d, int64_t V, int64_t *least,
                         int64_t *most) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_sizes(&operands, dtype, d, V);
    operands.size("n", n);
    operands.require(least != nullptr && most != nullptr, LETHE_INVALID_ARGUMENT, "least and most must not be null");
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_workspace, dtype, n, d, V, least, most);
  });
}

int lethe_head_set_chunk(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t rows) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_sizes(&operands, dtype, d, V);
    operands.size("rows", rows);
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_set_chunk, dtype, d, V, rows);
  });
}

int lethe_head_chunk(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t *rows) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_sizes(&operands, dtype, d, V);
    operands.require(rows != nullptr, LETHE_INVALID_ARGUMENT, "rows must not be null");
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_chunk, dtype, d, V, rows);
  });
}

int lethe_head_set_tiles(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t logits, int64_t gradient) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_sizes(&operands, dtype, d, V);
    operands.size("logits", logits);
    operands.size("gradient", gradient);
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_set_tiles, dtype, d, V, logits, gradient);
  });
}

int lethe_head_tiles(lethe_engine *engine, int32_t dtype, int64_t d, int64_t V, int64_t *logits, int64_t *gradient) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_sizes(&operands, dtype, d, V);
    operands.require(logits != nullptr && gradient != nullptr, LETHE_INVALID_ARGUMENT,
                     "logits and gradient must not be null");
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_tiles, dtype, d, V, logits, gradient);
  });
}

int lethe_head_forward(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d, int64_t V,
                       int64_t references, int64_t seconds, lethe_ref h, lethe_ref w, lethe_ref bias, float soft_cap,
                       lethe_ref mean, lethe_ref rows, lethe_ref row_params, lethe_ref stats, lethe_ref dh_rows,
                       lethe_ref workspace, int64_t workspace_bytes) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_head_args args = forward_args(dtype, n, sources, d, V, references, seconds, soft_cap, workspace_bytes);
    add_forward(&operands, &args, {h, w, bias, rows, row_params, workspace}, {mean, stats, dh_rows});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_forward, &args);
  });
}

int lethe_head_tune(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d, int64_t V,
                    int64_t references, int64_t seconds, lethe_ref h, lethe_ref w, lethe_ref bias, float soft_cap,
                    lethe_ref mean, lethe_ref rows, lethe_ref row_params, lethe_ref stats, lethe_ref dh_rows,
                    lethe_ref workspace, int64_t workspace_bytes, int64_t *chunk) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_head_args args = forward_args(dtype, n, sources, d, V, references, seconds, soft_cap, workspace_bytes);
    add_forward(&operands, &args, {h, w, bias, rows, row_params, workspace}, {mean, stats, dh_rows});
    operands.require(chunk != nullptr, LETHE_INVALID_ARGUMENT, "chunk must not be null");
    LETHE_TRY(operands.finish());
    LETHE_TRY(engine->refuse_capture("lethe_head_tune"));
    return LETHE_CALL(engine, head_tune, &args, chunk);
  });
}

int lethe_head_combine(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d, lethe_ref rows,
                       lethe_ref coefficient, lethe_ref dh_rows, lethe_ref dh) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("d", d);
    lethe_head_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.sources = sources;
    args.d = d;
    args.rows = operands.in<int32_t>("rows", rows, LETHE_I32, {n, LETHE_ROW_FIELDS});
    args.coefficient = operands.in<float>("coefficient", coefficient, LETHE_F32, {n});
    // Read-only here; the struct shares the field with the forward pass.
    args.dh_rows = const_cast<void *>(operands.in("dh_rows", dh_rows, dtype, {n, d}));
    args.dh = operands.out("dh", dh, dtype, {sources, d});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_combine, &args);
  });
}

int lethe_head_norm_backward(lethe_engine *engine, int32_t dtype, int32_t kind, int64_t n, int64_t sources, int64_t d,
                             float weight_shift, lethe_ref rows, lethe_ref coefficient, lethe_ref dh_rows, lethe_ref x,
                             lethe_ref w, lethe_ref mean, lethe_ref rstd, lethe_ref dx, lethe_ref dw, lethe_ref db) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_head_norm_args args = {};
    args.n = n;
    args.norm.dtype = dtype;
    args.norm.kind = kind;
    args.norm.T = sources;
    args.norm.groups = 1;
    args.norm.d = d;
    args.norm.weight_shift = weight_shift;
    add_norm_shape(&operands, args.norm);
    args.rows = operands.in<int32_t>("rows", rows, LETHE_I32, {n, LETHE_ROW_FIELDS});
    args.coefficient = operands.in<float>("coefficient", coefficient, LETHE_F32, {n});
    args.dh_rows = operands.in("dh_rows", dh_rows, dtype, {n, d});
    add_norm_backward(&operands, &args.norm, {x, d, w, mean, rstd, dx, d, dw, db});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_norm_backward, &args);
  });
}

int lethe_head_backward(lethe_engine *engine, int32_t dtype, int64_t n, int64_t sources, int64_t d, int64_t V,
                        lethe_ref h, lethe_ref w, lethe_ref bias, float soft_cap, lethe_ref rows, lethe_ref row_params,
                        lethe_ref coefficient, lethe_ref dh_rows, lethe_ref dw, lethe_ref db, lethe_ref workspace,
                        int64_t workspace_bytes) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_head_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.sources = sources;
    args.d = d;
    args.V = V;
    args.workspace_bytes = workspace_bytes;
    args.soft_cap = soft_cap;
    add_pass(&operands, &args, {h, w, bias, rows, row_params, workspace});
    args.coefficient = operands.in<float>("coefficient", coefficient, LETHE_F32, {n});
    args.dh_rows = operands.out("dh_rows", dh_rows, dtype, {n, d});
    args.dw = operands.out<float>("dw", dw, LETHE_F32, {V, d});
    args.db = operands.out_or_null<float>("db", db, LETHE_F32, {V});
    operands.require(bias != 0 || db == 0, LETHE_INVALID_ARGUMENT, "db is given without bias");
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_backward, &args);
  });
}

int lethe_head_sample(lethe_engine *engine, int32_t dtype, int64_t n, int64_t d, int64_t V, lethe_ref h, lethe_ref w,
                      lethe_ref bias, float soft_cap, float temperature, int32_t top_k, float top_p, int64_t seed,
                      lethe_ref draws, lethe_ref ids, lethe_ref workspace, int64_t workspace_bytes) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_sizes(&operands, dtype, d, V);
    operands.require(temperature > 0.0f, LETHE_INVALID_ARGUMENT, "temperature must be above 0; take argmax for greedy");
    operands.require(top_k >= 0, LETHE_INVALID_ARGUMENT, "top_k must not be negative");
    operands.require(top_p > 0.0f && top_p <= 1.0f, LETHE_INVALID_ARGUMENT, "top_p must be in (0, 1]");
    lethe_sample_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.d = d;
    args.V = V;
    args.h = operands.in("h", h, dtype, {n, d});
    args.w = operands.in("w", w, dtype, {V, d});
    args.bias = operands.in_or_null("bias", bias, dtype, {V});
    args.soft_cap = soft_cap;
    check_cap(&operands, soft_cap);
    args.temperature = temperature;
    args.top_k = top_k;
    args.top_p = top_p;
    args.seed = seed;
    args.draws = operands.in<int64_t>("draws", draws, kInt64, {n});
    args.ids = operands.out<int32_t>("ids", ids, LETHE_I32, {n});
    args.workspace = operands.out("workspace", workspace, kByte, {workspace_bytes});
    args.workspace_bytes = workspace_bytes;
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, head_sample, &args);
  });
}

}  // extern "C"
