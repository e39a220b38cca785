package org.lethe.model;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import org.lethe.InternalFaultException;

/**
 * Where each parameter stands in an arena: matrices first, vectors after them, so that "decay
 * matrices, not norms" is one boundary. Groups that one GEMM reads together (q, k, v; gate, up)
 * stand side by side.
 */
public final class Layout {
  // 64 bytes in bf16: groups start on a cache line in either storage.
  private static final long ALIGNMENT = 32;

  private final Map<String, Parameter> parameters;
  private final long elements;
  private final long decayed;

  private Layout(Map<String, Parameter> parameters, long elements, long decayed) {
    this.parameters = Collections.unmodifiableMap(parameters);
    this.elements = elements;
    this.decayed = decayed;
  }

  /** All parameters by name, in arena order. */
  public Map<String, Parameter> parameters() {
    return parameters;
  }

  /** A parameter by its name; one that is not there is a fault. */
  public Parameter parameter(String name) {
    Parameter parameter = parameters.get(name);
    if (parameter == null) {
      throw new InternalFaultException("no parameter " + name);
    }
    return parameter;
  }

  /** Elements of the arena, alignment included. */
  public long elements() {
    return elements;
  }

  /** Elements of the matrices at the start: those that weight decay acts on. */
  public long decayed() {
    return decayed;
  }

  /** Numbers that are parameters, alignment not included. */
  public long count() {
    return parameters.values().stream().mapToLong(Parameter::elements).sum();
  }

  /** Collects parameters; matrices must all come before the first vector. */
  static final class Builder {
    private final Map<String, Parameter> parameters = new LinkedHashMap<>();
    private long next;
    private long decayed = -1;

    Builder align() {
      next = (next + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
      return this;
    }

    Builder matrix(String name, long rows, long columns) {
      return matrix(name, rows, columns, columns);
    }

    /** One whose rows stand {@code stride} elements apart. */
    Builder matrix(String name, long rows, long columns, long stride) {
      if (decayed >= 0) {
        throw new InternalFaultException("matrix " + name + " after the first vector");
      }
      return add(name, rows, columns, false, stride);
    }

    /** Leaves room behind the last matrix. */
    Builder skip(long count) {
      next += count;
      return this;
    }

    Builder vector(String name, long columns) {
      if (decayed < 0) {
        align();
        decayed = next;
      }
      return add(name, 1, columns, true, columns);
    }

    private Builder add(String name, long rows, long columns, boolean vector, long stride) {
      parameters.put(name, new Parameter(name, rows, columns, vector, next, stride));
      next += rows * stride;
      return this;
    }

    Layout build() {
      align();
      return new Layout(parameters, next, decayed < 0 ? next : decayed);
    }
  }
}
