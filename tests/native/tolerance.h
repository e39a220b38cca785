// Every tolerance of the native tests, and where it comes from.
#pragma once

#include <cstdint>

namespace lethe::tolerance {

// One rounding to fp32 or bf16, relative.
inline constexpr double kUnit = 0x1p-24;
inline constexpr double kBf16Unit = 0x1p-8;

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
// delta / temperature minus the shift: three roundings.
inline constexpr double kShift = 3 * kUnit;
// Results below this are subnormal products or flushed to zero: exp(-87.3) times the largest logit difference that
// still counts.
inline constexpr double kTiny = 1e-35;
// The twin's gradient against the complex step of its value, both in fp64, relative to the logits' size: sixty-four
// roundings.
inline constexpr double kComplexStep = 64 * 0x1p-53;

// A logit, as an fp32 sum of d products in any order, relative to the largest.
inline double logit_error(int64_t d) { return static_cast<double>(d) * kUnit; }
// A divergence near zero goes with the square of delta, which in fp32 has lost h_ref - h's own bits: 0.01 between
// numbers near 1.
inline constexpr double kDelta = 100 * 8 * kUnit;

}  // namespace head
}  // namespace lethe::tolerance
