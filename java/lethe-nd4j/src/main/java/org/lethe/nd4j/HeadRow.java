package org.lethe.nd4j;

import java.util.ArrayList;
import java.util.List;
import org.lethe.UserException;
import org.lethe.method.RowKind;
import org.nd4j.linalg.api.ndarray.INDArray;

/**
 * What a loss looks at: one row of logits. A source may have several rows.
 *
 * @param source row of the hidden states
 * @param label the token that {@link RowKind#NLL} asks for, in [0, V); {@link #NONE} where a kind
 *     has no use for it (its statistics then have no label either)
 * @param kind the direction of the row's gradient
 * @param reference row of the hidden states that holds the reference model's, for the kinds {@link
 *     RowKind#REFERENCE_KL} and {@link RowKind#KL_REFERENCE}; {@link #NONE} for the others
 */
public record HeadRow(int source, int label, RowKind kind, int reference) {
  /** No label, or no reference. */
  public static final int NONE = -1;

  /** A row without a reference. */
  public static HeadRow of(int source, int label, RowKind kind) {
    return new HeadRow(source, label, kind, NONE);
  }

  /** A row that compares two hidden states: the model's and the reference's. */
  public static HeadRow against(int source, int reference, RowKind kind) {
    return new HeadRow(source, NONE, kind, reference);
  }

  /**
   * One row per label: {@code labels[i]} belongs to row i of the hidden states. A negative label
   * leaves its row out, as Hugging Face's −100 asks.
   *
   * @param kind one without a reference
   * @param labels [N], INT32 or INT64, of any strides; copied
   * @throws UserException when the labels are no vector of integers, or exceed an int
   */
  public static List<HeadRow> of(RowKind kind, INDArray labels) {
    if (labels.rank() != 1 || !labels.dataType().isIntType()) {
      throw new UserException(
          "labels are "
              + Nd4jArrays.name(labels)
              + "; give one INT32 or INT64 per row of the hidden states, of rank 1");
    }
    List<HeadRow> rows = new ArrayList<>();
    for (int i = 0; i < labels.length(); i++) {
      long label = labels.getLong(i);
      if (label > Integer.MAX_VALUE) {
        throw new UserException("label " + i + " is " + label + ", which no vocabulary holds");
      }
      if (label >= 0) {
        rows.add(of(i, (int) label, kind));
      }
    }
    return rows;
  }
}
