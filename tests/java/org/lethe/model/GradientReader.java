package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashMap;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.kernels.Staging;

/** Reads gradients back from the device and compares them with goldens. */
public final class GradientReader {
  private GradientReader() {}

  /** Every golden at {@code prefix} against our gradient of the parameter it names. */
  public static void assertGradients(
      SafetensorsFile golden,
      Trainable trainable,
      String prefix,
      UnaryOperator<String> parameterOf,
      double tolerance) {
    int compared = 0;
    Map<String, float[]> gradients = gradients(trainable);
    for (String key : golden.names()) {
      if (key.startsWith(prefix)) {
        String name = parameterOf.apply(key.substring(prefix.length()));
        float[] expected = Goldens.floats(golden, key);
        double error = Goldens.relativeError(gradients.get(name), expected);
        assertTrue(error <= tolerance, key + " differs by " + error);
        compared++;
      }
    }
    assertTrue(compared >= 6, "only " + compared + " gradients at " + prefix);
  }

  /** The fp32 gradients by name. */
  public static Map<String, float[]> gradients(Trainable trainable) {
    Map<String, float[]> values = new HashMap<>();
    Layout layout = trainable.layout();
    try (Staging staging = new Staging(Math.toIntExact(layout.elements() * Float.BYTES))) {
      for (Parameter p : layout.parameters().values()) {
        float[] tensor = new float[Math.toIntExact(p.elements())];
        long offset = trainable.gradientsOffset() + p.offset() * Float.BYTES;
        staging.download(trainable.arena().buffer(), offset, tensor, tensor.length);
        values.put(p.name(), tensor);
      }
    }
    return values;
  }
}
