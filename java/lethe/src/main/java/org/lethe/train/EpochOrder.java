package org.lethe.train;

import org.lethe.data.Pairing;

/**
 * The order of an epoch's rows, made once for all steps of the epoch. Only one thread at a time may
 * call it.
 */
final class EpochOrder {
  private final Pairing pairing;
  private final int rows;
  private int[] order = {};
  private int epoch = -1;

  EpochOrder(Pairing pairing, int rows) {
    this.pairing = pairing;
    this.rows = rows;
  }

  /** The row that stands at each place; to be read only. */
  int[] of(int wanted) {
    if (wanted != epoch) {
      order = pairing.order(rows, wanted);
      epoch = wanted;
    }
    return order;
  }
}
