#include "check.h"

using lethe::guarded;
using lethe::kByte;
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

int lethe_gradient_norm_part(lethe_engine *engine, int64_t n, lethe_ref g, int32_t begin, float max_norm,
                             lethe_ref state) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    const auto *gradient = operands.in<float>("g", g, LETHE_F32, {n});
    auto *out = operands.out<float>("state", state, LETHE_F32, {LETHE_UPDATE_STATE});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, gradient_norm_part, n, gradient, begin, max_norm, out);
  });
}

int lethe_adamw_part(lethe_engine *engine, int32_t dtype, int64_t n, int64_t first, lethe_ref p, lethe_ref m,
                     lethe_ref v, lethe_ref m_scale, lethe_ref v_scale, lethe_ref maps, lethe_ref g, lethe_ref copy,
                     float lr, float beta1, float beta2, float eps, float weight_decay, uint64_t seed, int32_t last,
                     lethe_ref state) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.size("n", n);
    operands.size("first", first);
    operands.require(first % 8 == 0, LETHE_INVALID_ARGUMENT, "first must be a multiple of 8");
    operands.require(dtype == LETHE_F32 || copy != 0, LETHE_INVALID_ARGUMENT,
                     "bf16 parameters need a copy to work with");
    operands.require(dtype == LETHE_BF16 || p != 0, LETHE_INVALID_ARGUMENT,
                     "fp32 parameters are their own master: p must be given");
    operands.require((m_scale == 0) == (v_scale == 0) && (m_scale == 0) == (maps == 0), LETHE_INVALID_ARGUMENT,
                     "8-bit moments need m_scale, v_scale and maps; fp32 moments none of them");
    const bool codes = m_scale != 0;
    const int64_t blocks = n / LETHE_MOMENT_BLOCK + (n % LETHE_MOMENT_BLOCK == 0 ? 0 : 1);
    lethe_adamw_part_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.first = first;
    args.p = operands.out_or_null<float>("p", p, LETHE_F32, {n});
    args.m = operands.out("m", m, codes ? kByte : LETHE_F32, {n});
    args.v = operands.out("v", v, codes ? kByte : LETHE_F32, {n});
    args.m_scale = operands.out_or_null<float>("m_scale", m_scale, LETHE_F32, {blocks});
    args.v_scale = operands.out_or_null<float>("v_scale", v_scale, LETHE_F32, {blocks});
    args.maps = operands.in_or_null<float>("maps", maps, LETHE_F32, {2, 256});
    args.g = operands.in<float>("g", g, LETHE_F32, {n});
    args.copy = operands.out_or_null("copy", copy, dtype, {n});
    args.lr = lr;
    args.beta1 = beta1;
    args.beta2 = beta2;
    args.eps = eps;
    args.weight_decay = weight_decay;
    args.seed = seed;
    args.last = last;
    args.state = operands.out<float>("state", state, LETHE_F32, {LETHE_UPDATE_STATE});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, adamw_part, &args);
  });
}

}  // extern "C"
