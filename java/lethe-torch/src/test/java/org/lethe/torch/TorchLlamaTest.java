package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.EntropyDirection;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.RowStatistics;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.HeadRows;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;
import org.lethe.model.Model;
import org.lethe.model.PackedBatch;
import org.lethe.model.Parameter;
import org.lethe.model.RandomWeights;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;

/** Two implementations of one model that share no code: Lethe's ops and libtorch's operators. */
@SuppressWarnings("try") // Scopes work by being open.
class TorchLlamaTest {
  // Two fp32 computations of three layers against each other, per tensor.
  private static final double FP32 = 1e-4;
  private static final int PACKED = 4096;

  private Backend backend;

  @BeforeEach
  void open() {
    backend = Backend.open("cpu", 2);
  }

  @AfterEach
  void close() {
    backend.close();
  }

  private static TrainSettings settings(double maxNorm) {
    return new TrainSettings(
        8,
        3e-3,
        Schedule.CONSTANT,
        0,
        0.9,
        0.99,
        1e-8,
        0.02,
        maxNorm,
        PACKED,
        TrainSettings.OnNonFinite.STOP);
  }

  /** Lethe's nll of every label. */
  private static double[][] nll(Model model, List<int[]> sequences, boolean adapted) {
    PackedBatch packed = PackedBatch.of(sequences, sequences.size());
    HeadRows.Builder rows = new HeadRows.Builder();
    for (int s = 0; s < sequences.size(); s++) {
      for (int t = 0; t < sequences.get(s).length - 1; t++) {
        rows.row(rows.source(packed.starts()[s] + t), sequences.get(s)[t + 1], 0, -1);
      }
    }
    double[][] nll = new double[sequences.size()][];
    try (Decoder decoder = new Decoder(model, packed.tokens(), false);
        Head head = new Head(model, packed.tokens())) {
      HeadRows built = rows.build(packed.tokens());
      long stream = decoder.forward(packed, adapted ? packed.tokens() : 0, built.sourceTokens());
      float[] values = head.forward(stream, built, false);
      RowStatistics statistics = new RowStatistics(values, model.config().vocabularySize());
      int row = 0;
      for (int s = 0; s < nll.length; s++) {
        nll[s] = new double[sequences.get(s).length - 1];
        for (int t = 0; t < nll[s].length; t++) {
          nll[s][t] = statistics.nll(row++);
        }
      }
    }
    return nll;
  }

