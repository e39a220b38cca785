package org.lethe.model;

import java.nio.ByteBuffer;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * Plain weights from their source to the device, and all back, in pieces that fit the staging
 * memory. Rows that do not stand side by side on the device are spread, and put together again, on
 * the host: what lies between them is nobody's business.
 */
final class WeightTransfer {
  private final Ops ops;
  private final BaseWeights weights;
  private final Staging staging;

  WeightTransfer(Ops ops, BaseWeights weights, Staging staging) {
    this.ops = ops;
    this.weights = weights;
    this.staging = staging;
  }

  /** Takes a piece of a parameter. */
  @FunctionalInterface
  private interface PieceHandler {
    /**
     * @param first element of the parameter
     * @param at its place, in elements behind the parameter's own
     * @param rows that stand a stride apart on the device
     * @param columns of each of them
     */
    void accept(long first, long at, int rows, int columns);
  }

  /** Whole rows, or parts of one; a packed parameter is one row. */
  private static void inPieces(Parameter p, long capacity, PieceHandler handler) {
    long rows = p.packed() ? 1 : p.rows();
    long columns = p.packed() ? p.elements() : p.columns();
    long stride = p.packed() ? columns : p.stride();
    int together = (int) Math.max(1, Math.min(rows, capacity / stride));
    for (long row = 0; row < rows; row += together) {
      int n = (int) Math.min(together, rows - row);
      int width = (int) Math.min(columns, capacity);
      for (long column = 0; column < columns; column += width) {
        int part = (int) Math.min(width, columns - column);
        handler.accept(row * columns + column, row * stride + column, n, part);
      }
    }
  }

  /**
   * Fills a parameter.
   *
   * @param other memory of the device, as much as is staged
   */
  void load(WeightSource source, String name, Buffer other) {
    Parameter p = weights.parameter(name);
    Dtype stored = source.dtype(name);
    int width = ops.dtype().bytes();
    long first = weights.offset(name);
    Buffer buffer = weights.buffer(name);
    if (source.write(name, ops, buffer.at(first), p.stride())) {
      return;
    }
    inPieces(
        p,
        staging.capacity() / Float.BYTES,
        (from, at, rows, columns) -> {
          int row = columns * stored.bytes();
          source.read(name, from * stored.bytes(), staging.bytes().clear().limit(rows * row));
          int stride = rows == 1 ? row : Math.toIntExact(p.stride() * stored.bytes());
          int size = (rows - 1) * stride + row;
          spread(staging.bytes(), rows, row, stride);
          long target = first + at * width;
          if (stored == ops.dtype()) {
            staging.write(buffer, target, size);
          } else {
            staging.write(other, 0, size);
            int n = size / stored.bytes();
            ops.convert(n, stored, other.at(0), ops.dtype(), buffer.at(target));
          }
        });
  }

  /** Gives a parameter's rows, side by side; one that is kept in codes is dequantised. */
  void read(String name, Model.PieceConsumer consumer) {
    if (weights.isQuantized(name)) {
      readQuantized(name, consumer);
    } else {
      readPlain(name, consumer);
    }
  }

  private void readQuantized(String name, Model.PieceConsumer consumer) {
    weights.dequantize(ops, name);
    long size = weights.codes(name).parameter().elements() * ops.dtype().bytes();
    for (long done = 0; done < size; ) {
      int piece = (int) Math.min(staging.capacity(), size - done);
      staging.read(weights.arena().buffer(), weights.scratch() + done, piece);
      consumer.accept(staging.bytes().clear().limit(piece));
      done += piece;
    }
  }

  private void readPlain(String name, Model.PieceConsumer consumer) {
    Parameter p = weights.parameter(name);
    int width = ops.dtype().bytes();
    inPieces(
        p,
        staging.capacity() / width,
        (from, at, rows, columns) -> {
          int row = columns * width;
          int stride = rows == 1 ? row : Math.toIntExact(p.stride() * width);
          long size = (long) (rows - 1) * stride + row;
          staging.read(weights.buffer(name), weights.offset(name) + at * width, size);
          gather(staging.bytes(), rows, row, stride);
          consumer.accept(staging.bytes().clear().limit(rows * row));
        });
  }

  /** Moves packed rows apart; zeros come between them. */
  private static void spread(ByteBuffer bytes, int rows, int row, int stride) {
    bytes.clear();
    byte[] between = new byte[stride - row];
    for (int i = rows - 1; i > 0; i--) {
      bytes.put(i * stride, bytes, i * row, row);
      bytes.put(i * stride - between.length, between);
    }
  }

  private static void gather(ByteBuffer bytes, int rows, int row, int stride) {
    bytes.clear();
    for (int i = 1; stride > row && i < rows; i++) {
      bytes.put(i * row, bytes, i * stride, row);
    }
  }
}
