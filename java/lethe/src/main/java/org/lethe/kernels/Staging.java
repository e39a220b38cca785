package org.lethe.kernels;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Pointer;
import org.lethe.UserException;
import org.lethe.internal.abi.Abi;

/**
 * Host memory through which numbers reach a device and come back: allocated once, reused at every
 * step (a JavaCPP pointer costs a microsecond and a half to make). One thread at a time.
 */
public final class Staging implements AutoCloseable {
  private final BytePointer pointer;
  private final ByteBuffer bytes;

  /** Host memory of so many bytes. */
  public Staging(int capacityBytes) {
    this.pointer = new BytePointer((long) capacityBytes);
    this.bytes = pointer.asBuffer().order(ByteOrder.nativeOrder());
  }

  /** Bytes that all of this JVM's JavaCPP pointers hold outside the heap. Any thread may call. */
  public static long allBytes() {
    return Pointer.totalBytes();
  }

  /** Bytes that go at a time. */
  public int capacity() {
    return bytes.capacity();
  }

  /** Writes {@code n} ints of {@code values} to {@code target} at byte {@code offset}. */
  public void upload(int[] values, int n, Buffer target, long offset) {
    require((long) n * Integer.BYTES);
    bytes.clear().asIntBuffer().put(values, 0, n);
    write(target, offset, (long) n * Integer.BYTES);
  }

  /** Writes {@code n} floats of {@code values} to {@code target} at byte {@code offset}. */
  public void upload(float[] values, int n, Buffer target, long offset) {
    require((long) n * Float.BYTES);
    bytes.clear().asFloatBuffer().put(values, 0, n);
    write(target, offset, (long) n * Float.BYTES);
  }

  /** Writes {@code n} longs of {@code values} to {@code target} at byte {@code offset}. */
  public void upload(long[] values, int n, Buffer target, long offset) {
    require((long) n * Long.BYTES);
    bytes.clear().asLongBuffer().put(values, 0, n);
    write(target, offset, (long) n * Long.BYTES);
  }

  /** Reads {@code n} floats of {@code source} from byte {@code offset} into {@code values}. */
  public void download(Buffer source, long offset, float[] values, int n) {
    require((long) n * Float.BYTES);
    read(source, offset, (long) n * Float.BYTES);
    FloatBuffer floats = bytes.clear().asFloatBuffer();
    floats.get(values, 0, n);
  }

  /** Reads {@code n} ints of {@code source} from byte {@code offset} into {@code values}. */
  public void download(Buffer source, long offset, int[] values, int n) {
    require((long) n * Integer.BYTES);
    read(source, offset, (long) n * Integer.BYTES);
    bytes.clear().asIntBuffer().get(values, 0, n);
  }

  /**
   * The staging memory itself, to be filled before {@link #write} or looked at after {@link #read}.
   */
  public ByteBuffer bytes() {
    return bytes;
  }

  /** The first {@code n} bytes to {@code target}. */
  public void write(Buffer target, long offset, long n) {
    NativeStatus.check(Abi.lethe_write(target.backend().handle(), target.at(offset), pointer, n));
  }

  /** {@code n} bytes of {@code source} to the start. */
  public void read(Buffer source, long offset, long n) {
    NativeStatus.check(Abi.lethe_read(source.backend().handle(), source.at(offset), pointer, n));
  }

  /** The first {@code n} bytes to what {@code ref} points at. */
  public void write(Backend backend, long ref, long n) {
    require(n);
    NativeStatus.check(Abi.lethe_write(backend.handle(), ref, pointer, n));
  }

  /** {@code n} bytes of what {@code ref} points at to the start. */
  public void read(Backend backend, long ref, long n) {
    require(n);
    NativeStatus.check(Abi.lethe_read(backend.handle(), ref, pointer, n));
  }

  @Override
  public void close() {
    pointer.close();
  }

  private void require(long needed) {
    if (needed > bytes.capacity()) {
      throw new UserException(
          "staging holds "
              + bytes.capacity()
              + " bytes, "
              + needed
              + " are needed; make it larger");
    }
  }
}
