package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.InternalFaultException;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * The last layer on the head's rows alone, in every family, against the same layer on all tokens:
 * what goldens cannot show, as most of their tokens are looked at.
 */
class SourceRowsTest {
  private static final int TRAINED = 11;
  private static final List<int[]> SEQUENCES =
      List.of(
          new int[] {3, 9, 27, 4, 5, 31}, new int[] {7, 2, 8, 6, 1}, new int[] {12, 13, 14, 15});

  /** Out of order, so that no row stands where its token does; the last two do not train. */
  private static final int[] SOURCES = {9, 2, 5, 0, 13, 11};

  private static final int TRAINED_SOURCES = 4;
  // Sums over rows in another order: eps 6e-8 times a few roundings, as seen through three layers.
  private static final double TOLERANCE = 1e-5;

  private static List<String> families() {
    return FamilyGoldenTest.families();
  }

  private static Model load(Backend backend, String name) {
    return ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("families/" + name), 64);
  }

  private static PackedBatch batch() {
    return PackedBatch.of(SEQUENCES, 2);
  }

  private static int[] allTokens() {
    return IntStream.range(0, batch().tokens()).toArray();
  }

  private static float[] read(Model model, long ref, int rows) {
    int count = rows * model.config().hiddenSize();
    float[] values = new float[count];
    try (Staging staging = new Staging(count * Float.BYTES)) {
      staging.read(model.ops().backend(), ref, (long) count * Float.BYTES);
      staging.bytes().asFloatBuffer().get(values);
    }
    return values;
  }

  private static float[] rows(float[] all, int width, int[] which) {
    float[] some = new float[which.length * width];
    for (int i = 0; i < which.length; i++) {
      System.arraycopy(all, which[i] * width, some, i * width, width);
    }
    return some;
  }

  @ParameterizedTest
  @MethodSource("families")
  void aRowHasTheBitsThatItHasAmongAllTokens(String name) {
    try (Backend backend = TestDevice.open(2);
        Model model = load(backend, name)) {
      AdapterDirectory.load(model, Goldens.path("families/" + name).resolve("adapter"), true);
      PackedBatch batch = batch();
      int width = model.config().hiddenSize();
      try (Decoder decoder = new Decoder(model, batch.tokens(), false)) {
        float[] all = read(model, decoder.forward(batch, allTokens()), batch.tokens());
        float[] some = read(model, decoder.forward(batch, SOURCES), SOURCES.length);
        assertArrayEquals(rows(all, width, SOURCES), some, name);
        assertTrue(IntStream.range(0, some.length).allMatch(i -> Float.isFinite(some[i])), name);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("families")
  void gradientsOfAdaptersAreThoseOfAllTokens(String name) {
    try (Backend backend = TestDevice.open(2);
        Model model = load(backend, name)) {
      AdapterDirectory.load(model, Goldens.path("families/" + name).resolve("adapter"), true);
      assertSameGradients(model, name);
    }
  }

  @ParameterizedTest
  @MethodSource("families")
  void gradientsOfEveryWeightAreThoseOfAllTokens(String name) {
    try (Backend backend = TestDevice.open(2);
        Model model = load(backend, name)) {
      model.trainWeights();
      assertSameGradients(model, name);
    }
  }

  private static void assertSameGradients(Model model, String name) {
    int width = model.config().hiddenSize();
    Random random = new Random(5);
    float[] some = new float[TRAINED_SOURCES * width];
    for (int i = 0; i < some.length; i++) {
      some[i] = (float) random.nextGaussian();
    }
    float[] all = new float[TRAINED * width];
    for (int i = 0; i < TRAINED_SOURCES; i++) {
      System.arraycopy(some, i * width, all, SOURCES[i] * width, width);
    }
    for (ActivationPolicy policy :
        List.of(ActivationPolicy.KEEP, ActivationPolicy.recompute(model.config().layers()))) {
      Map<String, float[]> expected = gradients(model, allTokens(), all, policy);
      Map<String, float[]> found = gradients(model, SOURCES, some, policy);
      assertEquals(expected.keySet(), found.keySet());
      expected.forEach(
          (parameter, gradient) -> {
            double error = Goldens.relativeError(found.get(parameter), gradient);
            boolean nothing = IntStream.range(0, gradient.length).allMatch(i -> gradient[i] == 0);
            // The end of the model is the head's.
            assertTrue(
                nothing
                    ? allZero(found.get(parameter))
                    : error <= TOLERANCE && Double.isFinite(error),
                name + ", " + policy + ": " + parameter + " differs by " + error);
          });
      assertTrue(expected.values().stream().filter(g -> !allZero(g)).count() >= 6, name);
    }
  }

  private static boolean allZero(float[] values) {
    return IntStream.range(0, values.length).allMatch(i -> values[i] == 0);
  }

  private static Map<String, float[]> gradients(
      Model model, int[] sources, float[] gradient, ActivationPolicy policy) {
    PackedBatch batch = batch();
    try (Decoder decoder = new Decoder(model, batch.tokens(), policy);
        Staging staging = new Staging(gradient.length * Float.BYTES)) {
      model.trainable().zeroGradients();
      decoder.forward(batch, sources);
      staging.bytes().asFloatBuffer().put(gradient);
      staging.write(model.ops().backend(), decoder.residualGradient(), gradient.length * 4L);
      decoder.backward();
      return GradientReader.gradients(model.trainable());
    }
  }

  @Test
  void aTrainedSourceBehindAnotherIsAFault() {
    try (Backend backend = TestDevice.open(1);
        Model model = load(backend, families().get(0));
        Decoder decoder = new Decoder(model, batch().tokens(), true)) {
      int[] sources = Arrays.copyOf(SOURCES, SOURCES.length);
      sources[0] = 12;
      InternalFaultException e =
          assertThrows(InternalFaultException.class, () -> decoder.forward(batch(), sources));
      assertTrue(e.getMessage().contains("source 1"), e.getMessage());
    }
  }
}
