// The head's row kernel: statistics of one row of logits, and its gradient in their place.
#pragma once

#include "lethe_backend.h"
#include "number.h"

namespace lethe::cpu {

struct HeadRow {
  float *z;            // z[V]: logits before the temperature; the gradient replaces them
  const float *delta;  // delta[V] = reference logits - z for the two reference kinds, else null
  const float *mean;   // the mean logit, or null: summed from z
  float inverse_temperature;
  float coefficient;
  int32_t label;  // or -1
  int32_t kind;
};

// Fills stats[LETHE_STATISTICS]. With `gradient` != LETHE_I32 the row of z becomes coefficient * d loss / d z in that
// dtype (bf16: V numbers from the row's start); LETHE_I32 leaves z as it is. A row with a NaN, with +inf or with
// nothing but -inf has NaN in every statistic but LABEL, RANK and both ARGMAX, and in its gradient.
void head_row(const HeadRow &row, int64_t V, int32_t gradient, float *stats);

}  // namespace lethe::cpu
