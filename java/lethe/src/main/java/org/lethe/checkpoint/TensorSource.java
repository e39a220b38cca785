package org.lethe.checkpoint;

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.lethe.UserException;

/**
 * Named tensors on disk: one file, or a model's shards taken together.
 *
 * <p>All methods may be called from any thread; {@link #close} only when no other call runs.
 */
public interface TensorSource extends AutoCloseable {
  /** Names in the order of the data on disk. */
  Set<String> names();

  /**
   * Type, shape and place of a tensor.
   *
   * @throws UserException if there is no such tensor
   */
  TensorInfo info(String name);

  /** The file that holds a tensor. */
  Path file(String name);

  /**
   * Copies bytes of a tensor, from {@code offset} on, to {@code into} until that is full or the
   * tensor ends. Into a direct buffer this goes without an intermediate copy, and no part of the
   * file stays mapped: the way to stream weights to a device with a small footprint.
   *
   * @param offset bytes from the tensor's first
   * @return bytes copied; 0 at the tensor's end
   * @throws UserException if there is no such tensor, the offset lies outside it, or the file
   *     cannot be read
   */
  int readInto(String name, long offset, ByteBuffer into);

  /**
   * A tensor's bytes, mapped read-only, little-endian; more than one slice only where the tensor is
   * larger than 1 GiB. A mapping is freed when its buffers are no longer reachable, also after
   * {@link #close}: JDK 17 has no safe way to unmap earlier. Do not write to the file meanwhile.
   *
   * @throws UserException if there is no such tensor, or the file cannot be mapped
   */
  List<ByteBuffer> slices(String name);

  /** Closes the files; further reads fail. */
  @Override
  void close();
}
