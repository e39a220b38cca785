package org.lethe.method;

/**
 * Where the logits of a use come from, besides the trained model and one reference.
 *
 * @param policy the model whose rows these are: {@link #TRAINED}, or the name of a view, of which
 *     there is no gradient
 * @param second name of a second reference, for {@link RowParameters#mix}; null: none. It reads the
 *     sequence itself
 * @param counterpart whether the first reference reads the sequence's counterpart, a translation or
 *     the text without a control token, in its place; only rows that have one there take part
 */
public record Sources(String policy, String second, boolean counterpart) {
  /** The model that trains. */
  public static final String TRAINED = "*";

  /** The trained model, and at most one reference that reads what it reads. */
  public static final Sources PLAIN = new Sources(TRAINED, null, false);

  /** Whether a gradient flows through the rows. */
  public boolean trained() {
    return policy.equals(TRAINED);
  }
}