  private static void assertNear(double[][] expected, double[][] found) {
    assertEquals(expected.length, found.length);
    for (int s = 0; s < expected.length; s++) {
      assertArrayEquals(expected[s], found[s], FP32);
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void everyLabelHasTheSameNll(boolean tied) {
    try (Model model = TinyLlama.model(backend, tied, Dtype.F32)) {
      TinyLlama.adapt(model, LoraTargets.named(List.of("q_proj", "v_proj", "down_proj")), 3);
      List<int[]> sequences =
          TinyLlama.step(Methods.create(MethodConfig.of("GA+GD")), 5).stream()
              .map(s -> s.tokens().ids())
              .toList();
      try (TorchLlama llama = TorchLlama.copyOf(model, ScalarType.Float)) {
        for (boolean adapted : new boolean[] {true, false}) {
          double[][] found = llama.nll(sequences, adapted);
          assertNear(nll(model, sequences, adapted), found);
          // Far from what a model that ignores its weights would say.
          double spread =
              Arrays.stream(found[1]).max().orElse(0) - Arrays.stream(found[1]).min().orElse(0);
          assertTrue(spread > 1, "nll spreads by " + spread);
        }
      }
    }
  }

  @Test
  void aModelDirectoryAndAGeneratorGiveTheSameWeightsToBoth() {
    try (Model model =
        ModelDirectory.load(new Ops(backend, Dtype.F32), TinyLlama.golden("llama-tiny"), 64)) {
      AdapterDirectory.load(model, TinyLlama.golden("llama-tiny/adapter"), true);
      List<int[]> sequences = List.of(new int[] {1, 5, 100, 7, 9, 33}, new int[] {1, 2});
      try (TorchLlama llama = TorchLlama.copyOf(model, ScalarType.Float)) {
        assertNear(nll(model, sequences, true), llama.nll(sequences, true));
      }
    }
    try (Model model =
            Model.load(
                new Ops(backend, Dtype.F32),
                TinyLlama.config(false),
                new RandomWeights(TinyLlama.config(false), 9));
        TorchLlama llama =
            TorchLlama.load(
                TinyLlama.config(false),
                new RandomWeights(TinyLlama.config(false), 9),
                ScalarType.Float)) {
      List<int[]> sequences = List.of(new int[] {1, 5, 130, 7, 9, 33});
      assertNear(nll(model, sequences, true), llama.nll(sequences, true));
    }
  }

  private static Map<String, float[]> gradients(Model model) {
    Map<String, float[]> gradients = new HashMap<>();
    try (Staging staging = new Staging(1 << 20)) {
      for (Parameter p : model.trainable().layout().parameters().values()) {
        float[] values = new float[Math.toIntExact(p.elements())];
        long offset = model.trainable().gradientsOffset() + p.offset() * Float.BYTES;
        staging.download(model.trainable().arena().buffer(), offset, values, values.length);
        gradients.put(p.name(), values);
      }
    }
    return gradients;
  }

  @ParameterizedTest
  @CsvSource({
    "ME+GD, UNIFORM_TO_MODEL, false",
    "ME+GD, MODEL_TO_UNIFORM, true",
    "none+GD, UNIFORM_TO_MODEL, true",
    "GA+GD, UNIFORM_TO_MODEL, false",
    "IDK, UNIFORM_TO_MODEL, false"
  })
  void lossAndAdapterGradientsAreThoseOfLethesStep(
      String name, EntropyDirection direction, boolean tied) {
    Method method = Methods.create(MethodConfig.of(name).withDirection(direction));
    List<StepSequence> sequences = TinyLlama.step(method, 13);
    try (PointerScope scope = new PointerScope();
        Model model = TinyLlama.model(backend, tied, Dtype.F32)) {
      TinyLlama.adapt(model, LoraTargets.ALL, 3);
      try (Step step = new Step(model, method, settings(0), null, PACKED)) {
        double loss = step.gradients(sequences).loss();
        Map<String, float[]> ours = gradients(model);
        for (TorchStep.Batching batching : TorchStep.Batching.values()) {
          try (TorchLlama llama = TorchLlama.copyOf(model, ScalarType.Float);
              TorchStep torchStep = new TorchStep(llama, method, settings(0), batching)) {
            double theirs = torchStep.gradients(sequences);
            assertEquals(loss, theirs, FP32 * Math.max(1, Math.abs(loss)), name);
            llama.adapters().forEach((key, tensor) -> assertGradient(ours.get(key), tensor, key));
            // Two A and B for each projection of each layer.
            assertEquals(2 * 7 * 3, llama.adapters().size());
          }
        }
      }
    }
  }

  private static void assertGradient(float[] ours, Tensor parameter, String name) {
    double error =
        Oracle.relativeError(TorchWeights.of(ours, ours.length), parameter.grad().view(-1));
    assertTrue(error <= FP32, name + " differs by " + error);
    assertTrue(Oracle.norm(parameter.grad()) > 0, name + " has no gradient");
  }

  @Test
  void stepsMoveTheAdaptersAlike() {
    Method method = Methods.create(MethodConfig.of("ME+GD"));
    List<StepSequence> sequences = TinyLlama.step(method, 13);
    try (PointerScope scope = new PointerScope();
        Model model = TinyLlama.model(backend, false, Dtype.F32)) {
      TinyLlama.adapt(model, LoraTargets.ALL, 3);
      float[] before = model.lora().values();
      try (TorchLlama llama = TorchLlama.copyOf(model, ScalarType.Float);
          Step step = new Step(model, method, settings(0.5), null, PACKED);
          TorchStep torchStep =
              new TorchStep(llama, method, settings(0.5), TorchStep.Batching.PADDED)) {
        for (int i = 0; i < 4; i++) {
          double ours = step.run(i, sequences, settings(0.5).learningRate()).loss();
          assertEquals(ours, torchStep.run(sequences), 1e-3, "step " + i);
        }
        float[] after = model.lora().values();
        double difference = 0;
        double moved = 0;
        for (Parameter p : model.lora().layout().parameters().values()) {
          double[] theirs = Oracle.doubles(llama.adapters().get(p.name()));
          for (int i = 0; i < theirs.length; i++) {
            int at = Math.toIntExact(p.offset() + i);
            difference += Math.pow(after[at] - theirs[i], 2);
            moved += Math.pow(theirs[i] - before[at], 2);
          }
        }
        // Of the movement: Adam divides by the gradient's size, so a small gradient's rounding
        // shows whole.
        double error = Math.sqrt(difference / moved);
        assertTrue(error <= FP32, "movement differs by " + error);
      }
    }
  }

  @Test
  void aModelInBf16IsTheSameUpToItsRounding() {
    try (Model model = TinyLlama.model(backend, false, Dtype.BF16)) {
      List<int[]> sequences = List.of(new int[] {1, 5, 130, 7, 9, 33});
      try (TorchLlama half = TorchLlama.copyOf(model, ScalarType.BFloat16);
          TorchLlama wide = TorchLlama.copyOf(model, ScalarType.Double)) {
        double[] exact = wide.nll(sequences, true)[0];
        double[] rounded = half.nll(sequences, true)[0];
        double[] ours = nll(model, sequences, true)[0];
        // About thirty tensors are rounded to 2^-8 on the way to logits of size ten.
        double bound = Math.sqrt(30) * 10 * 0x1p-8;
        assertArrayEquals(exact, rounded, bound);
        assertArrayEquals(exact, ours, bound);
      }
    }
  }

  @Test
  void stepsLeaveNothingBehind() {
    Method method = Methods.create(MethodConfig.of("ME+GD"));
    List<StepSequence> sequences = TinyLlama.step(method, 13);
    try (Model model = TinyLlama.model(backend, true, Dtype.F32)) {
      TinyLlama.adapt(model, LoraTargets.named(List.of("q_proj")), 3);
      try (TorchLlama llama = TorchLlama.copyOf(model, ScalarType.Float);
          TorchStep step =
              new TorchStep(llama, method, settings(1), TorchStep.Batching.PER_SEQUENCE)) {
        step.run(sequences);
        long bytes = Pointer.totalBytes();
        long count = Pointer.totalCount();
        for (int i = 0; i < 5; i++) {
          step.run(sequences);
        }
        // Less where the collector has meanwhile found what other tests left.
        assertTrue(Pointer.totalBytes() <= bytes, "grew from " + bytes);
        assertTrue(Pointer.totalCount() <= count, "grew from " + count);
      }
    }
  }

  @Test
  void badInputIsRefused() {
    Method method = Methods.create(MethodConfig.of("NPO+GD"));
    try (PointerScope scope = new PointerScope();
        Model model = TinyLlama.model(backend, false, Dtype.F32);
        TorchLlama llama = TorchLlama.copyOf(model, ScalarType.Float)) {
      assertRefused("add adapters", () -> step(llama, method));
      assertRefused("the layout has", () -> llama.addLora(LoraConfig.all(2, 4), new float[3]));
      TinyLlama.adapt(model, LoraTargets.named(List.of("q_proj")), 3);
      llama.addLora(model.lora().config(), model.lora().values());
      assertRefused("NPO", () -> step(llama, method));
      assertRefused("already", () -> llama.addLora(model.lora().config(), model.lora().values()));
      Tensor ids = TorchWeights.ids(List.of(new int[49]));
      assertRefused("context of 48", () -> llama.hidden(ids, true));
    }
  }

  private static void step(TorchLlama llama, Method method) {
    new TorchStep(llama, method, settings(1), TorchStep.Batching.PADDED).close();
  }

  private static void assertRefused(String words, Executable call) {
    UserException e = assertThrows(UserException.class, call);
    assertTrue(e.getMessage().contains(words), e.getMessage());
  }
}
