#include "check.h"

using lethe::guarded;
using lethe::Operands;

namespace {

struct AttentionRefs {
  lethe_ref segment_table, q, k, v;
};

// The operands that the forward and the backward call share.
void add_shared(Operands *operands, lethe_attention_args *args, const AttentionRefs &refs) {
  operands->floating(args->dtype);
  operands->positive("heads", args->heads);
  operands->positive("kv_heads", args->kv_heads);
  operands->positive("head_dim", args->head_dim);
  operands->require(args->heads < (1 << 20) && args->head_dim < (1 << 20), LETHE_INVALID_ARGUMENT,
                    "heads and head_dim must be below 2^20");
  operands->require(args->kv_heads > 0 && args->heads % args->kv_heads == 0, LETHE_INVALID_ARGUMENT,
                    "heads must be a multiple of kv_heads");
  operands->size("window", args->window);
  operands->require(args->soft_cap >= 0.0f && args->soft_cap < 1e30f, LETHE_INVALID_ARGUMENT,
                    "soft_cap must be 0 for none, or above 0 and finite");
  args->segment_table =
      operands->in<int32_t>("segment_table", refs.segment_table, LETHE_I32, {args->segments, LETHE_SEGMENT_FIELDS});
  const int64_t width = args->heads * args->head_dim;
  const int64_t kv_width = args->kv_heads * args->head_dim;
  args->q = operands->in_rows("q", refs.q, args->dtype, args->q_rows, width, args->q_stride);
  args->k = operands->in_rows("k", refs.k, args->dtype, args->k_rows, kv_width, args->k_stride);
  args->v = operands->in_rows("v", refs.v, args->dtype, args->k_rows, kv_width, args->v_stride);
}

}  // namespace

extern "C" {

int lethe_rotary(lethe_engine *engine, int32_t dtype, int64_t T, int64_t heads, int64_t head_dim, int64_t rotary_dim,
                 lethe_ref x, int64_t stride, lethe_ref positions, int64_t P, lethe_ref cos, lethe_ref sin,
                 int32_t inverse) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("heads", heads);
    operands.positive("head_dim", head_dim);
    operands.positive("rotary_dim", rotary_dim);
    operands.require(heads < (1 << 20) && head_dim < (1 << 20), LETHE_INVALID_ARGUMENT,
                     "heads and head_dim must be below 2^20");
    operands.require(rotary_dim % 2 == 0 && rotary_dim <= head_dim, LETHE_INVALID_ARGUMENT,
                     "rotary_dim must be even and at most head_dim");
    lethe_rotary_args args = {};
    args.dtype = dtype;
    args.T = T;
    args.heads = heads;
    args.head_dim = head_dim;
    args.rotary_dim = rotary_dim;
    args.x = operands.out_rows("x", x, dtype, T, heads * head_dim, stride);
    args.stride = stride;
    args.positions = operands.in<int32_t>("positions", positions, LETHE_I32, {T});
    args.P = P;
    args.cos = operands.in<float>("cos", cos, LETHE_F32, {P, rotary_dim / 2});
    args.sin = operands.in<float>("sin", sin, LETHE_F32, {P, rotary_dim / 2});
    args.inverse = inverse;
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, rotary, &args);
  });
}

int lethe_attention_forward(lethe_engine *engine, int32_t dtype, int64_t heads, int64_t kv_heads, int64_t head_dim,
                            float scale, int64_t window, float soft_cap, int64_t segments, lethe_ref segment_table,
                            int64_t q_rows, lethe_ref q, int64_t q_stride, int64_t k_rows, lethe_ref k,
                            int64_t k_stride, lethe_ref v, int64_t v_stride, lethe_ref out, lethe_ref lse) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_attention_args args = {};
    args.dtype = dtype;
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.scale = scale;
    args.window = window;
    args.soft_cap = soft_cap;
    args.segments = segments;
    args.q_rows = q_rows;
    args.q_stride = q_stride;
    args.k_rows = k_rows;
    args.k_stride = k_stride;
    args.v_stride = v_stride;
    add_shared(&operands, &args, {segment_table, q, k, v});
    args.out = operands.out("out", out, dtype, {q_rows, heads, head_dim});
    args.lse = operands.out_or_null<float>("lse", lse, LETHE_F32, {q_rows, heads});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, attention_forward, &args);
  });
}

int lethe_attention_backward(lethe_engine *engine, int32_t dtype, int64_t heads, int64_t kv_heads, int64_t head_dim,
                             float scale, int64_t window, float soft_cap, int64_t segments, lethe_ref segment_table,
                             int64_t q_rows, lethe_ref q, int64_t q_stride, int64_t k_rows, lethe_ref k,
                             int64_t k_stride, lethe_ref v, int64_t v_stride, lethe_ref out, lethe_ref lse,
                             lethe_ref dout, lethe_ref dq, lethe_ref dk, lethe_ref dv) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_attention_args args = {};
    args.dtype = dtype;
    args.heads = heads;
    args.kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.scale = scale;
    args.window = window;
    args.soft_cap = soft_cap;
    args.segments = segments;
    args.q_rows = q_rows;
    args.q_stride = q_stride;
    args.k_rows = k_rows;
    args.k_stride = k_stride;
    args.v_stride = v_stride;
    add_shared(&operands, &args, {segment_table, q, k, v});
    // Read-only here; the struct shares these fields with the forward pass.
    args.out = const_cast<void *>(operands.in("out", out, dtype, {q_rows, heads, head_dim}));
    args.lse = const_cast<float *>(operands.in<float>("lse", lse, LETHE_F32, {q_rows, heads}));
    args.dout = operands.in("dout", dout, dtype, {q_rows, heads, head_dim});
    args.dq = operands.out_rows("dq", dq, dtype, q_rows, heads * head_dim, q_stride);
    args.dk = operands.out_rows("dk", dk, dtype, k_rows, kv_heads * head_dim, k_stride);
    args.dv = operands.out_rows("dv", dv, dtype, k_rows, kv_heads * head_dim, v_stride);
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, attention_backward, &args);
  });
}

}  // extern "C"
