package org.lethe.model;

import org.lethe.kernels.Arena;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Ops;

/**
 * Activations that are kept on the host between the forward and the backward pass. Layer k of them
 * works in place k % 2 on the device; the last two stay there. Copies go beside the layers'
 * products: out while the next layer runs, in while the one above is gone back through. Only the
 * backend's thread may call it.
 */
final class HostLayers implements AutoCloseable {
  private static final int PLACES = 2;

  private final Ops ops;
  private final Arena device;
  private final long[] places;
  private final long bytes;
  private final int first;
  private final int count;
  private final Buffer host;
  // The last copy from or to each place; 0: none.
  private final long[] tickets = new long[PLACES];

  /**
   * Takes the host's memory.
   *
   * @param places byte offsets of the two places in {@code device}
   * @param bytes of a layer
   * @param first of the layers
   * @param count of the layers, more than two
   */
  HostLayers(Ops ops, Arena device, long[] places, long bytes, int first, int count) {
    this.ops = ops;
    this.device = device;
    this.places = places;
    this.bytes = bytes;
    this.first = first;
    this.count = count;
    this.host = ops.backend().allocateHost(moved() * bytes, "activations");
  }

  /** The last ones need not move: their places are nobody's after them. */
  private long moved() {
    return (long) count - PLACES;
  }

  /** Before a layer's forward pass writes its place. */
  void beforeForward(int layer) {
    int k = layer - first;
    if (k >= 0 && k < count) {
      free(k % PLACES);
    }
  }

  /** After a layer's forward pass: its place is needed by the one after the next. */
  void afterForward(int layer) {
    int k = layer - first;
    if (k >= 0 && k < moved()) {
      tickets[k % PLACES] = ops.copyAside(host.at(k * bytes), at(k), bytes);
    }
  }

  /** Before a layer's backward pass, which reads its place; asks for the one below. */
  void beforeBackward(int layer) {
    int k = layer - first;
    if (k < 0 || k >= count) {
      return;
    }
    free(k % PLACES);
    int below = k - 1;
    if (below >= 0 && below < moved()) {
      free(below % PLACES);
      tickets[below % PLACES] = ops.copyAside(at(below), host.at(below * bytes), bytes);
    }
  }

  private void free(int place) {
    if (tickets[place] != 0) {
      ops.waitAside(tickets[place]);
      tickets[place] = 0;
    }
  }

  private long at(int k) {
    return device.at(places[k % PLACES]);
  }

  @Override
  public void close() {
    // What is still on its way would meet memory that is somebody else's.
    free(0);
    free(1);
    host.close();
  }
}
