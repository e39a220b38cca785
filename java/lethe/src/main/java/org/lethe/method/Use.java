package org.lethe.method;

/**
 * What a loss looks at: one per role.
 *
 * @param positions the rows of such a sequence that enter the head
 * @param kind the gradient direction that the head writes for them
 * @param reference what is needed of the reference model for them
 */
public record Use(Role role, Positions positions, RowKind kind, ReferenceUse reference) {}
