#include "check.h"

using lethe::guarded;
using lethe::Operands;

extern "C" {

int lethe_rmsnorm_forward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, float eps, lethe_ref x,
                          lethe_ref w, lethe_ref y, lethe_ref rstd) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("d", d);
    lethe_rmsnorm_args args = {};
    args.dtype = dtype;
    args.T = T;
    args.d = d;
    args.eps = eps;
    args.x = operands.in("x", x, dtype, {T, d});
    args.w = operands.in("w", w, dtype, {d});
    args.y = operands.out("y", y, dtype, {T, d});
    args.rstd = operands.out_or_null<float>("rstd", rstd, LETHE_F32, {T});
    LETHE_TRY(operands.finish({{"x", "y"}}));
    return LETHE_CALL(engine, rmsnorm_forward, &args);
  });
}

int lethe_rmsnorm_backward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, lethe_ref dy, lethe_ref x,
                           lethe_ref w, lethe_ref rstd, lethe_ref dx, lethe_ref dw) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("d", d);
    lethe_rmsnorm_args args = {};
    args.dtype = dtype;
    args.T = T;
    args.d = d;
    args.dy = operands.in("dy", dy, dtype, {T, d});
    args.x = operands.in("x", x, dtype, {T, d});
    args.w = operands.in("w", w, dtype, {d});
    // The backward pass reads rstd; the struct shares the field with the forward pass, which writes it.
    args.rstd = const_cast<float *>(operands.in<float>("rstd", rstd, LETHE_F32, {T}));
    args.dx = operands.out("dx", dx, dtype, {T, d});
    args.dw = operands.out_or_null<float>("dw", dw, LETHE_F32, {d});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, rmsnorm_backward, &args);
  });
}

}  // extern "C"
