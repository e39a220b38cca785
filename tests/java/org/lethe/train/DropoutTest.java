package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.data.CounterRng;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.model.Goldens;
import org.lethe.model.GradientReader;
import org.lethe.model.Lora;
import org.lethe.model.Model;
import org.lethe.model.View;

/** Dropout in adapters, against torch with the same masks: {@code tests/oracle/make_dropout.py}. */
class DropoutTest {
  /** The project's bound for fp32 against fp64. */
  private static final double TOLERANCE = 1e-5;

  private static final JsonNode GOLDEN = Goldens.json("dropout/step.json");

  @TempDir Path directory;
  private Path adapter;

  /** The golden adapter, which says that it was trained with dropout. */
  @BeforeEach
  void write() throws IOException {
    adapter = withDropout(GOLDEN.get("dropout").doubleValue());
  }

  private Path withDropout(double p) throws IOException {
    Path golden = Goldens.path("llama-tiny/adapter");
    Path written = Files.createDirectories(directory.resolve("adapter-" + p));
    String config = Files.readString(golden.resolve("adapter_config.json"));
    String none = "\"lora_dropout\": 0.0";
    assertTrue(config.contains(none), config);
    Files.writeString(
        written.resolve("adapter_config.json"), config.replace(none, "\"lora_dropout\": " + p));
    Files.write(
        written.resolve("adapter_model.safetensors"),
        Files.readAllBytes(golden.resolve("adapter_model.safetensors")));
    return written;
  }

  static Stream<JsonNode> combinations() {
    return StreamSupport.stream(GOLDEN.get("combinations").spliterator(), false);
  }

  private static Method method(JsonNode c) {
    String forget = c.get("forget").asText();
    String retain = c.get("retain").asText();
    MethodConfig config =
        MethodConfig.of(forget.replaceAll("\\..*$", "") + "+" + retain.replaceAll("\\..*$", ""))
            .withBeta(c.get("beta").asDouble())
            .withCoefficients(
                c.get("forgetCoefficient").asDouble(), c.get("retainCoefficient").asDouble());
    if (forget.contains(".")) {
      config = config.withForget("positions", forget.substring(forget.indexOf('.') + 1));
    }
    if (retain.contains(".")) {
      config = config.withRetain("positions", retain.substring(retain.indexOf('.') + 1));
    }
    return Methods.create(config);
  }

  private static TrainSettings settings(int tokens) {
    return GoldenSteps.settings(4, 1e-2, tokens, TrainSettings.OnNonFinite.STOP)
        .withSeed(GOLDEN.get("seed").longValue());
  }

  private static Step.Gradients gradients(Step step, Method method, int index) {
    return step.gradients(index, GoldenSteps.of(method), method.initialState());
  }

  @ParameterizedTest
  @MethodSource("combinations")
  void lossAndGradientsAreThoseOfTorchWithTheSameMasks(JsonNode c) {
    Method method = method(c);
    String name = c.get("name").asText();
    int index = GOLDEN.get("step").intValue();
    for (int threads : new int[] {1, 2}) {
      // Whole, and in the smallest pieces: no mask may show the cut, nor the threads.
      for (int tokens : new int[] {4096, 1}) {
        try (Backend backend = TestDevice.open(threads);
            Model model = GoldenSteps.model(backend, Dtype.F32);
            SafetensorsFile golden =
                SafetensorsFile.open(Goldens.path("dropout/gradients.safetensors"))) {
          AdapterDirectory.load(model, adapter, true);
          TrainSettings settings = settings(tokens);
          int largest =
              StepSizing.largestPiece(method, settings, null, List.of(GoldenSteps.of(method)));
          try (Step step = new Step(model, method, settings, null, largest)) {
            Step.Gradients found = gradients(step, method, index);
            double loss = c.get("loss").asDouble();
            assertEquals(loss, found.loss(), TOLERANCE * Math.max(1, Math.abs(loss)), name);
            assertTrue(tokens > 1 || found.microBatches() > 1);
            GradientReader.assertGradients(
                golden, model.trainable(), name + "/", n -> "base_model.model." + n, TOLERANCE);
            assertNotEquals(loss, gradients(step, method, index + 1).loss(), 1e-3 * loss);
          }
        }
      }
    }
  }

  @Test
  void theKeysAreThoseOfTheOracle() {
    JsonNode keys = GOLDEN.get("keys");
    int pair = keys.get("pair").intValue();
    StepSequence sequence =
        GoldenSteps.all().stream()
            .filter(s -> s.role().name().equals(keys.get("role").asText()) && s.pair() == pair)
            .findFirst()
            .orElseThrow();
    DropoutKeys found =
        new DropoutKeys(GOLDEN.get("seed").longValue(), GOLDEN.get("step").intValue());
    for (int t = 0; t < keys.get("rowKeys").size(); t++) {
      assertEquals(
          Long.parseUnsignedLong(keys.get("rowKeys").get(t).asText(), 16), found.of(sequence, t));
    }
    assertEquals(found.of(sequence, 1), found.of(List.of(sequence))[1]);
  }

