package org.lethe.cuda;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import org.lethe.kernels.Backend;

/**
 * The CUDA backend whose device memory is the host's, so that plain pointers stand for device's.
 */
final class Shim {
  private Shim() {}

  /** Opens it; a build without the native tests has none. */
  static Backend open() {
    Path library =
        Path.of(System.getProperty("lethe.plugins", "")).resolve("liblethe_cuda_shim.so");
    assumeTrue(
        Files.isRegularFile(library),
        () -> library + " was not built: LETHE_NATIVE_TESTS=OFF leaves it out");
    return Backend.open("cuda_shim", 1);
  }
}
