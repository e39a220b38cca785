package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.FloatBuffer;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.InternalFaultException;
import org.lethe.TestDevice;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.AdamWSettings;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/** The parts of a fused update: what they cover, what they take, and when they stop. */
class FusedUpdateTest {
  private static final OptimizerConfig FUSED =
      new OptimizerConfig(OptimizerConfig.Master.FP32, OptimizerConfig.Moments.FP32, true);

  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private Model load(String directory) {
    return ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path(directory), 64);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "llama-tiny",
        "llama-tiny-tied",
        "families/gemma2",
        "families/phi",
        "families/qwen3",
        "families/starcoder2"
      })
  void everyParameterIsInOneGroupAndHasAPlaceOfItsOwnThere(String directory) {
    try (Model model = load(directory)) {
      Layout layout = model.layout();
      UpdateGroups groups = UpdateGroups.of(model.config(), layout);
      assertEquals(model.config().layers() + 2, groups.groups().size());
      model.optimizer(FUSED);
      Trainable trainable = model.trainWeights();
      for (UpdateGroups.Group group : groups.groups()) {
        List<Parameter> own =
            layout.parameters().values().stream()
                .filter(p -> groups.of(p).equals(group))
                .sorted(
                    (a, b) ->
                        Long.compareUnsigned(
                            trainable.gradient(a.name()), trainable.gradient(b.name())))
                .toList();
        for (int i = 0; i + 1 < own.size(); i++) {
          long end = trainable.gradient(own.get(i).name()) + own.get(i).elements() * Float.BYTES;
          long next = trainable.gradient(own.get(i + 1).name());
          assertTrue(Long.compareUnsigned(end, next) <= 0, own.get(i) + " and " + own.get(i + 1));
        }
        for (Parameter p : own) {
          UpdateGroups.Range range = p.vector() ? group.vectors() : group.matrices();
          assertTrue(p.offset() >= range.first() && p.offset() + p.elements() <= range.end());
        }
      }
    }
  }

  /** Bytes of a parameter, as the note on full-parameter training says them. */
  @ParameterizedTest
  @ValueSource(strings = {"F32", "BF16"})
  void itTakesWhatItSays(String storage) {
    Dtype dtype = Dtype.valueOf(storage);
    try (Model frozen = load("llama-tiny")) {
      ModelConfig config = frozen.config();
      long n = frozen.layout().elements();
      long decayed = frozen.layout().decayed();
      UpdateGroups groups = UpdateGroups.of(config, frozen.layout());
      long slots =
          groups.layer(0).elements()
              + groups.embedding().matrices().n()
              + groups.end().vectors().n();
      for (OptimizerConfig.Master master : OptimizerConfig.Master.values()) {
        for (OptimizerConfig.Moments moments : OptimizerConfig.Moments.values()) {
          for (boolean fused : new boolean[] {false, true}) {
            if (dtype == Dtype.F32 && master == OptimizerConfig.Master.NONE) {
              continue;
            }
            OptimizerConfig o = new OptimizerConfig(master, moments, fused);
            long masters = dtype == Dtype.BF16 && master == OptimizerConfig.Master.FP32 ? 4 * n : 0;
            long ofMoments = 8 * n;
            if (moments == OptimizerConfig.Moments.EIGHT_BIT) {
              ofMoments = 2 * decayed + 2 * 4 * (decayed / 256) + 8 * (n - decayed) + 2 * 256 * 4;
            }
            long expected = masters + ofMoments + 4 * (fused ? slots : n);
            long said = Trainable.bytes(config, dtype, o);
            // Arrays begin on 64 bytes, and each group's last block may be a short one.
            long rounding = 64 * 10 + 2 * 4 * (config.layers() + 2L);
            assertTrue(said >= expected && said <= expected + rounding, o + ": " + said);
            try (Model model =
                ModelDirectory.load(new Ops(backend, dtype), Goldens.path("llama-tiny"), 64)) {
              model.optimizer(o);
              assertEquals(said, model.trainWeights().arena().buffer().bytes(), o.toString());
            }
          }
        }
      }
    }
  }

  private static void fill(Trainable trainable, String name, float value) {
    int n = Math.toIntExact(trainable.layout().parameter(name).elements());
    try (Staging staging = new Staging(n * Float.BYTES)) {
      float[] values = new float[n];
      Arrays.fill(values, value);
      staging.bytes().clear().asFloatBuffer().put(values);
      staging.write(
          trainable.ops().backend(), trainable.gradient(name), values.length * (long) Float.BYTES);
    }
  }

  private static float[] read(Model model, String name) {
    FloatBuffer values =
        FloatBuffer.allocate(Math.toIntExact(model.layout().parameter(name).elements()));
    try (Staging staging = new Staging(1 << 16)) {
      model.readWeight(name, staging, piece -> values.put(piece.asFloatBuffer()));
    }
    return values.array();
  }

  @Test
  void aPartThatIsNotFiniteStopsWhatComesAfterIt() {
    try (Model model = load("llama-tiny")) {
      model.optimizer(FUSED);
      Trainable trainable = model.trainWeights();
      String upper = ParameterNames.weight(1, "mlp.down_proj");
      String lower = ParameterNames.weight(0, "mlp.down_proj");
      List<String> names = List.of(ParameterNames.HEAD, upper, lower, ParameterNames.EMBEDDING);
      List<float[]> before = names.stream().map(n -> read(model, n)).toList();
      FusedUpdate fused = trainable.fused();
      assertThrows(InternalFaultException.class, fused::endDone, "it was not begun");
      fused.begin(
          FusedUpdate.Phase.BOTH,
          new FusedUpdate.Settings(0, new AdamWSettings(0.9f, 0.999f, 1e-8f, 0), 1e-2f, 0));
      fill(trainable, ParameterNames.HEAD, 1);
      fused.endDone();
      fill(trainable, upper, 1);
      fused.layerDone(1);
      fill(trainable, lower, Float.NaN);
      fused.layerDone(0);
      fill(trainable, ParameterNames.EMBEDDING, 1);
      fused.embeddingDone();
      for (int i = 0; i < names.size(); i++) {
        boolean moved = !Arrays.equals(before.get(i), read(model, names.get(i)));
        assertEquals(i < 2, moved, names.get(i));
      }
      float[] state = trainable.updateState();
      assertEquals(0, state[Ops.UPDATE_FINITE]);
      assertEquals(0, state[3], "steps applied");
      // What is left in the places would be added to the next step's.
      FloatBuffer left = FloatBuffer.allocate(read(model, lower).length);
      try (Staging staging = new Staging(left.capacity() * Float.BYTES)) {
        staging.read(backend, trainable.gradient(lower), left.capacity() * (long) Float.BYTES);
        left.put(staging.bytes().clear().asFloatBuffer().limit(left.capacity()));
      }
      assertArrayEquals(new float[left.capacity()], left.array());
    }
  }

  @Test
  void gradientsDoNotExistAtOnce() {
    try (Model model = load("llama-tiny")) {
      model.optimizer(FUSED);
      Trainable trainable = model.trainWeights();
      assertThrows(InternalFaultException.class, trainable::gradients);
      assertFalse(trainable.hasSeparateMaster());
    }
  }
}
