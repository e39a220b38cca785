package org.lethe.train;

/**
 * What a kind of device costs beside what is asked of it.
 *
 * @param host whether it is the host
 * @param overheadBytes what is used before anything is: on a host the JVM, started as {@code
 *     ./lethe} does, and the libraries (peaks of six processes, less Lethe's own: 187 to 232 MB on
 *     Linux with JDK 17, docs/performance/2026-11-29-cpu-process.md); on a CUDA device its context,
 *     our kernels and cuBLASLt's (assumed)
 * @param pieceTokens tokens that a piece of a step costs beside its own: its products read all
 *     weights, and on a device a few hundred launches come before the first of them is done
 */
public record DeviceCosts(boolean host, long overheadBytes, int pieceTokens) {
  private static final DeviceCosts HOST = new DeviceCosts(true, 210_000_000, 64);
  private static final DeviceCosts CUDA = new DeviceCosts(false, 600_000_000, 512);

  /** Of the host, or of a CUDA device. */
  public static DeviceCosts of(boolean host) {
    return host ? HOST : CUDA;
  }
}
