package org.lethe.torch;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.UserException;
import org.lethe.kernels.HeadOps;
import org.lethe.method.RowKind;

/**
 * The rows that a loss looks at: for each a hidden state, a label, and the direction of its
 * gradient. One thread at a time.
 *
 * <p>Hidden states that no row names cost nothing and get a gradient of 0, so prompts and padding
 * are left out by not naming them. A hidden state may be named by several rows; their gradients are
 * added in the order of the rows.
 */
public final class TorchRows {
  private static final int NONE = -1;

  private final List<RowKind> kinds = new ArrayList<>();
  private int[] records = new int[16 * HeadOps.ROW_FIELDS];

  /** The rows 0, 1, 2, ... of the hidden states, all of one kind. */
  public static TorchRows of(RowKind kind, int... labels) {
    TorchRows rows = new TorchRows();
    for (int i = 0; i < labels.length; i++) {
      rows.add(i, labels[i], kind);
    }
    return rows;
  }

  /**
   * Adds a row that needs no reference.
   *
   * @param source its hidden state: a row of the tensor, all extents but the last flattened
   * @param label in [0, V), or a negative number for none, which {@link RowKind#NLL} does not allow
   */
  public TorchRows add(int source, int label, RowKind kind) {
    return add(source, label, kind, NONE);
  }

  /**
   * Adds a row.
   *
   * @param reference the hidden state of the reference model: a row of the reference tensor, or,
   *     where there is none, of the same tensor as {@code source}; -1 for kinds that need none
   */
  public TorchRows add(int source, int label, RowKind kind, int reference) {
    int row = kinds.size();
    if (source < 0) {
      throw new UserException("row " + row + " has source " + source + "; give 0 or more");
    }
    if (needsReference(kind) != reference >= 0) {
      throw new UserException(
          "row "
              + row
              + " is "
              + kind
              + " with reference "
              + reference
              + "; REFERENCE_KL and KL_REFERENCE need one, the other kinds take -1");
    }
    if (kind == RowKind.NLL && label < 0) {
      throw new UserException("row " + row + " is NLL without a label; give it one");
    }
    int at = row * HeadOps.ROW_FIELDS;
    if (at == records.length) {
      records = Arrays.copyOf(records, 2 * at);
    }
    records[at] = source;
    records[at + 1] = Math.max(label, NONE);
    records[at + 2] = kind.code();
    records[at + 3] = reference;
    records[at + 4] = NONE;
    kinds.add(kind);
    return this;
  }

  public int size() {
    return kinds.size();
  }

  /** The kind of a row. */
  public RowKind kind(int row) {
    return kinds.get(row);
  }

  /** Whether a kind compares with a reference. */
  static boolean needsReference(RowKind kind) {
    return kind == RowKind.REFERENCE_KL || kind == RowKind.KL_REFERENCE;
  }

  /**
   * The records that the head reads, {source, label, kind, reference} each, checked against what
   * there is.
   *
   * @param sources rows of the hidden states
   * @param references rows of the reference's hidden states
   * @param firstReference where those begin in the table that the head sees
   */
  int[] records(int sources, int references, int firstReference, int vocabulary) {
    int[] checked = Arrays.copyOf(records, size() * HeadOps.ROW_FIELDS);
    for (int row = 0; row < size(); row++) {
      int at = row * HeadOps.ROW_FIELDS;
      below(row, "source", checked[at], sources);
      below(row, "label", checked[at + 1], vocabulary);
      below(row, "reference", checked[at + 3], references);
      if (checked[at + 3] >= 0) {
        checked[at + 3] += firstReference;
      }
    }
    return checked;
  }

  private static void below(int row, String what, int value, int bound) {
    if (value >= bound) {
      throw new UserException(
          "row " + row + " has " + what + " " + value + "; there are " + bound + " of them");
    }
  }
}
