// Copies between host memory and buffers, and between buffers.
#include "check.h"

using lethe::guarded;
using lethe::kByte;
using lethe::Operands;

extern "C" {

int lethe_write(lethe_engine *engine, lethe_ref dst, const void *src, int64_t bytes) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    void *to = operands.out("dst", dst, kByte, {bytes});
    operands.require(src != nullptr, LETHE_INVALID_ARGUMENT, "src must not be null");
    LETHE_TRY(operands.finish());
    LETHE_TRY(engine->refuse_capture("lethe_write"));
    return engine->backend->write(engine->device, to, src, bytes);
  });
}

int lethe_read(lethe_engine *engine, lethe_ref src, void *dst, int64_t bytes) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    const void *from = operands.in("src", src, kByte, {bytes});
    operands.require(dst != nullptr, LETHE_INVALID_ARGUMENT, "dst must not be null");
    LETHE_TRY(operands.finish());
    LETHE_TRY(engine->refuse_capture("lethe_read"));
    return engine->backend->read(engine->device, from, dst, bytes);
  });
}

int lethe_copy(lethe_engine *engine, lethe_ref dst, lethe_ref src, int64_t bytes) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    const void *from = operands.in("src", src, kByte, {bytes});
    void *to = operands.out("dst", dst, kByte, {bytes});
    LETHE_TRY(operands.finish());
    return engine->backend->copy(engine->device, to, from, bytes);
  });
}

int lethe_zero(lethe_engine *engine, lethe_ref dst, int64_t bytes) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    void *to = operands.out("dst", dst, kByte, {bytes});
    LETHE_TRY(operands.finish());
    return engine->backend->zero(engine->device, to, bytes);
  });
}

int lethe_convert(lethe_engine *engine, int64_t n, int32_t src_dtype, lethe_ref src, int32_t dst_dtype, lethe_ref dst) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(src_dtype);
    operands.floating(dst_dtype);
    const void *from = operands.in("src", src, src_dtype, {n});
    void *to = operands.out("dst", dst, dst_dtype, {n});
    LETHE_TRY(operands.finish());
    return engine->backend->convert(engine->device, n, src_dtype, from, dst_dtype, to);
  });
}

}  // extern "C"
