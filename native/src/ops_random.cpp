#include <cmath>

#include "check.h"

using lethe::guarded;
using lethe::Operands;

extern "C" {

int lethe_random_normal(lethe_engine *engine, int32_t dtype, int64_t n, uint64_t seed, int64_t first, float std,
                        lethe_ref dst) {
  return guarded(__func__, [&] {
    Operands operands(engine);
    operands.floating(dtype);
    operands.size("n", n);
    operands.size("first", first);
    operands.require(n < 0 || first <= INT64_MAX - n, LETHE_INVALID_ARGUMENT, "first + n overflows 64 bits");
    operands.require(std::isfinite(std), LETHE_INVALID_ARGUMENT, "std must be finite");
    void *out = operands.out("dst", dst, dtype, {n});
    LETHE_TRY(operands.finish());
    return LETHE_CALL(engine, random_normal, dtype, n, seed, first, std, out);
  });
}

}  // extern "C"
