package org.lethe.kernels;

import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/** The buffers that a backend has open, and what they take of its device. */
final class OpenBuffers {
  private final Set<Buffer> buffers = new HashSet<>();
  private long most;

  Buffer add(Buffer buffer) {
    buffers.add(buffer);
    most = Math.max(most, bytes());
    return buffer;
  }

  /** Whether it was open. */
  boolean remove(Buffer buffer) {
    return buffers.remove(buffer);
  }

  void clear() {
    buffers.clear();
  }

  /** Without those that were lent, or are the host's. */
  long bytes() {
    return buffers.stream().filter(OpenBuffers::counts).mapToLong(Buffer::bytes).sum();
  }

  private static boolean counts(Buffer buffer) {
    return !buffer.isLent() && !buffer.isOnHost();
  }

  /** The most {@link #bytes} that there were at one time, counted from its last call. */
  long takeMost() {
    long found = most;
    most = bytes();
    return found;
  }

  /** What a message says when there is no room for so many bytes: who holds what. */
  String shortage(long bytes, String purpose, Backend.Memory memory) {
    Map<String, Long> held = new TreeMap<>();
    for (Buffer buffer : buffers) {
      if (counts(buffer)) {
        held.merge(buffer.purpose(), buffer.bytes(), Long::sum);
      }
    }
    StringBuilder text = new StringBuilder("out of memory: ").append(purpose).append(" asked for ");
    text.append(Backend.amount(bytes));
    text.append("; free are ").append(Backend.amount(memory.free()));
    text.append(" of ").append(Backend.amount(memory.total()));
    held.forEach(
        (what, size) ->
            text.append("; held by ").append(what).append(": ").append(Backend.amount(size)));
    return text.toString();
  }
}
