// Every tolerance of the native tests, and where it comes from.
#pragma once

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
// The twin's gradients against the complex step of its value, both in fp64, relative to the largest of a tensor.
inline constexpr double kComplexStep = 1e-13;

}  // namespace attention

namespace swiglu {

// exp two units, 1 + e, the quotient, three products and a sum; relative to the magnitudes summed.
inline constexpr double kRelative = 12 * kUnit;
// Where e^-g overflows, g s is 0 instead of a number below this.
inline constexpr double kTiny = 1e-34;
inline constexpr double kComplexStep = 1e-13;

}  // namespace swiglu

namespace rotary {

// Two products and their sum.
inline constexpr double kRelative = 3 * kUnit;

}  // namespace rotary
}  // namespace lethe::tolerance
