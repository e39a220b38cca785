#include "check.h"

using lethe::guarded;
using lethe::Operands;

namespace {

// Sizes that the forward and the backward call share.
void add_shape(Operands *operands, const lethe_norm_args &args) {
  operands->floating(args.dtype);
  operands->require(args.kind == LETHE_NORM_RMS || args.kind == LETHE_NORM_LAYER, LETHE_INVALID_ARGUMENT,
                    "kind is not LETHE_NORM_RMS or LETHE_NORM_LAYER");
  operands->positive("groups", args.groups);
  operands->positive("d", args.d);
  operands->require(args.groups < (1 << 20) && args.d < (int64_t{1} << 40), LETHE_INVALID_ARGUMENT,
                    "groups must be below 2^20 and d below 2^40");
}

}  // namespace

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
    add_shape(&operands, args);
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
    add_shape(&operands, args);
    operands.require(kind == LETHE_NORM_LAYER || (db == 0 && mean == 0), LETHE_INVALID_ARGUMENT,
                     "LETHE_NORM_RMS has neither db nor mean");
    operands.require(dx != dy || (dx_stride == dy_stride && accumulate == 0), LETHE_INVALID_ARGUMENT,
                     "in place, dx and dy have one stride and nothing is accumulated");
    args.dy = operands.in_rows("dy", dy, dtype, T, groups * d, dy_stride);
    args.dy_stride = dy_stride;
    args.x = operands.in_rows("x", x, dtype, T, groups * d, x_stride);
    args.x_stride = x_stride;
    args.w = operands.in("w", w, dtype, {d});
    // The backward pass reads these; the struct shares the fields with the forward pass, which writes them.
    if (kind == LETHE_NORM_LAYER) {
      args.mean = const_cast<float *>(operands.in<float>("mean", mean, LETHE_F32, {T, groups}));
    }
    args.rstd = const_cast<float *>(operands.in<float>("rstd", rstd, LETHE_F32, {T, groups}));
    args.dx = operands.out_rows("dx", dx, dtype, T, groups * d, dx_stride);
    args.dx_stride = dx_stride;
    args.dw = operands.out_or_null<float>("dw", dw, LETHE_F32, {d});
    args.db = operands.out_or_null<float>("db", db, LETHE_F32, {d});
    LETHE_TRY(operands.finish({{"dy", "dx"}}));
    return LETHE_CALL(engine, norm_backward, &args);
  });
}

}  // extern "C"
