// Every tolerance of the native tests, and where it comes from.
#pragma once

#include <cstdint>

namespace lethe::tolerance {

// One rounding to fp32 or bf16, relative.
inline constexpr double kUnit = 0x1p-24;
inline constexpr double kBf16Unit = 0x1p-8;

// First-order bounds: each rounding is one unit of the size of what it rounds, and a chain of n sums at most n units of
// the sum of magnitudes. The tests carry those magnitudes along in their fp64 twins.
namespace attention {

// A score is a chain of head_dim products of scaled queries; then the maximum or lse is taken off, twice the largest
// score at most.
inline constexpr double score(double head_dim) { return (head_dim + 4) * kUnit; }
// exp (1 ulp is two units), the sum over n keys, its inverse, and two products.
inline constexpr double weights(double n) { return (2 * n + 8) * kUnit; }
// A chain of n products into a gradient, and the scale.
inline constexpr double chain(double n) { return (n + 2) * kUnit; }
// What tensor cores add, relative to each product: a weight, or a score's gradient, is rounded to bf16 to be multiplied
// with a row of storage.
inline constexpr double kOperand = kBf16Unit;
// They cut off what they do not keep of a sum instead of rounding it, which is two units for an addition.
inline constexpr double kCut = 2;
// The twin's gradients against the complex step of its value, both in fp64, relative to the largest of a tensor.
inline constexpr double kComplexStep = 1e-13;

}  // namespace attention

namespace activation {

// exp two units, its argument's reduction, 1 + e, the quotient, five products and a sum; relative to the magnitudes
// summed. gelu's argument of exp has six roundings of its own, which count with its size.
inline constexpr double kRelative = 14 * kUnit;
// Where e^-x overflows, x s is 0 instead of a number below this.
inline constexpr double kTiny = 1e-34;
inline constexpr double kComplexStep = 1e-13;

}  // namespace activation

namespace norm {

// A sum of n numbers or squares in any order, then a root, a quotient and a product.
inline constexpr double sum(double n) { return (n + 6) * kUnit; }
// The twin's gradient against the complex step of its value, both in fp64, relative to the largest.
inline constexpr double kComplexStep = 1e-13;

}  // namespace norm

namespace rotary {

// Two products and their sum.
inline constexpr double kRelative = 3 * kUnit;

}  // namespace rotary
namespace head {

// A sum of n numbers of one sign, added in a chain, is off by n units at most. The longest chain is that of a CUDA
// thread: 152064 columns over 1024 threads, and the tree behind it; the CPU's is 32.
inline constexpr double kSum = 192 * kUnit;
// exp: two units in the last place (four roundings) on the GPU, as many on the CPU, and as much for the product with
// the inverse of the sum.
inline constexpr double kExp = 8 * kUnit;
// exp's argument d = (z - max) / temperature: a difference, a product, a rounded 1 / temperature, and the reduction of
// the argument, each a unit of |d|; two spare.
inline constexpr double kArgument = 6 * kUnit;
// tanh: three units in the last place (six roundings), and as many for the product with the cap; relative to the cap.
inline constexpr double kTanh = 8 * kUnit;
// delta / temperature minus the shift: three roundings.
inline constexpr double kShift = 3 * kUnit;
// Results below this are subnormal products or flushed to zero: exp(-87.3) times the largest logit difference that
// still counts.
inline constexpr double kTiny = 1e-35;
// The twin's gradient against the complex step of its value, both in fp64, relative to the logits' size: sixty-four
// roundings.
inline constexpr double kComplexStep = 64 * 0x1p-53;

// The twin's own rounding of a divergence that is 0: the square of an fp64 unit, and what multiplies it.
inline constexpr double kTwin = 0x1p-98;

// A logit, as an fp32 sum of d products in any order, relative to the largest.
inline double logit_error(int64_t d) { return static_cast<double>(d) * kUnit; }
// A divergence near zero goes with the square of delta, which in fp32 has lost h_ref - h's own bits: 0.01 between
// numbers near 1.
inline constexpr double kDelta = 100 * 8 * kUnit;
// CUDA alone, whose row kernel has no fp64: the shift log1p(sum of p expm1(delta)) in fp32 is off by a rounding for
// each addend, expm1's, and those of the quotient, the logarithm and its difference with delta; relative to the sum of
// p |expm1(delta)|. A divergence is off by its square, also one that is 0.
inline constexpr double shift(double V) { return (V < 192 ? V : 192) * kUnit + kExp + 5 * kUnit; }

}  // namespace head

namespace linear {

// A sum of n products in fp32, in any order, is off by n units of the sum of their magnitudes at most: one per
// addition, one per product where it is not fused.
inline constexpr double sum(double n) { return (n + 2) * kUnit; }
// CUDA stores the low-rank part of y and dx, with the residual and a bias, before the product with W is added to it: in
// bf16 one rounding more, of the size of what is stored each time.
inline constexpr double kStoredPart = kBf16Unit;
// Adapters with dropout whose parts of dx CUDA sums before it stores them.
inline constexpr int64_t kMaskedParts = 16;
// The twin's gradients against the complex step of its value, both in fp64, relative to the largest entry.
inline constexpr double kComplexStep = 1e-13;

}  // namespace linear

namespace random {

// Of std times the pair's radius, in fp32 or better: ln (2 units in the last place, halved by the root), the root, the
// angle (2 pi u, which is up to 6.3 units of rounding, and the product), cos or sin, and two products; two spare.
inline constexpr double kNormal = 16 * kUnit;

}  // namespace random

namespace chain {

// Each backend's fp32 gradients stay within 1e-5 of fp64's and their movement within 1e-3, relative to a tensor's
// length (the bounds of the goldens): two of them are apart by no more than twice that.
inline constexpr double kGradient = 2e-5;
inline constexpr double kMovement = 2e-3;
// In bf16 some 26 tensors on the way are rounded in both, each by half a unit at most; to first order they add up.
inline constexpr double kBf16Gradient = 2 * 26 * kBf16Unit / 2;

}  // namespace chain

namespace update {

// The norm is an fp64 sum rounded to fp32 once; the clip coefficient, too.
inline constexpr double kNorm = kUnit * (1 + 1e-6);
// m: a product each, the clipped gradient, the sum. 1 - beta1 is exact for beta1 in [0.5, 1].
inline constexpr double kFirstMoment = 4 * kUnit;
// v: as m, with a square, in which the clipped gradient's rounding counts twice.
inline constexpr double kSecondMoment = 6 * kUnit;
// The step: the two moments (half the second's, under the root), root, two bias corrections, product, sum with eps,
// quotient, product.
inline constexpr double kStep = kFirstMoment + kSecondMoment / 2 + 7 * kUnit;
// The decay: lr * decay, its product with p.
inline constexpr double kDecay = 2 * kUnit;
// Two differences, each of about p's size.
inline constexpr double kParameter = 2 * kUnit;

}  // namespace update
}  // namespace lethe::tolerance
