#include "check.h"

using lethe::guarded;
using lethe::Operands;

extern "C" {

int lethe_embedding_forward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, int64_t V, float scale,
                            lethe_ref table, lethe_ref ids, lethe_ref out) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("d", d);
    lethe_embedding_args args = {};
    args.dtype = dtype;
    args.T = T;
    args.d = d;
    args.V = V;
    args.scale = scale;
    args.table = operands.in("table", table, dtype, {V, d});
    args.ids = operands.in<int32_t>("ids", ids, LETHE_I32, {T});
    args.out = operands.out("out", out, dtype, {T, d});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, embedding_forward, &args);
  });
}

int lethe_embedding_backward(lethe_engine *engine, int32_t dtype, int64_t T, int64_t d, int64_t V, float scale,
                             lethe_ref dout, lethe_ref ids, lethe_ref dtable) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("d", d);
    lethe_embedding_args args = {};
    args.dtype = dtype;
    args.T = T;
    args.d = d;
    args.V = V;
    args.scale = scale;
    args.dout = operands.in("dout", dout, dtype, {T, d});
    args.ids = operands.in<int32_t>("ids", ids, LETHE_I32, {T});
    args.dtable = operands.out<float>("dtable", dtable, LETHE_F32, {V, d});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, embedding_backward, &args);
  });
}

int lethe_gather_rows(lethe_engine *engine, int32_t dtype, int64_t n, int64_t width, int64_t src_rows, lethe_ref src,
                      int64_t src_stride, lethe_ref index, lethe_ref dst, int64_t dst_stride) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("width", width);
    lethe_rows_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.width = width;
    args.table_rows = src_rows;
    args.src = operands.in_rows("src", src, dtype, src_rows, width, src_stride);
    args.src_stride = src_stride;
    args.index = operands.in<int32_t>("index", index, LETHE_I32, {n});
    args.dst = operands.out_rows("dst", dst, dtype, n, width, dst_stride);
    args.dst_stride = dst_stride;
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, gather_rows, &args);
  });
}

int lethe_scatter_rows(lethe_engine *engine, int32_t dtype, int64_t n, int64_t width, int64_t dst_rows, lethe_ref src,
                       int64_t src_stride, lethe_ref index, lethe_ref dst, int64_t dst_stride) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.positive("width", width);
    lethe_rows_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.width = width;
    args.table_rows = dst_rows;
    args.src = operands.in_rows("src", src, dtype, n, width, src_stride);
    args.src_stride = src_stride;
    args.index = operands.in<int32_t>("index", index, LETHE_I32, {n});
    args.dst = operands.out_rows("dst", dst, dtype, dst_rows, width, dst_stride);
    args.dst_stride = dst_stride;
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, scatter_rows, &args);
  });
}

}  // extern "C"
