#include "ops_norm.h"

using lethe::add_norm_backward;
using lethe::add_norm_shape;
using lethe::guarded;
using lethe::Operands;

namespace lethe {

void add_norm_shape(Operands *operands, const lethe_norm_args &args) {
  operands->floating(args.dtype);
  operands->require(args.kind == LETHE_NORM_RMS || args.kind == LETHE_NORM_LAYER, LETHE_INVALID_ARGUMENT,
                    "kind is not LETHE_NORM_RMS or LETHE_NORM_LAYER");
  operands->positive("groups", args.groups);
  operands->positive("d", args.d);
  operands->require(args.groups < (1 << 20) && args.d < (int64_t{1} << 40), LETHE_INVALID_ARGUMENT,
                    "groups must be below 2^20 and d below 2^40");
}

void add_norm_backward(Operands *operands, lethe_norm_args *args, const NormBackwardRefs &refs) {
  const int64_t width = args->groups * args->d;
  operands->require(args->kind == LETHE_NORM_LAYER || (refs.db == 0 && refs.mean == 0), LETHE_INVALID_ARGUMENT,
                    "LETHE_NORM_RMS has neither db nor mean");
  args->x = operands->in_rows("x", refs.x, args->dtype, args->T, width, refs.x_stride);
  args->x_stride = refs.x_stride;
  args->w = operands->in("w", refs.w, args->dtype, {args->d});
  // The backward pass reads these; the struct shares the fields with the forward pass, which writes them.
  if (args->kind == LETHE_NORM_LAYER) {
    args->mean = const_cast<float *>(operands->in<float>("mean", refs.mean, LETHE_F32, {args->T, args->groups}));
  }
  args->rstd = const_cast<float *>(operands->in<float>("rstd", refs.rstd, LETHE_F32, {args->T, args->groups}));
  args->dx = operands->out_rows("dx", refs.dx, args->dtype, args->T, width, refs.dx_stride);
  args->dx_stride = refs.dx_stride;
  args->dw = operands->out_or_null<float>("dw", refs.dw, LETHE_F32, {args->d});
  args->db = operands->out_or_null<float>("db", refs.db, LETHE_F32, {args->d});
}

}  // namespace lethe

extern "C" {

int lethe_norm_forward(lethe_engine *engine, int32_t dtype, int32_t kind, int64_t T, int64_t groups, int64_t d,
                       float eps, float weight_shift, lethe_ref x, int64_t x_stride, lethe_ref w, lethe_ref b,
                       lethe_ref residual, lethe_ref y, int64_t y_stride, lethe_ref mean, lethe_ref rstd) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_norm_args args = {};
    args.dtype = dtype;
    args.kind = kind;
    args.T = T;
    args.groups = groups;
    args.d = d;
    args.eps = eps;
    args.weight_shift = weight_shift;
    add_norm_shape(&operands, args);
    operands.require(kind == LETHE_NORM_LAYER || (b == 0 && mean == 0), LETHE_INVALID_ARGUMENT,
                     "LETHE_NORM_RMS has neither b nor mean");
    operands.require(x != y || x_stride == y_stride, LETHE_INVALID_ARGUMENT, "in place, x and y have one stride");
    args.x = operands.in_rows("x", x, dtype, T, groups * d, x_stride);
    args.x_stride = x_stride;
    args.w = operands.in("w", w, dtype, {d});
    args.b = operands.in_or_null("b", b, dtype, {d});
    if (residual != 0) args.residual = operands.in_rows("residual", residual, dtype, T, groups * d, y_stride);
    args.y = operands.out_rows("y", y, dtype, T, groups * d, y_stride);
    args.y_stride = y_stride;
    args.mean = operands.out_or_null<float>("mean", mean, LETHE_F32, {T, groups});
    args.rstd = operands.out_or_null<float>("rstd", rstd, LETHE_F32, {T, groups});
    LETHE_TRY(operands.finish({{"x", "y"}, {"residual", "y"}}));
    return LETHE_CALL(engine, norm_forward, &args);
  });
}

int lethe_norm_backward(lethe_engine *engine, int32_t dtype, int32_t kind, int64_t T, int64_t groups, int64_t d,
                        float weight_shift, lethe_ref dy, int64_t dy_stride, lethe_ref x, int64_t x_stride, lethe_ref w,
                        lethe_ref mean, lethe_ref rstd, lethe_ref dx, int64_t dx_stride, int32_t accumulate,
                        lethe_ref dw, lethe_ref db) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_norm_args args = {};
    args.dtype = dtype;
    args.kind = kind;
    args.T = T;
    args.groups = groups;
    args.d = d;
    args.weight_shift = weight_shift;
    args.accumulate = accumulate;
    add_norm_shape(&operands, args);
    operands.require(dx != dy || (dx_stride == dy_stride && accumulate == 0), LETHE_INVALID_ARGUMENT,
                     "in place, dx and dy have one stride and nothing is accumulated");
    args.dy = operands.in_rows("dy", dy, dtype, T, groups * d, dy_stride);
    args.dy_stride = dy_stride;
    add_norm_backward(&operands, &args, {x, x_stride, w, mean, rstd, dx, dx_stride, dw, db});
    LETHE_TRY(operands.finish({{"dy", "dx"}}));
    return LETHE_CALL(engine, norm_backward, &args);
  });
}

}  // extern "C"