  @Test
  void everyTokenOfAStepHasItsOwnKey() {
    Set<Long> keys = new HashSet<>();
    int tokens = 0;
    List<StepSequence> sequences = new ArrayList<>(GoldenSteps.all());
    sequences.add(
        new StepSequence(Role.RETAIN, 9, new TokenSequence(new int[] {1, 2, 3}, 1), "more"));
    for (long seed : new long[] {0, 1}) {
      for (int step : new int[] {0, 1}) {
        for (long key : new DropoutKeys(seed, step).of(sequences)) {
          keys.add(key);
          tokens++;
        }
      }
    }
    assertEquals(tokens, keys.size());
  }

  /**
   * The adapter's input as the kernel sees it: x is 1, A the unit matrix and the scale 1, so that u
   * is the mask over 1 - p.
   */
  private static float[] masks(long key, float p, int columns, long[] rowKeys) {
    float[] one = new float[columns * columns];
    for (int i = 0; i < columns; i++) {
      one[i * columns + i] = 1;
    }
    float[] x = new float[rowKeys.length * columns];
    Arrays.fill(x, 1);
    float[] u = new float[x.length];
    try (Backend backend = TestDevice.open(2);
        Staging staging = new Staging(Math.max(x.length, one.length) * Float.BYTES);
        Buffer inputs = backend.allocate((long) x.length * Float.BYTES);
        Buffer matrix = backend.allocate((long) one.length * Float.BYTES);
        Buffer keys = backend.allocate((long) rowKeys.length * Long.BYTES);
        Buffer outputs = backend.allocate((long) x.length * Float.BYTES);
        Buffer kept = backend.allocate((long) x.length * Float.BYTES)) {
      staging.upload(x, x.length, inputs, 0);
      staging.upload(one, one.length, matrix, 0);
      staging.upload(rowKeys, rowKeys.length, keys, 0);
      Ops ops = new Ops(backend, Dtype.F32);
      long m = matrix.at(0);
      long linear = ops.linear().create(columns, columns, m, 0, 0, 0);
      ops.linear().adapter(linear, 0, columns, columns, 1f, p, key, m, m, 0, 0);
      int rows = rowKeys.length;
      ops.linear()
          .forward(linear, rows, rows, inputs.at(0), 0, outputs.at(0), keys.at(0), kept.at(0));
      staging.download(kept, 0, u, u.length);
      ops.linear().close(linear);
    }
    return u;
  }

  @Test
  void theMasksAreThoseOfTheOracle() {
    JsonNode keys = GOLDEN.get("keys");
    long[] rowKeys =
        StreamSupport.stream(keys.get("rowKeys").spliterator(), false)
            .mapToLong(k -> Long.parseUnsignedLong(k.asText(), 16))
            .toArray();
    int columns = keys.get("dropped").get(0).asText().length();
    long module = Long.parseUnsignedLong(keys.get("moduleKey").asText(), 16);
    float[] u = masks(module, 0.25f, columns, rowKeys);
    for (int row = 0; row < rowKeys.length; row++) {
      for (int j = 0; j < columns; j++) {
        boolean dropped = keys.get("dropped").get(row).asText().charAt(j) == 'x';
        assertEquals(dropped ? 0 : 1 / 0.75f, u[row * columns + j], 1e-6, row + ", " + j);
      }
    }
  }

  /** 1 - p of the inputs stay, and stand for the others: the mean is the input itself. */
  @ParameterizedTest
  @ValueSource(floats = {0.05f, 0.25f, 0.5f, 0.9f})
  void theMeanOverManyMasksIsTheInput(float p) {
    int columns = 67;
    long[] rowKeys = LongStream.range(0, 4000).map(i -> CounterRng.bits(5, i)).toArray();
    float[] u = masks(77, p, columns, rowKeys);
    double sum = 0;
    int kept = 0;
    double[] ofColumn = new double[columns];
    for (int i = 0; i < u.length; i++) {
      sum += u[i];
      kept += u[i] > 0 ? 1 : 0;
      ofColumn[i % columns] += u[i] / rowKeys.length;
      assertEquals(u[i] > 0 ? 1 / (1 - p) : 0, u[i], 1e-5 / (1 - p));
    }
    // Five standard deviations of a binomial mean.
    assertEquals(1 - p, (double) kept / u.length, 5 * Math.sqrt(p * (1 - p) / u.length));
    double deviation = Math.sqrt(p / (1 - p) / rowKeys.length);
    assertEquals(1, sum / u.length, 5 * deviation / Math.sqrt(columns));
    for (double mean : ofColumn) {
      assertEquals(1, mean, 5 * deviation);
    }
  }

