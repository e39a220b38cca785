package org.lethe.method;

/** Sums over a whole step that a {@link Loss} asks for ahead of its terms, by index. */
public final class Measured {
  private final ExactSum[] sums;

  Measured(int size) {
    sums = new ExactSum[size];
    for (int i = 0; i < size; i++) {
      sums[i] = new ExactSum();
    }
  }

  /** Adds to a sum. */
  public void add(int index, double value) {
    sums[index].add(value);
  }

  double value(int index) {
    return sums[index].value();
  }

  int size() {
    return sums.length;
  }
}
