package org.lethe.checkpoint;

/**
 * Shape of a linear module's weight [out, in].
 *
 * @param out rows of the weight
 * @param in columns of the weight
 */
public record LinearShape(long out, long in) {}
