package org.lethe.model;

import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;

/**
 * Where the gradients of a fused update lie: one place for a layer's, which all layers take in
 * turn, one for the head's and then the embedding's matrix, and one for the vectors at the model's
 * end.
 */
final class GradientSlots {
  private final Arena arena;
  private final Layout layout;
  private final UpdateGroups groups;
  private final long layer;
  private final long ends;
  private final long endVectors;

  /** Reserves them. */
  GradientSlots(Arena arena, Layout layout, UpdateGroups groups) {
    this.arena = arena;
    this.layout = layout;
    this.groups = groups;
    long largest = 0;
    for (UpdateGroups.Group group : groups.groups()) {
      if (!group.equals(groups.end()) && !group.equals(groups.embedding())) {
        largest = Math.max(largest, group.elements());
      }
    }
    this.layer = arena.reserve(largest, Dtype.F32);
    this.ends =
        arena.reserve(
            Math.max(groups.end().matrices().n(), groups.embedding().matrices().n()), Dtype.F32);
    this.endVectors = arena.reserve(groups.end().vectors().n(), Dtype.F32);
  }

  /** The ref of the gradients of a group's matrices. */
  long matrices(UpdateGroups.Group group) {
    boolean ofLayer = !group.equals(groups.end()) && !group.equals(groups.embedding());
    return arena.at(ofLayer ? layer : ends);
  }

  /** The ref of the gradients of a group's vectors. */
  long vectors(UpdateGroups.Group group) {
    return group.equals(groups.end())
        ? arena.at(endVectors)
        : arena.at(layer) + group.matrices().n() * Float.BYTES;
  }

  /** The ref of a parameter's gradient. */
  long gradient(String name) {
    Parameter p = layout.parameter(name);
    UpdateGroups.Group group = groups.of(p);
    return p.vector()
        ? vectors(group) + (p.offset() - group.vectors().first()) * Float.BYTES
        : matrices(group) + (p.offset() - group.matrices().first()) * Float.BYTES;
  }
}
