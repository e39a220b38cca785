#include "check.h"

using lethe::guarded;
using lethe::Operands;

namespace {

void add_shape(Operands *operands, int32_t dtype, int32_t activation, int64_t f) {
  operands->floating(dtype);
  operands->positive("f", f);
  operands->require(activation >= LETHE_ACTIVATION_SILU && activation <= LETHE_ACTIVATION_RELU, LETHE_INVALID_ARGUMENT,
                    "activation is none of enum lethe_activation");
}

}  // namespace

extern "C" {

int lethe_gated_forward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f,
                        lethe_ref gate_up, lethe_ref out) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_shape(&operands, dtype, activation, f);
    lethe_gated_args args = {};
    args.dtype = dtype;
    args.activation = activation;
    args.T = T;
    args.f = f;
    args.gate_up = operands.in("gate_up", gate_up, dtype, {T, 2, f});
    args.out = operands.out("out", out, dtype, {T, f});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, gated_forward, &args);
  });
}

int lethe_gated_backward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f,
                         lethe_ref gate_up, lethe_ref dout, lethe_ref dgate_up) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_shape(&operands, dtype, activation, f);
    lethe_gated_args args = {};
    args.dtype = dtype;
    args.activation = activation;
    args.T = T;
    args.f = f;
    args.gate_up = operands.in("gate_up", gate_up, dtype, {T, 2, f});
    args.dout = operands.in("dout", dout, dtype, {T, f});
    args.dgate_up = operands.out("dgate_up", dgate_up, dtype, {T, 2, f});
    LETHE_TRY(operands.finish({{"gate_up", "dgate_up"}}));
    return LETHE_CALL(engine, gated_backward, &args);
  });
}

int lethe_activation_forward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f, lethe_ref x,
                             lethe_ref out) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_shape(&operands, dtype, activation, f);
    lethe_activation_args args = {};
    args.dtype = dtype;
    args.activation = activation;
    args.T = T;
    args.f = f;
    args.x = operands.in("x", x, dtype, {T, f});
    args.out = operands.out("out", out, dtype, {T, f});
    LETHE_TRY(operands.finish({{"x", "out"}}));
    return LETHE_CALL(engine, activation_forward, &args);
  });
}

int lethe_activation_backward(lethe_engine *engine, int32_t dtype, int32_t activation, int64_t T, int64_t f,
                              lethe_ref x, lethe_ref dout, lethe_ref dx) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    add_shape(&operands, dtype, activation, f);
    lethe_activation_args args = {};
    args.dtype = dtype;
    args.activation = activation;
    args.T = T;
    args.f = f;
    args.x = operands.in("x", x, dtype, {T, f});
    args.dout = operands.in("dout", dout, dtype, {T, f});
    args.dx = operands.out("dx", dx, dtype, {T, f});
    LETHE_TRY(operands.finish({{"x", "dx"}, {"dout", "dx"}}));
    return LETHE_CALL(engine, activation_backward, &args);
  });
}

}  // extern "C"
