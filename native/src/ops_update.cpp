#include "check.h"

using lethe::guarded;
using lethe::Operands;

extern "C" {

int lethe_gradient_norm(lethe_engine *engine, int64_t n, lethe_ref g, float max_norm, lethe_ref state) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    const auto *gradient = operands.in<float>("g", g, LETHE_F32, {n});
    auto *out = operands.out<float>("state", state, LETHE_F32, {LETHE_UPDATE_STATE});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, gradient_norm, n, gradient, max_norm, out);
  });
}

int lethe_adamw(lethe_engine *engine, int32_t dtype, int64_t n, int64_t n_decay, lethe_ref p, lethe_ref m, lethe_ref v,
                lethe_ref g, lethe_ref copy, float lr, float beta1, float beta2, float eps, float weight_decay,
                lethe_ref state) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.size("n_decay", n_decay);
    operands.require(n_decay <= n, LETHE_INVALID_ARGUMENT, "n_decay exceeds n");
    operands.require(dtype == LETHE_F32 || copy != 0, LETHE_INVALID_ARGUMENT,
                     "bf16 parameters need a copy to work with");
    lethe_adamw_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.n_decay = n_decay;
    args.p = operands.out<float>("p", p, LETHE_F32, {n});
    args.m = operands.out<float>("m", m, LETHE_F32, {n});
    args.v = operands.out<float>("v", v, LETHE_F32, {n});
    args.g = operands.in<float>("g", g, LETHE_F32, {n});
    args.copy = operands.out_or_null("copy", copy, dtype, {n});
    args.lr = lr;
    args.beta1 = beta1;
    args.beta2 = beta2;
    args.eps = eps;
    args.weight_decay = weight_decay;
    args.state = operands.out<float>("state", state, LETHE_F32, {LETHE_UPDATE_STATE});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, adamw, &args);
  });
}

}  // extern "C"
