package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.TrainingState;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.OptimizerConfig;

/** A run resumed at any step is the run that never stopped: parameters, moments and reports. */
class ResumeBitsTest {
  private static final int STEPS = 20;

  @TempDir Path dir;
  private Backend backend;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  static Stream<String> methods() {
    List<String> names = new ArrayList<>();
    for (String forget : new String[] {"GA", "NPO", "DPO", "IDK", "ME"}) {
      for (String retain : new String[] {"", "+GD", "+KL", "+AP"}) {
        names.add(forget + retain);
      }
    }
    // One of each further kind: length-normalised, two passes ahead, with a state, on a reference,
    // two kinds of rows on one sequence.
    names.addAll(List.of("SimNPO+GD", "KTO+KL", "PDU", "UNDIAL", "GradDiff", "SCRUB"));
    return names.stream();
  }

  /** Two of the three pairs, others at every step. */
  private static BatchSource batches(Method method) {
    return new BatchSource() {
      @Override
      public int stepsPerEpoch() {
        return 3;
      }

      @Override
      public List<StepSequence> step(int index) {
        return GoldenSteps.of(method).stream().filter(s -> s.pair() != index % 3).toList();
      }
    };
  }

  /** A model that trains, with its trainer. */
  private final class Run implements AutoCloseable {
    final Model model;
    final Trainer trainer;

    Run(Method method, Dtype dtype, boolean all, int shards) {
      this(method, dtype, all, shards, OptimizerConfig.DEFAULT);
    }

    Run(Method method, Dtype dtype, boolean all, int shards, OptimizerConfig optimizer) {
      model = GoldenSteps.model(backend, dtype);
      model.optimizer(optimizer);
      if (all) {
        model.trainWeights();
      } else {
        model.addLora(LoraConfig.all(2, 4), 3);
      }
      TrainSettings settings =
          new TrainSettings(
              STEPS,
              1e-2,
              Schedule.COSINE,
              3,
              0.9,
              0.999,
              1e-8,
              0.01,
              1,
              optimizer.fused() ? 4096 : 64,
              TrainSettings.OnNonFinite.STOP);
      trainer = new Trainer(model, method, settings, batches(method), null, Sharding.local(shards));
    }

    byte[] state() {
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      try (WritableByteChannel channel = Channels.newChannel(out)) {
        TrainingState.write(model.trainable(), channel);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
      return out.toByteArray();
    }

    @Override
    public void close() {
      trainer.close();
      model.close();
    }
  }

  private void assertEveryStepResumes(Method method, Dtype dtype, boolean all, int stride)
      throws IOException {
    assertEveryStepResumes(method, dtype, all, stride, OptimizerConfig.DEFAULT);
  }

