package org.lethe.model;

import java.nio.FloatBuffer;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * The way of adapters' values between fp32 on the host and a device, in pieces: adapters of a high
 * rank are larger than a Java heap.
 */
final class LoraTransfer implements AutoCloseable {
  private static final int MOST = 1 << 18;

  private final Ops ops;
  private final Arena storage;
  private final Buffer master;
  private final int piece;
  private final Staging staging;
  private final Arena wide;

  /**
   * Takes room for a piece.
   *
   * @param storage the working copy, alone in its arena
   * @param master the buffer that begins with the fp32 master; null where there is none
   */
  LoraTransfer(Ops ops, Arena storage, Buffer master, long elements) {
    this.ops = ops;
    this.storage = storage;
    this.master = master;
    this.piece = (int) Math.max(1, Math.min(MOST, elements));
    this.staging = new Staging(piece * Float.BYTES);
    if (ops.dtype() == Dtype.F32) {
      this.wide = null;
      return;
    }
    this.wide = new Arena(ops.backend());
    try {
      wide.reserve(piece, Dtype.F32);
      wide.allocate();
    } catch (RuntimeException e) {
      staging.close();
      throw e;
    }
  }

  /** Values from an element of the layout on. */
  void put(long element, FloatBuffer values) {
    for (long at = element; values.hasRemaining(); ) {
      int n = Math.min(piece, values.remaining());
      staging.bytes().clear().asFloatBuffer().put(values.slice().limit(n));
      values.position(values.position() + n);
      if (wide == null) {
        staging.write(storage.buffer(), at * Float.BYTES, (long) n * Float.BYTES);
      } else {
        staging.write(wide.buffer(), 0, (long) n * Float.BYTES);
        ops.convert(n, Dtype.F32, wide.at(0), ops.dtype(), storage.at(at * ops.dtype().bytes()));
      }
      if (master != null) {
        staging.write(master, at * Float.BYTES, (long) n * Float.BYTES);
      }
      at += n;
    }
  }

  /** Fills {@code values} from an element of the layout on: the master's where there is one. */
  void get(long element, FloatBuffer values) {
    for (long at = element; values.hasRemaining(); ) {
      int n = Math.min(piece, values.remaining());
      if (master != null) {
        staging.read(master, at * Float.BYTES, (long) n * Float.BYTES);
      } else if (wide == null) {
        staging.read(storage.buffer(), at * Float.BYTES, (long) n * Float.BYTES);
      } else {
        ops.convert(n, ops.dtype(), storage.at(at * ops.dtype().bytes()), Dtype.F32, wide.at(0));
        staging.read(wide.buffer(), 0, (long) n * Float.BYTES);
      }
      values.put(staging.bytes().clear().asFloatBuffer().limit(n));
      at += n;
    }
  }

  @Override
  public void close() {
    staging.close();
    if (wide != null) {
      wide.close();
    }
  }
}
