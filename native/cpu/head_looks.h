// The first two looks of the head's row kernel: largest logits, and the sums that statistics are made of.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "head_rows.h"
#include "vector_math.h"

namespace lethe::cpu {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kHuge = 1e30f;  // finite, so that its product with a probability of 0 is 0
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
// Lanes add up this many columns in fp32 before the sum moves on to fp64: rounding stays that of a short sum.
inline constexpr int64_t kBlock = 32 * kLanes;
// exp(-128) is 0 in fp32, and 0 * -128 is 0: keeps -inf out of products, while a NaN passes the comparison untouched.
inline constexpr float kFloor = -128.0f;
// Below this, the sum over v != y may have lost terms to underflow and is taken again from its own maximum.
inline constexpr double kTinySum = 1e-20;

inline f32x16 floored(f32x16 x) { return vector_math::select<f32x16>(x < kFloor, splat(kFloor), x); }
inline double floored(double x) { return x < kFloor ? kFloor : x; }

// fn(z, delta, column, count) over the row, sixteen columns at a time; the last call's missing lanes hold -inf and 0.
// flush() follows every kBlock columns.
template <bool kReference, class Fn, class Flush>
void for_columns(const float *z, const float *delta, int64_t V, Fn &&fn, Flush &&flush) {
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = std::min(V, begin + kBlock);
    int64_t v = begin;
    for (; v + kLanes <= end; v += kLanes) fn(load(z + v), kReference ? load(delta + v) : f32x16{}, v, kLanes);
    if (v < end) {
      fn(load_tail(z + v, end - v, -kInfinity), kReference ? load_tail(delta + v, end - v) : f32x16{}, v, end - v);
    }
    flush();
  }
}

struct Look {
  float max = -kInfinity;            // of z
  float reference_max = -kInfinity;  // of z + delta
  int64_t argmax = 0, reference_argmax = 0;
  int64_t rank = 0;  // how many exceed z[y]
  double sum = 0;    // of z
};

template <bool kReference>
Look first_look(const HeadRow &row, int64_t V) {
  const bool labelled = row.label >= 0;
  const f32x16 label = splat(labelled ? row.z[row.label] : 0.0f);
  f32x16 max = splat(-kInfinity), reference_max = splat(-kInfinity), sum_block = {};
  i32x16 at = {}, reference_at = {}, above = {}, lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  Look look;
  for_columns<kReference>(
      row.z, row.delta, V,
      [&](f32x16 z, f32x16 delta, int64_t v, int64_t count) {
        const i32x16 larger = z > max;
        at = (larger & (lane + static_cast<int32_t>(v))) | (~larger & at);
        max = vector_math::select<f32x16>(larger, z, max);
        above -= (i32x16)(z > label);
        if constexpr (kReference) {
          const f32x16 r = z + delta;
          const i32x16 rises = r > reference_max;
          reference_at = (rises & (lane + static_cast<int32_t>(v))) | (~rises & reference_at);
          reference_max = vector_math::select<f32x16>(rises, r, reference_max);
        }
        if (count == kLanes) {
          sum_block += z;
        } else {
          for (int64_t i = 0; i < count; ++i) sum_block[i] += z[i];
        }
      },
      [&] {
        look.sum += static_cast<double>(sum(sum_block));
        sum_block = f32x16{};
      });
  for (int i = 0; i < kLanes; ++i) {
    if (max[i] > look.max || (max[i] == look.max && at[i] < look.argmax)) {
      look.max = max[i];
      look.argmax = at[i];
    }
    if (reference_max[i] > look.reference_max ||
        (reference_max[i] == look.reference_max && reference_at[i] < look.reference_argmax)) {
      look.reference_max = reference_max[i];
      look.reference_argmax = reference_at[i];
    }
    look.rank += above[i];
  }
  if (!labelled) look.rank = 0;
  return look;
}

