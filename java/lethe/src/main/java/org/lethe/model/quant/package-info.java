/**
 * Double quantisation as bitsandbytes does it: what its published source
 * (github.com/bitsandbytes-foundation/bitsandbytes at 95f9af3, 0.50.1) computes, in IEEE fp32.
 */
package org.lethe.model.quant;
