package org.lethe.bench;

/** Placeholder. */
public final class DeviceSteps {
  private DeviceSteps() {}

  /** Nothing yet. */
  public static void main(String[] args) {}
}
