package org.lethe.method;

import org.lethe.InternalFaultException;

/**
 * What a loss looks at. Equal uses share their rows; different ones of one role have rows of their
 * own on the same hidden states.
 *
 * @param positions the rows of such a sequence that enter the head
 * @param kind the gradient direction that the head writes for them
 * @param reference what is needed of the reference for them
 * @param view name of the view of the model that is the reference; {@link #BASE} where none is
 *     asked for
 * @param sources whose rows these are, and what else they are compared with
 */
public record Use(
    Role role,
    Positions positions,
    RowKind kind,
    ReferenceUse reference,
    String view,
    RowParameters parameters,
    Sources sources) {
  /** The view that every model has: the base with its adapters off. */
  public static final String BASE = "";

  public Use {
    if (reference == ReferenceUse.SEQUENCE_NLL
        && !(parameters.equals(RowParameters.DEFAULT) && positions.labelled())) {
      throw new InternalFaultException(
          "A reference's sequence nll is that of plain rows with labels, not of "
              + positions
              + " with "
              + parameters);
    }
  }

  /** Rows without parameters, compared with the base where they are compared at all. */
  public Use(Role role, Positions positions, RowKind kind, ReferenceUse reference) {
    this(role, positions, kind, reference, BASE, RowParameters.DEFAULT, Sources.PLAIN);
  }

  /** Plain rows with the gradient of their nll, and no reference. */
  public static Use nll(Role role, Positions positions) {
    return new Use(role, positions, RowKind.NLL, ReferenceUse.NONE);
  }

  /** Rows with the gradient of their nll, beside the base's nll of each sequence. */
  public static Use nllWithReference(Role role, Positions positions) {
    return new Use(role, positions, RowKind.NLL, ReferenceUse.SEQUENCE_NLL);
  }

  /** The same with these parameters. */
  public Use with(RowParameters others) {
    return new Use(role, positions, kind, reference, view, others, sources);
  }

  /** The same against another view of the model. */
  public Use against(String otherView) {
    return new Use(role, positions, kind, reference, otherView, parameters, sources);
  }

  /** The same with rows and references from elsewhere. */
  public Use from(Sources others) {
    return new Use(role, positions, kind, reference, view, parameters, others);
  }
}
