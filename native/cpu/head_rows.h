// The head's row kernel: statistics of one row of logits, and its gradient in their place.
#pragma once

#include "lethe_backend.h"
#include "number.h"

namespace lethe::cpu {

struct HeadRow {
  float *z;             // z[V]: h W^T; the logits, then the gradient, replace it
  float *delta;         // delta[V] = the reference's h W^T - z for the two reference kinds, else null; overwritten
  const float *second;  // second[V] = the second reference's h W^T minus the first's, where mix is not 0, else null
  const float *bias;    // bias[V] or null
  const float *mean;    // the mean logit, or null: summed from the logits
  float soft_cap;       // 0: none
  float inverse_temperature;
  float coefficient;
  float label_shift, mix, epsilon;
  int32_t label;  // or -1
  int32_t kind;
};

// Fills stats[LETHE_STATISTICS]. With `gradient` != LETHE_I32 the row of z becomes coefficient * d loss / d (h W^T) in
// that dtype (bf16: V numbers from the row's start); LETHE_I32 leaves the logits. A row with a NaN, with +inf or with
// nothing but -inf has NaN in every statistic but LABEL, RANK and both ARGMAX, and in its gradient.
void head_row(const HeadRow &row, int64_t V, int32_t gradient, float *stats);

}  // namespace lethe::cpu
