package org.lethe.model;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.Predicate;
import org.lethe.InternalFaultException;

/**
 * The parameters that one moment of the backward pass completes the gradients of: the end of the
 * model, each layer, the embedding. In each the matrices, which decay, and the vectors lie together
 * in the layout.
 *
 * @param groups in the order in which the backward pass completes them; adapters are one group
 */
record UpdateGroups(List<Group> groups) {
  // Groups of a layout start at multiples of it (Layout.Builder.align).
  private static final long ALIGNMENT = 32;

  /** Neighbours in the layout, {@code n} elements from {@code first} on, gaps included. */
  record Range(long first, long n) {
    long end() {
      return first + n;
    }
  }

  /** Matrices and vectors; either may be empty. */
  record Group(Range matrices, Range vectors) {
    long elements() {
      return matrices.n() + vectors.n();
    }
  }

  /** All in one group. */
  static UpdateGroups one(Layout layout) {
    long d = layout.decayed();
    return new UpdateGroups(
        List.of(new Group(new Range(0, d), new Range(d, layout.elements() - d))));
  }

  /** Those of a model's weights. */
  static UpdateGroups of(ModelConfig c, Layout layout) {
    List<Group> groups = new ArrayList<>();
    String finalNorm = c.modules().finalNorm() + ".";
    groups.add(
        group(
            layout,
            name ->
                name.equals(ParameterNames.HEAD)
                    || name.equals(ParameterNames.HEAD_BIAS)
                    || name.startsWith(finalNorm)));
    for (int layer = c.layers() - 1; layer >= 0; layer--) {
      String prefix = ParameterNames.module(layer, "");
      groups.add(group(layout, name -> name.startsWith(prefix)));
    }
    groups.add(group(layout, ParameterNames.EMBEDDING::equals));
    long covered = groups.stream().mapToLong(Group::elements).sum();
    if (covered != layout.elements()) {
      throw new InternalFaultException(
          "groups of " + covered + " parameters, of " + layout.elements() + " in the layout");
    }
    return new UpdateGroups(groups);
  }

  private static Group group(Layout layout, Predicate<String> has) {
    return new Group(range(layout, has, false), range(layout, has, true));
  }

  private static Range range(Layout layout, Predicate<String> has, boolean vectors) {
    long first = -1;
    long end = -1;
    for (Parameter p : layout.parameters().values()) {
      if (p.vector() == vectors && has.test(p.name())) {
        first = first < 0 ? p.offset() : first;
        end = (p.offset() + p.elements() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
      }
    }
    return first < 0 ? new Range(0, 0) : new Range(first, end - first);
  }

  /** The end of the model: head, final norm. */
  Group end() {
    return groups.get(0);
  }

  /** A layer's. */
  Group layer(int layer) {
    return groups.get(groups.size() - 2 - layer);
  }

  /** The embedding. */
  Group embedding() {
    return groups.get(groups.size() - 1);
  }

  /** The group that has a parameter. */
  Group of(Parameter p) {
    Optional<Group> found =
        groups.stream()
            .filter(
                g -> {
                  Range r = p.vector() ? g.vectors() : g.matrices();
                  return p.offset() >= r.first() && p.offset() < r.end();
                })
            .findFirst();
    return found.orElseThrow(() -> new InternalFaultException("no group has " + p.name()));
  }
}
