package org.lethe.model;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/**
 * One model among those that a base and its adapters span: W + Σ cᵢ·sᵢ·BᵢAᵢ, with sᵢ an adapter's
 * own scale. Nothing is merged: the adapters of a view are concatenated along the rank, so any
 * number of views stand on one copy of the weights, and a coefficient costs no rounding.
 *
 * <p>The reference model of a run, KGA's and Who's Harry Potter's other models, a negated task
 * vector (Ilharco et al., arXiv 2212.04089), "forgetting before learning" (arXiv 2311.08011) and
 * the mixtures of "Unlearning with Control" (arXiv 2406.09179) are all views.
 *
 * @param adapters each with its coefficient, none twice; those with coefficient 0 are dropped, so
 *     that they leave no trace, not even a rounded one
 */
public record View(List<Weighted> adapters) {
  /** The base alone. */
  public static final View BASE = new View(List.of());

  /**
   * An adapter in a view.
   *
   * @param adapter owned by the model that the view is of
   * @param coefficient what its product is multiplied by, besides its own scale
   */
  public record Weighted(Lora adapter, double coefficient) {
    public Weighted {
      if (!Double.isFinite(coefficient)) {
        throw new UserException(
            "an adapter's coefficient is " + coefficient + ", must be a finite number");
      }
    }
  }

  public View {
    Set<Lora> seen = new HashSet<>();
    for (Weighted w : adapters) {
      if (!seen.add(w.adapter())) {
        throw new InternalFaultException("a view names an adapter twice");
      }
    }
    adapters = adapters.stream().filter(w -> w.coefficient() != 0).toList();
  }

  /** The base with one adapter, as it was trained. */
  public static View of(Lora adapter) {
    return BASE.plus(adapter, 1);
  }

  /** This view and {@code coefficient} times an adapter that it does not have yet. */
  public View plus(Lora adapter, double coefficient) {
    List<Weighted> sum = new ArrayList<>(adapters);
    sum.add(new Weighted(adapter, coefficient));
    return new View(sum);
  }

  /**
   * The base and {@code factor} times all that this view adds to it: −1 negates a task vector, 1 −
   * u is the mixture u·base + (1 − u)·this, exactly, since weights are linear in the coefficients.
   */
  public View scaled(double factor) {
    return new View(
        adapters.stream().map(w -> new Weighted(w.adapter(), factor * w.coefficient())).toList());
  }
}
