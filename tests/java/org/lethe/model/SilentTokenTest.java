package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.lethe.InternalFaultException;
import org.lethe.TestDevice;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/** Tokens out of attention, and tokens at other places: what padding is under flash-attention. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class SilentTokenTest {
  private static final int[] ROW = {1, 17, 40, 8, 99};
  private static final int[] PAD = {2};

  private Backend backend;
  private Model model;

  @BeforeAll
  void load() {
    backend = TestDevice.open(2);
    model = ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("llama-tiny"), 64);
  }

  @AfterAll
  void close() {
    model.close();
    backend.close();
  }

  /** The residual stream after the last layer, token by token. */
  private List<float[]> forward(PackedBatch batch) {
    int width = model.config().hiddenSize();
    try (Decoder decoder = new Decoder(model, batch.tokens(), false);
        Staging staging = new Staging(batch.tokens() * width * Float.BYTES)) {
      long residual = decoder.forward(batch, IntStream.range(0, batch.tokens()).toArray());
      staging.read(backend, residual, (long) batch.tokens() * width * Float.BYTES);
      float[] all = new float[batch.tokens() * width];
      staging.bytes().asFloatBuffer().get(all);
      List<float[]> rows = new ArrayList<>();
      for (int t = 0; t < batch.tokens(); t++) {
        rows.add(Arrays.copyOfRange(all, t * width, (t + 1) * width));
      }
      return rows;
    }
  }

  @Test
  void aSilentTokenChangesNothingAndIsTheSameAnywhere() {
    List<float[]> plain = forward(PackedBatch.of(List.of(ROW, ROW), 0));
    PackedBatch mixed = PackedBatch.of(List.of(PAD, ROW, PAD, ROW), 0);
    List<float[]> seen = forward(mixed);
    List<float[]> silent = forward(mixed.silencing(0, 2));
    for (int t = 0; t < ROW.length; t++) {
      assertArrayEquals(plain.get(t), silent.get(1 + t), "token " + t);
      assertArrayEquals(plain.get(t), silent.get(2 + ROW.length + t), "token " + t);
    }
    assertArrayEquals(silent.get(0), silent.get(1 + ROW.length));
    float[] moved =
        forward(
                PackedBatch.of(List.of(PAD, ROW), 0)
                    .at(List.of(new int[] {33}, new int[] {0, 1, 2, 3, 4}))
                    .silencing(0))
            .get(0);
    assertArrayEquals(silent.get(0), moved, "a position means nothing without attention");
    // A token that sees itself is another one.
    assertTrue(Goldens.distance(seen.get(0), silent.get(0)) > 0.1 * Goldens.norm(seen.get(0)));
  }

  @Test
  void tokensKeepTheirDistancesWhereverTheyStand() {
    int[] gaps = {0, 1, 2, 7, 8};
    List<float[]> plain = forward(PackedBatch.of(List.of(ROW), 0));
    List<float[]> gapped = forward(PackedBatch.of(List.of(ROW), 0).at(List.of(gaps)));
    List<float[]> shifted =
        forward(PackedBatch.of(List.of(ROW), 0).at(List.of(new int[] {9, 10, 11, 12, 13})));
    assertArrayEquals(plain.get(2), gapped.get(2));
    assertTrue(Goldens.distance(plain.get(3), gapped.get(3)) > 1e-3);
    // Rotary embeddings are relative; the angles are other ones, so roundings differ.
    assertTrue(Goldens.relativeError(shifted.get(4), plain.get(4)) < 1e-5);
  }

  @Test
  void placesMustFitTheTokens() {
    PackedBatch batch = PackedBatch.of(List.of(ROW), 0);
    assertThrows(InternalFaultException.class, () -> batch.at(List.of(new int[] {0, 1})));
    assertEquals(1, batch.attending(1));
    assertEquals(0, batch.silencing(0).attending(1));
  }
}
