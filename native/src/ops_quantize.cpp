#include "ops_quantize.h"

using lethe::guarded;
using lethe::kByte;
using lethe::Operands;

namespace {

// Sizes that both directions share, and how many blocks they make.
int64_t add_shape(Operands *operands, int32_t dtype, int64_t n, int64_t block) {
  operands->floating(dtype);
  operands->size("n", n);
  const bool known = lethe::require_block(operands, block);
  return known && n > 0 ? (n - 1) / block + 1 : 0;
}

int64_t packed_bytes(int64_t n) { return n / 2 + n % 2; }

}  // namespace

namespace lethe {

bool require_block(Operands *operands, int64_t block) {
  const bool known = block >= 32 && block <= 4096 && (block & (block - 1)) == 0;
  operands->require(known, LETHE_INVALID_ARGUMENT, "block must be 32, 64, 128 ... 4096");
  return known;
}

lethe_nf4_args add_codes(Operands *operands, int32_t dtype, int64_t n, int64_t block, const Nf4Part &part) {
  const int64_t blocks = add_shape(operands, dtype, n, block);
  lethe_nf4_args args = {};
  args.dtype = dtype;
  args.n = n;
  args.block = block;
  // Read-only here; the struct shares these fields with quantisation, which writes them.
  args.packed = const_cast<uint8_t *>(operands->in<uint8_t>("packed", part.packed, kByte, {packed_bytes(n)}));
  if (part.absmax != 0) {
    operands->require(part.nested == 0 && part.nested_map == 0 && part.nested_absmax == 0 && part.nested_offset == 0,
                      LETHE_INVALID_ARGUMENT, "absmax and the nested operands exclude each other");
    args.absmax = const_cast<float *>(operands->in<float>("absmax", part.absmax, LETHE_F32, {blocks}));
  } else {
    args.nested = operands->in<uint8_t>("nested", part.nested, kByte, {blocks});
    args.nested_map = operands->in<float>("nested_map", part.nested_map, LETHE_F32, {256});
    args.nested_absmax = operands->in<float>("nested_absmax", part.nested_absmax, LETHE_F32, {(blocks + 255) / 256});
    args.nested_offset = part.nested_offset;
  }
  return args;
}

}  // namespace lethe

extern "C" {

int lethe_nf4_quantize(lethe_engine *engine, int32_t dtype, int64_t n, int64_t block, lethe_ref src, lethe_ref packed,
                       lethe_ref absmax) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    const int64_t blocks = add_shape(&operands, dtype, n, block);
    lethe_nf4_args args = {};
    args.dtype = dtype;
    args.n = n;
    args.block = block;
    args.src = operands.in("src", src, dtype, {n});
    args.packed = operands.out<uint8_t>("packed", packed, kByte, {packed_bytes(n)});
    args.absmax = operands.out<float>("absmax", absmax, LETHE_F32, {blocks});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, nf4_quantize, &args);
  });
}

int lethe_nf4_dequantize(lethe_engine *engine, int32_t dtype, int64_t n, int64_t block, lethe_ref packed,
                         lethe_ref absmax, lethe_ref nested, lethe_ref nested_map, lethe_ref nested_absmax,
                         float nested_offset, lethe_ref dst) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    lethe_nf4_args args = lethe::add_codes(&operands, dtype, n, block,
                                           {0, 0, packed, absmax, nested, nested_map, nested_absmax, nested_offset});
    args.dst = operands.out("dst", dst, dtype, {n});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, nf4_dequantize, &args);
  });
}

}  // extern "C"