// Sums over the row of e = exp(z - max), with z over the temperature.
struct Sums {
  double e = 0;             // e
  double ez = 0;            // e (z - max)
  double ezz = 0;           // e (z - max)^2
  double shift = 0;         // e expm1(delta)
  double reference = 0;     // f = exp(z + delta - reference max)
  double reference_ez = 0;  // f (z + delta - reference max)
  double e_delta = 0;       // e delta
  double others = 0;        // e but for the label's
  double others_ez = 0;     // e (z - max) but for the label's
};

// The label's logit is taken out of the row while the rest is summed and added at the end: what is left is the sum
// over the others, exact even where the label holds nearly all of the probability.
template <bool kReference>
Sums second_look(const HeadRow &row, int64_t V, const Look &look) {
  const float beta = row.inverse_temperature;
  const float z_label = row.label >= 0 ? row.z[row.label] : 0.0f;
  if (row.label >= 0) row.z[row.label] = -kInfinity;
  f32x16 e_block = {}, ez_block = {}, ezz_block = {}, shift_block = {}, reference_block = {}, reference_ez_block = {},
         e_delta_block = {};
  Sums sums;
  const auto move = [](f32x16 *from, double *to) {
    *to += static_cast<double>(sum(*from));
    *from = f32x16{};
  };
  for_columns<kReference>(
      row.z, row.delta, V,
      [&](f32x16 z, f32x16 delta, int64_t, int64_t) {
        const f32x16 x = floored((z - look.max) * beta);
        const f32x16 e = exp(x);
        e_block += e;
        ez_block += e * x;
        ezz_block += e * x * x;
        if constexpr (kReference) {
          const f32x16 d = delta * beta;
          shift_block += e * expm1(d);
          const f32x16 y = floored((z + delta - look.reference_max) * beta);
          const f32x16 f = exp(y);
          reference_block += f;
          reference_ez_block += f * y;
          e_delta_block += e * d;
        }
      },
      [&] {
        move(&e_block, &sums.e);
        move(&ez_block, &sums.ez);
        move(&ezz_block, &sums.ezz);
        if constexpr (kReference) {
          move(&shift_block, &sums.shift);
          move(&reference_block, &sums.reference);
          move(&reference_ez_block, &sums.reference_ez);
          move(&e_delta_block, &sums.e_delta);
        }
      });
  sums.others = sums.e;
  sums.others_ez = sums.ez;
  if (row.label >= 0) {
    row.z[row.label] = z_label;
    const double x = floored((static_cast<double>(z_label) - look.max) * beta);
    const double e = std::exp(x);
    sums.e += e;
    sums.ez += e * x;
    sums.ezz += e * x * x;
    if constexpr (kReference) {
      const double delta = row.delta[row.label];
      sums.shift += e * std::expm1(delta * beta);
      const double y = floored((z_label + delta - look.reference_max) * beta);
      const double f = std::exp(y);
      sums.reference += f;
      sums.reference_ez += f * y;
      sums.e_delta += e * delta * beta;
    }
  }
  return sums;
}

// logsumexp over v != label, and the entropy of their softmax.
struct Others {
  double lse, entropy;
};

// log e - ez / e: no less than 0 but for rounding.
inline double entropy_of(double e, double ez) {
  const double h = std::log(e) - ez / e;
  return h < 0 ? 0 : h;
}

// Called with z[label] in place.
inline Others others_of(const HeadRow &row, int64_t V, double max, const Sums &sums) {
  if (!(sums.others < kTinySum)) return {max + std::log(sums.others), entropy_of(sums.others, sums.others_ez)};
  const float z_label = row.z[row.label];
  row.z[row.label] = -kInfinity;
  HeadRow rest = row;
  rest.label = -1;
  rest.delta = nullptr;
  const Look look = first_look<false>(rest, V);
  Others result = {-kInfinity, 0};
  if (look.max > -kInfinity) {
    const Sums again = second_look<false>(rest, V, look);
    result = {static_cast<double>(look.max) * row.inverse_temperature + std::log(again.e),
              entropy_of(again.e, again.ez)};
  }
  row.z[row.label] = z_label;
  return result;
}

}  // namespace lethe::cpu
