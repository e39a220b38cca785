package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.lethe.UserException;

/**
 * Streams tensors as {@code float} values between disk and wherever they live (device memory, an
 * array) in pieces of bounded size, converting F32, BF16 and F16 (round to nearest even).
 */
public final class FloatStream {
  private static final int PIECE_ELEMENTS = 1 << 18;

  private FloatStream() {}

  /** Gives values of a tensor. */
  @FunctionalInterface
  public interface Supplier {
    /**
     * Fills {@code into} (direct, native byte order) with the values from {@code firstElement} on.
     */
    void get(String name, long firstElement, FloatBuffer into);
  }

  /** Takes values of a tensor. */
  @FunctionalInterface
  public interface Consumer {
    /**
     * Takes the values (direct, native byte order, valid during the call) from {@code firstElement}
     * on.
     */
    void put(String name, long firstElement, FloatBuffer values);
  }

  /**
   * Reads a tensor whole, in order.
   *
   * @throws UserException if its type is not F32, BF16 or F16, or the file cannot be read
   */
  public static void read(TensorSource source, String name, Consumer consumer) {
    TensorInfo info = source.info(name);
    if (!info.dtype().convertsToFloat()) {
      throw new UserException(
          source.file(name)
              + ": tensor '"
              + name
              + "' is of type "
              + info.dtype()
              + "; convert it to F32, BF16 or F16");
    }
    int size = info.dtype().bits() / 8;
    long elements = info.elements();
    int piece = (int) Math.min(PIECE_ELEMENTS, elements);
    ByteBuffer stored = direct(piece * size).order(ByteOrder.LITTLE_ENDIAN);
    FloatBuffer values = direct(piece * Float.BYTES).asFloatBuffer();
    for (long at = 0; at < elements; at += piece) {
      int count = (int) Math.min(piece, elements - at);
      source.readInto(name, at * size, stored.clear().limit(count * size));
      stored.flip();
      values.clear();
      for (int i = 0; i < count; i++) {
        values.put(next(info.dtype(), stored));
      }
      consumer.put(name, at, values.flip());
    }
  }

  /**
   * Fills {@code into} with a tensor's values from {@code firstElement} on.
   *
   * @param source whose tensor is F32, BF16 or F16 and has that many values
   */
  static void read(TensorSource source, String name, long firstElement, FloatBuffer into) {
    StoredDtype dtype = source.info(name).dtype();
    int size = dtype.bits() / 8;
    ByteBuffer stored = ByteBuffer.allocate(into.remaining() * size).order(ByteOrder.LITTLE_ENDIAN);
    source.readInto(name, firstElement * size, stored);
    stored.flip();
    while (into.hasRemaining()) {
      into.put(next(dtype, stored));
    }
  }

  private static float next(StoredDtype dtype, ByteBuffer stored) {
    return switch (dtype) {
      case F32 -> stored.getFloat();
      case BF16 -> Float.intBitsToFloat(stored.getShort() << 16);
      default -> halfToFloat(stored.getShort());
    };
  }

  /** The value of F32, BF16 or F16 that is nearest to {@code value}, ties to even. */
  static float round(StoredDtype dtype, float value) {
    return switch (dtype) {
      case F32 -> value;
      case BF16 -> Float.intBitsToFloat(floatToBfloat16(value) << 16);
      default -> halfToFloat(floatToHalf(value));
    };
  }

  /**
   * {@code value} in fp32, such that rounding the result to BF16 or F16 gives what rounding {@code
   * value} at once would: where it is not exact, it is cut and its last bit set (round to odd,
   * Boldo and Melquiond 2008), so that it never lands on a tie by itself.
   */
  static float toOdd(double value) {
    float nearest = (float) value;
    if (nearest == value || !Float.isFinite(nearest)) {
      return nearest;
    }
    float cut = Math.abs((double) nearest) > Math.abs(value) ? towardsZero(nearest) : nearest;
    return Float.intBitsToFloat(Float.floatToRawIntBits(cut) | 1);
  }

  private static float towardsZero(float value) {
    return value > 0 ? Math.nextDown(value) : Math.nextUp(value);
  }

  /**
   * Writes a tensor whole; it must be the one the writer has due.
   *
   * @throws UserException if its type is not F32, BF16 or F16
   * @throws IOException if the writer's channel fails
   */
  public static void write(SafetensorsWriter writer, TensorSpec tensor, Supplier supplier)
      throws IOException {
    if (!tensor.dtype().convertsToFloat()) {
      throw new UserException(
          "tensor '"
              + tensor.name()
              + "' cannot be written as "
              + tensor.dtype()
              + "; choose F32, BF16 or F16");
    }
    int size = tensor.dtype().bits() / 8;
    long elements = tensor.bytes() / size;
    int piece = (int) Math.min(PIECE_ELEMENTS, elements);
    ByteBuffer stored = direct(piece * size).order(ByteOrder.LITTLE_ENDIAN);
    FloatBuffer values = direct(piece * Float.BYTES).asFloatBuffer();
    for (long at = 0; at < elements; at += piece) {
      values.clear().limit((int) Math.min(piece, elements - at));
      // A view, so that a supplier that leaves the position anywhere does no harm.
      supplier.get(tensor.name(), at, values.slice());
      stored.clear();
      while (values.hasRemaining()) {
        put(tensor.dtype(), values.get(), stored);
      }
      writer.write(tensor.name(), stored.flip());
    }
  }

  /** Appends a number to a little-endian buffer. */
  static void put(StoredDtype dtype, float value, ByteBuffer stored) {
    switch (dtype) {
      case F32 -> stored.putFloat(value);
      case BF16 -> stored.putShort(floatToBfloat16(value));
      default -> stored.putShort(floatToHalf(value));
    }
  }

  private static ByteBuffer direct(int bytes) {
    return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
  }

  static short floatToBfloat16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      // Cutting could leave a mantissa of 0, which is infinity: keep a quiet bit.
      return (short) ((bits >>> 16) | 0x40);
    }
    return (short) ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16);
  }

  static float halfToFloat(short half) {
    int sign = (half & 0x8000) << 16;
    int exponent = (half >>> 10) & 0x1f;
    int mantissa = half & 0x3ff;
    if (exponent == 0) {
      float magnitude = mantissa * 0x1p-24f;
      return sign == 0 ? magnitude : -magnitude;
    }
    int wide = exponent == 0x1f ? 0xff : exponent - 15 + 127;
    return Float.intBitsToFloat(sign | (wide << 23) | (mantissa << 13));
  }

  static short floatToHalf(float value) {
    int bits = Float.floatToRawIntBits(value);
    int sign = (bits >>> 16) & 0x8000;
    if (Float.isNaN(value)) {
      return (short) (sign | 0x7e00);
    }
    float magnitude = Math.abs(value);
    // 65520 is the midpoint between the largest half and the next power of two.
    if (magnitude >= 65520f) {
      return (short) (sign | 0x7c00);
    }
    if (magnitude < 0x1p-14f) {
      // Math.rint rounds to even; the result 1024 is the smallest normal half, as it should be.
      return (short) (sign | (int) Math.rint(magnitude * 0x1p24));
    }
    int rebased = (bits & 0x7fffffff) - ((127 - 15) << 23);
    return (short) (sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13));
  }
}