  private void assertEveryStepResumes(
      Method method, Dtype dtype, boolean all, int stride, OptimizerConfig optimizer)
      throws IOException {
    List<byte[]> states = new ArrayList<>();
    List<StepReport> reports = new ArrayList<>();
    List<Map<String, Double>> numbers = new ArrayList<>();
    try (Run run = new Run(method, dtype, all, 1, optimizer)) {
      states.add(run.state());
      numbers.add(run.trainer.methodState());
      while (run.trainer.hasNext()) {
        reports.add(run.trainer.next());
        states.add(run.state());
        numbers.add(run.trainer.methodState());
      }
    }
    boolean remembers = !method.initialState().isEmpty();
    assertEquals(remembers, !numbers.get(0).equals(numbers.get(STEPS)), "a state that stays");
    assertFalse(Arrays.equals(states.get(STEPS - 1), states.get(STEPS)), "nothing trained");
    Path file = dir.resolve("state.safetensors");
    for (int k = 0; k <= STEPS; k += stride) {
      try (Run run = new Run(method, dtype, all, 1, optimizer)) {
        Files.write(file, states.get(k));
        TrainingState.read(file, run.model.trainable());
        if (all) {
          run.model.refreshHeadMean();
        }
        run.trainer.resumeAt(k, 0, numbers.get(k));
        List<StepReport> resumed = new ArrayList<>();
        run.trainer.run(resumed::add);
        String where = method.name() + " resumed at " + k;
        assertEquals(reports.subList(k, STEPS), resumed, where);
        assertArrayEquals(states.get(STEPS), run.state(), where);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("methods")
  void everyMethodAtEveryStep(String name) throws IOException {
    assertEveryStepResumes(Methods.create(MethodConfig.of(name)), Dtype.F32, false, 1);
  }

  @Test
  void masterCopiesOfBf16Too() throws IOException {
    assertEveryStepResumes(Methods.create(MethodConfig.of("NPO+KL")), Dtype.BF16, false, 3);
  }

  @Test
  void allWeightsToo() throws IOException {
    assertEveryStepResumes(Methods.create(MethodConfig.of("ME+GD")), Dtype.F32, true, 5);
    assertEveryStepResumes(Methods.fineTuning(), Dtype.BF16, true, 7);
  }

  @ParameterizedTest
  @EnumSource(OptimizerConfig.Moments.class)
  void lessOptimizerStateToo(OptimizerConfig.Moments moments) throws IOException {
    OptimizerConfig none = new OptimizerConfig(OptimizerConfig.Master.NONE, moments, false);
    OptimizerConfig fused = new OptimizerConfig(OptimizerConfig.Master.NONE, moments, true);
    assertEveryStepResumes(Methods.create(MethodConfig.of("ME+GD")), Dtype.BF16, false, 7, none);
    assertEveryStepResumes(Methods.create(MethodConfig.of("ME+GD")), Dtype.BF16, true, 7, fused);
    OptimizerConfig master = new OptimizerConfig(OptimizerConfig.Master.FP32, moments, false);
    assertEveryStepResumes(Methods.fineTuning(), Dtype.BF16, true, 7, master);
  }

  @Test
  void aStateOfAnotherOptimizerIsRefused() throws IOException {
    Path file = dir.resolve("state.safetensors");
    Method method = Methods.fineTuning();
    try (Run run = new Run(method, Dtype.BF16, false, 1)) {
      Files.write(file, run.state());
    }
    for (OptimizerConfig other :
        List.of(
            new OptimizerConfig(OptimizerConfig.Master.NONE, OptimizerConfig.Moments.FP32, false),
            new OptimizerConfig(
                OptimizerConfig.Master.FP32, OptimizerConfig.Moments.EIGHT_BIT, false))) {
      try (Run run = new Run(method, Dtype.BF16, false, 1, other)) {
        assertThrows(UserException.class, () -> TrainingState.read(file, run.model.trainable()));
      }
    }
  }

  @Test
  void aStateOfAnotherModelIsRefused() throws IOException {
    Path file = dir.resolve("state.safetensors");
    Method method = Methods.fineTuning();
    try (Run run = new Run(method, Dtype.F32, false, 1)) {
      Files.write(file, run.state());
    }
    try (Model model = GoldenSteps.model(backend, Dtype.F32)) {
      model.addLora(LoraConfig.all(4, 4), 3);
      String message =
          assertThrows(UserException.class, () -> TrainingState.read(file, model.trainable()))
              .getMessage();
      assertTrue(message.contains("has shape [2, "), message);
    }
    try (Run run = new Run(method, Dtype.F32, true, 1)) {
      String message =
          assertThrows(UserException.class, () -> TrainingState.read(file, run.model.trainable()))
              .getMessage();
      assertTrue(message.contains("not the ones that this run trains"), message);
      assertThrows(UserException.class, () -> run.trainer.resumeAt(STEPS + 1, 0));
      String other =
          assertThrows(
                  UserException.class,
                  () -> run.trainer.resumeAt(1, 0, Map.of("PDU_retain.alpha", 1.0)))
              .getMessage();
      assertTrue(other.contains("[PDU_retain.alpha] is none of none+GD"), other);
    }
  }

  /** Shards differ from the whole by rounding alone; the sum over them is in their order. */
  @ParameterizedTest
  @MethodSource("methods")
  void shardsAddUpToTheStep(String name) {
    Method method = Methods.create(MethodConfig.of(name));
    List<StepReport> whole = new ArrayList<>();
    List<StepReport> sharded = new ArrayList<>();
    try (Run run = new Run(method, Dtype.F32, false, 1)) {
      whole.add(run.trainer.next());
    }
    // More shards than pairs: one is empty.
    try (Run run = new Run(method, Dtype.F32, false, 4)) {
      sharded.add(run.trainer.next());
    }
    StepReport expected = whole.get(0);
    StepReport found = sharded.get(0);
    double eps = 1e-5;
    assertEquals(expected.loss(), found.loss(), eps * Math.max(1, Math.abs(expected.loss())));
    assertEquals(expected.gradientNorm(), found.gradientNorm(), eps * expected.gradientNorm());
    assertEquals(expected.parts().keySet(), found.parts().keySet());
    assertEquals(expected.tokens(), found.tokens());
  }
}
