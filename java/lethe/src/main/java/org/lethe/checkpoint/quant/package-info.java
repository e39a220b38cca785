/**
 * The arithmetic of bitsandbytes' 4-bit and 8-bit weights, on plain arrays: what its published
 * source (github.com/bitsandbytes-foundation/bitsandbytes at 95f9af3, 0.50.1) computes, in IEEE
 * fp32. Knows nothing of files.
 *
 * <p>Its GPU build is compiled with {@code --use_fast_math}: there 1/absmax may be an ulp away and
 * denormals may be 0, so a value within an ulp of a threshold may get the neighbouring code.
 * Reading does not depend on any of that.
 */
package org.lethe.checkpoint.quant;
