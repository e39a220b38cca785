package org.lethe.model;

/**
 * A named tensor inside an arena of parameters.
 *
 * @param name as Hugging Face (or PEFT) spells it
 * @param rows first extent; 1 for a vector
 * @param columns last extent
 * @param vector whether the file's shape is {@code [columns]}
 * @param offset first element in the arena
 * @param stride elements there from row to row, at least {@code columns}
 */
public record Parameter(
    String name, long rows, long columns, boolean vector, long offset, long stride) {
  /** Number of its elements. */
  public long elements() {
    return rows * columns;
  }

  /** Whether there is nothing between its rows. */
  public boolean packed() {
    return stride == columns;
  }

  /** Its shape: [rows, columns], or [columns] for a vector. */
  public long[] shape() {
    return vector ? new long[] {columns} : new long[] {rows, columns};
  }
}
