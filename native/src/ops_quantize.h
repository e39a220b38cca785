// What ops on 4-bit codes share.
#pragma once

#include "check.h"

namespace lethe {

// Whether `block` is a size that blocks can have; the call fails when it is none.
bool require_block(Operands *operands, int64_t block);

// The codes of n numbers and their scales, to be dequantised; `first_out` and `part_out` are not looked at, and dst is
// left to the caller.
lethe_nf4_args add_codes(Operands *operands, int32_t dtype, int64_t n, int64_t block, const Nf4Part &part);

}  // namespace lethe
