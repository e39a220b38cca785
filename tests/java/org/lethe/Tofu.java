package org.lethe;

import static org.junit.jupiter.api.Assumptions.abort;

import java.nio.file.Path;

/**
 * TOFU's files for the tests that read them, tagged {@code tofu}. Without {@code lethe.tofu} those
 * are skipped, and fail where {@code lethe.tofu.required} is true.
 */
public final class Tofu {
  private Tofu() {}

  /** The directory with TOFU's JSON files. */
  public static Path directory() {
    String tofu = System.getProperty("lethe.tofu", "");
    if (tofu.isEmpty()) {
      skip("lethe.tofu names no directory with TOFU's files");
    }
    return Path.of(tofu).toAbsolutePath().normalize();
  }

  /** Skips the calling test, or fails it where these tests were asked for. */
  public static void skip(String reason) {
    if (Boolean.getBoolean("lethe.tofu.required")) {
      throw new AssertionError(reason);
    }
    abort(reason);
  }
}
