// Checks that the norms share with the head's gradient through one.
#pragma once

#include "check.h"

namespace lethe {

// Sizes that the forward and the backward call share.
void add_norm_shape(Operands *operands, const lethe_norm_args &args);

struct NormBackwardRefs {
  lethe_ref x;
  int64_t x_stride;
  lethe_ref w, mean, rstd, dx;
  int64_t dx_stride;
  lethe_ref dw, db;
};
// The operands of a backward call but dy.
void add_norm_backward(Operands *operands, lethe_norm_args *args, const NormBackwardRefs &refs);

}  // namespace lethe
