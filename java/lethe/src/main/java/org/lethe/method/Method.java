package org.lethe.method;

import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.lethe.InternalFaultException;

/**
 * An unlearning objective: Σ weight · loss. A pure function of the statistics of a step's rows and
 * of the losses' state; any thread may call it.
 *
 * @param name as configured, such as "ME+GD"
 * @param losses at least one, each with a name of its own
 */
public record Method(String name, List<Weighted> losses) {
  private static final String SEPARATOR = ".";

  public Method {
    losses = List.copyOf(losses);
    Set<String> names = new LinkedHashSet<>();
    for (Weighted part : losses) {
      if (!names.add(part.loss().name())) {
        throw new InternalFaultException(name + " has " + part.loss().name() + " twice");
      }
    }
    if (losses.isEmpty()) {
      throw new InternalFaultException("The objective " + name + " has no loss");
    }
  }

  /** The names of the losses. */
  public List<String> lossNames() {
    return losses.stream().map(part -> part.loss().name()).toList();
  }

  /** What the method looks at, each use once. */
  public List<Use> uses() {
    return losses.stream().flatMap(part -> part.loss().uses().stream()).distinct().toList();
  }

  /** Whether a loss belongs to the forget side. */
  public boolean forgets() {
    return losses.stream().anyMatch(Weighted::forgets);
  }

  /** Whether a loss belongs to the retain side. */
  public boolean retains() {
    return losses.stream().anyMatch(part -> !part.forgets());
  }

  /** Whether a step's sums must be taken ahead of its first coefficient. */
  public boolean measures() {
    return sums() > 0;
  }

  /** How many such sums there are. */
  public int sums() {
    return losses.stream().mapToInt(part -> part.loss().measures()).sum();
  }

  /** The numbers that outlive a step, by loss and name, as they are before the first. */
  public Map<String, Double> initialState() {
    Map<String, Double> state = new TreeMap<>();
    for (Weighted part : losses) {
      part.loss()
          .initialState()
          .forEach((key, value) -> state.put(part.loss().name() + SEPARATOR + key, value));
    }
    return state;
  }

  /**
   * The numbers after an update.
   *
   * @param values each loss's own value of the step; a loss that is missing took no part in it
   */
  public Map<String, Double> nextState(
      Map<String, Double> state, Map<String, Double> values, StepPlace place) {
    Map<String, Double> next = new TreeMap<>(state);
    for (Weighted part : losses) {
      Loss loss = part.loss();
      Double value = values.get(loss.name());
      if (value != null) {
        loss.nextState(stateOf(loss, state), value, place)
            .forEach((key, number) -> next.put(loss.name() + SEPARATOR + key, number));
      }
    }
    return next;
  }

  /** A loss's part of the state, by its own names. */
  static Map<String, Double> stateOf(Loss loss, Map<String, Double> state) {
    Map<String, Double> own = new LinkedHashMap<>();
    for (String key : loss.initialState().keySet()) {
      Double value = state.get(loss.name() + SEPARATOR + key);
      if (value == null) {
        throw new InternalFaultException("The state has no " + loss.name() + SEPARATOR + key);
      }
      own.put(key, value);
    }
    return own;
  }

  /**
   * The part of this objective that a step on one side of the pairs has.
   *
   * @throws InternalFaultException when nothing is left
   */
  public Method on(boolean forgets, boolean retains) {
    List<Weighted> left =
        losses.stream().filter(part -> part.forgets() ? forgets : retains).toList();
    if (left.isEmpty()) {
      throw new InternalFaultException("a step has no sequence that " + name() + " looks at");
    }
    return new Method(name, left);
  }

  /**
   * Begins a step, which may come in several micro-batches.
   *
   * @param totals of the whole step
   * @throws InternalFaultException when the step lacks a role that a loss needs
   */
  public MethodStep begin(Totals totals) {
    return begin(totals, totals, initialState());
  }

  /**
   * Begins one process's share of a step: denominators are the whole step's, and the values are
   * this share's, which add up to the step's.
   *
   * @param share totals of what will be given
   * @param state as {@link #nextState} left it
   */
  public MethodStep begin(Totals totals, Totals share, Map<String, Double> state) {
    return new MethodStep(this, totals, share, state);
  }
}
