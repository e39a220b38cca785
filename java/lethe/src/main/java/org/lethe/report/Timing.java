package org.lethe.report;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.EnvironmentException;

/**
 * How fast a step was and what memory the process holds behind it: what differs from one run of the
 * same configuration to the next.
 *
 * @param step of the metrics line that it belongs to
 * @param seconds since the phase began
 * @param tokensPerSecond of this step, or of the steps since the timing before
 * @param residentBytes of physical memory that the process holds; {@link #UNKNOWN} where the system
 *     does not say
 * @param heapBytes of the Java heap that objects occupy, garbage included
 * @param nativeBytes in Lethe's arenas
 * @param pointerBytes that JavaCPP holds outside the heap: host memory of staging and tokenizers;
 *     {@link #UNKNOWN} where nobody asked
 */
public record Timing(
    long step,
    double seconds,
    double tokensPerSecond,
    long residentBytes,
    long heapBytes,
    long nativeBytes,
    long pointerBytes) {
  /** In place of a number of bytes that is not known; the key is then left out of the line. */
  public static final long UNKNOWN = -1;

  private static final Path STATUS = Path.of("/proc/self/status");

  /** Resident memory and heap as they are now; any thread may call. */
  public static Timing now(
      long step, double seconds, double tokensPerSecond, long nativeBytes, long pointerBytes) {
    Runtime runtime = Runtime.getRuntime();
    return new Timing(
        step,
        seconds,
        tokensPerSecond,
        residentBytesNow(),
        runtime.totalMemory() - runtime.freeMemory(),
        nativeBytes,
        pointerBytes);
  }

  private static long residentBytesNow() {
    if (!Files.exists(STATUS)) {
      return UNKNOWN;
    }
    try {
      return residentBytes(Files.readAllLines(STATUS));
    } catch (IOException e) {
      throw new EnvironmentException(STATUS + ": cannot be read (" + e + ")", e);
    }
  }

  /** VmRSS of Linux's {@code /proc/PID/status}, which it gives in units of 1024 bytes. */
  static long residentBytes(List<String> status) {
    return status.stream()
        .filter(line -> line.startsWith("VmRSS:"))
        .map(line -> line.replaceAll("\\D", ""))
        .filter(digits -> !digits.isEmpty())
        .mapToLong(digits -> Long.parseLong(digits) * 1024)
        .findFirst()
        .orElse(UNKNOWN);
  }

  /** As a line of {@code timings.jsonl}. */
  Map<String, Object> line() {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    line.put("seconds", seconds);
    line.put("tokens_per_second", tokensPerSecond);
    put(line, "resident_bytes", residentBytes);
    put(line, "heap_bytes", heapBytes);
    put(line, "native_bytes", nativeBytes);
    put(line, "pointer_bytes", pointerBytes);
    return line;
  }

  private static void put(Map<String, Object> line, String key, long bytes) {
    if (bytes != UNKNOWN) {
      line.put(key, bytes);
    }
  }
}