  /**
   * So small a probability drops one input of a billion: the way through the masks gives what the
   * way without gives, also beside a frozen adapter, which drops nothing.
   */
  @Test
  void aVanishingDropoutIsNoneAndFrozenAdaptersActWhole() throws IOException {
    List<Map<String, float[]>> gradients = new ArrayList<>();
    List<Double> losses = new ArrayList<>();
    Method method = Methods.fineTuning();
    for (double p : new double[] {0, 1e-9}) {
      try (Backend backend = TestDevice.open(2);
          Model model = GoldenSteps.model(backend, Dtype.F32)) {
        Lora frozen = AdapterDirectory.loadFrozen(model, "before", withDropout(0.5));
        model.startFrom(View.of(frozen));
        AdapterDirectory.load(model, withDropout(p), true);
        assertEquals(p > 0, model.lora().drops());
        assertFalse(frozen.drops());
        try (Step step = new Step(model, method, settings(4096), null, 4096)) {
          losses.add(gradients(step, method, 0).loss());
          gradients.add(GradientReader.gradients(model.trainable()));
        }
      }
    }
    assertEquals(losses.get(0), losses.get(1), TOLERANCE * losses.get(0));
    gradients
        .get(0)
        .forEach(
            (name, expected) -> {
              double error = Goldens.relativeError(gradients.get(1).get(name), expected);
              assertTrue(error <= TOLERANCE, name + " differs by " + error);
            });
  }

  @Test
  void anEvaluationDropsNothing() {
    List<TokenSequence> rows = GoldenSteps.all().stream().map(StepSequence::tokens).toList();
    try (Backend backend = TestDevice.open(2);
        Model dropping = GoldenSteps.model(backend, Dtype.F32);
        Model plain = GoldenSteps.model(backend, Dtype.F32)) {
      AdapterDirectory.load(dropping, adapter, true);
      AdapterDirectory.load(plain, Goldens.path("llama-tiny/adapter"), true);
      assertTrue(dropping.lora().drops());
      assertFalse(plain.lora().drops());
      try (Scorer one = Scorer.forSequences(dropping, rows, true);
          Scorer other = Scorer.forSequences(plain, rows, true)) {
        assertEquals(other.score(rows, Positions.ALL), one.score(rows, Positions.ALL));
      }
    }
  }

  /** A training that stops after any step and goes on ends with the same bits. */
  @Test
  void aResumedTrainingDropsTheSame() {
    Method method = Methods.create(MethodConfig.of("NPO+GD"));
    float[] whole = train(method, 0, null);
    for (int at = 1; at < 4; at++) {
      float[] resumed = train(method, at, null);
      assertArrayEquals(bits(whole), bits(resumed), "resumed at " + at);
    }
    assertFalse(Arrays.equals(whole, train(method, 0, 1L)), "another seed gives the same");
  }

  private float[] train(Method method, int resumedAt, Long seed) {
    TrainSettings settings = settings(64);
    TrainSettings used = seed == null ? settings : settings.withSeed(seed);
    BatchSource batches = GoldenSteps.repeated(GoldenSteps.of(method));
    try (Backend backend = TestDevice.open(2);
        Model model = GoldenSteps.model(backend, Dtype.F32)) {
      AdapterDirectory.load(model, adapter, true);
      if (resumedAt > 0) {
        try (Trainer before = new Trainer(model, method, used, batches, null)) {
          while (before.done() < resumedAt) {
            before.next();
          }
        }
      }
      try (Trainer trainer = new Trainer(model, method, used, batches, null)) {
        trainer.resumeAt(resumedAt, 0);
        while (trainer.hasNext()) {
          trainer.next();
        }
      }
      return model.lora().values();
    }
  }

  private static int[] bits(float[] values) {
    int[] bits = new int[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = Float.floatToRawIntBits(values[i]);
    }
    return bits;
  }

  /**
   * In bf16 the mask acts on the stored inputs, which are the same, and nothing else is rounded.
   */
  @Test
  void bf16FollowsFp32() {
    JsonNode c =
        combinations().filter(x -> x.get("name").asText().equals("ME.all+GD")).toList().get(0);
    Method method = method(c);
    try (Backend backend = TestDevice.open(2);
        Model model = GoldenSteps.model(backend, Dtype.BF16)) {
      AdapterDirectory.load(model, adapter, true);
      try (Step step = new Step(model, method, settings(4096), null, 4096)) {
        double loss = c.get("loss").asDouble();
        double found = gradients(step, method, GOLDEN.get("step").intValue()).loss();
        // bf16 keeps 8 bits; through three layers the loss keeps some two digits.
        assertEquals(loss, found, 0.02 * Math.abs(loss));
        Map<String, float[]> own = GradientReader.gradients(model.trainable());
        try (SafetensorsFile golden =
            SafetensorsFile.open(Goldens.path("dropout/gradients.safetensors"))) {
          for (String name :
              List.of("model.layers.2.mlp.down_proj", "model.layers.0.self_attn.q_proj")) {
            float[] expected = Goldens.floats(golden, "ME.all+GD/" + name + ".lora_A.weight");
            double error =
                Goldens.relativeError(
                    own.get("base_model.model." + name + ".lora_A.weight"), expected);
            assertTrue(error < 0.1, name + " differs by " + error);
          }
        }
      }
    }
  }
}
