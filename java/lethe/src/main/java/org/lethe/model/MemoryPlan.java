package org.lethe.model;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;
import org.lethe.EnvironmentException;
import org.lethe.kernels.Backend;

/** What is about to be taken of a device, part by part, and which settings would make it less. */
public final class MemoryPlan {
  private final Map<String, Long> parts = new LinkedHashMap<>();
  private final List<String> remedies = new ArrayList<>();

  /** Something that is about to be taken. */
  public MemoryPlan part(String name, long bytes) {
    parts.put(name, bytes);
    return this;
  }

  /** The same where it is anything at all. */
  public MemoryPlan partIfAny(String name, long bytes) {
    return bytes > 0 ? part(name, bytes) : this;
  }

  /** A setting that would free so much; not mentioned when that is nothing. */
  public MemoryPlan remedy(String setting, long frees) {
    if (frees > 0) {
      remedies.add(setting + " frees " + Backend.amount(frees));
    }
    return this;
  }

  /** Something else that can be done. */
  public MemoryPlan remedy(String what) {
    remedies.add(what);
    return this;
  }

  /**
   * Does what takes memory; a shortage is told with the plan.
   *
   * @throws EnvironmentException when there is not enough
   */
  public static <T> T take(Supplier<T> work, Supplier<MemoryPlan> plan) {
    try {
      return work.get();
    } catch (EnvironmentException e) {
      if (!e.isOutOfMemory()) {
        throw e;
      }
      throw new EnvironmentException(e.getMessage() + plan.get(), e.getCause());
    }
  }

  @Override
  public String toString() {
    StringBuilder text = new StringBuilder();
    if (!parts.isEmpty()) {
      text.append("; planned:");
      String separator = " ";
      for (Map.Entry<String, Long> part : parts.entrySet()) {
        text.append(separator).append(part.getKey()).append(' ');
        text.append(Backend.amount(part.getValue()));
        separator = ", ";
      }
    }
    return text.append("; what helps: ").append(String.join(", or ", remedies)).toString();
  }
}
