package org.lethe.method;

/** What a loss needs of the reference model, the model as it was when unlearning began. */
public enum ReferenceUse {
  /** Nothing. */
  NONE,
  /** One number per sequence: {@link Sequence#referenceNll}. */
  SEQUENCE_NLL,
  /** Its hidden states at the head's rows, from which the head forms {@link RowStatistics#kl}. */
  HIDDEN
}
