package org.lethe;

import org.lethe.kernels.Backend;

/**
 * What the tests of numbers compute on: the system property {@code lethe.test.device}, by default
 * the CPU.
 */
public final class TestDevice {
  /** Its name. */
  public static final String NAME = System.getProperty("lethe.test.device", "cpu");

  private TestDevice() {}

  /** Opens it. */
  public static Backend open(int threads) {
    return Backend.open(NAME, threads);
  }

  /** Whether it is the CPU, where results also repeat from one number of threads to another. */
  public static boolean isCpu() {
    return NAME.startsWith("cpu");
  }
}
