package org.lethe.method;

import org.lethe.InternalFaultException;

/**
 * Numbers of a row that change what the head makes of it. With z the model's logits and w those of
 * the reference, the row sees z/τ and (w − labelShift·e_y)/τ.
 *
 * @param temperature τ, above 0
 * @param labelShift taken off the reference's logit of the label (UNDIAL)
 * @param mix α of w = w₁ − α·relu(w₂ − w₁), with a second reference w₂
 * @param epsilon ε inside the logarithm of the kind that has one, not negative
 */
public record RowParameters(float temperature, float labelShift, float mix, float epsilon) {
  /** What a row has that asks for nothing: 1, 0, 0, 0. */
  public static final RowParameters DEFAULT = new RowParameters(1, 0, 0, 0);

  public RowParameters {
    if (!(temperature > 0 && epsilon >= 0) || Float.isInfinite(temperature)) {
      throw new InternalFaultException(
          "Row parameters with temperature " + temperature + " and epsilon " + epsilon);
    }
  }

  /** A temperature and nothing else. */
  public static RowParameters temperature(double temperature) {
    return new RowParameters((float) temperature, 0, 0, 0);
  }
}
