package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.lethe.InternalFaultException;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.data.CounterRng;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;

/** Views: one copy of the weights, many models. */
class ViewTest {
  private static final int[] IDS = {1, 5, 9, 33, 70, 2, 100, 41, 8, 8, 17};
  // fp32 logits against weights merged in fp64 and rounded once: the project's bound.
  private static final double TOLERANCE = 1e-5;
  private static final int KL = 8;

  private Backend backend;
  private Model model;
  private Lora a;
  private Lora b;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
    model = load(backend);
    a = model.addFrozen("a", LoraConfig.all(3, 6), random(LoraConfig.all(3, 6), 1));
    LoraConfig some = new LoraConfig(2, 1, List.of("q_proj", "v_proj", "down_proj"));
    b = model.addFrozen("b", some, random(some, 2));
  }

  @AfterEach
  void close() {
    model.close();
    backend.close();
  }

  private static Model load(Backend backend) {
    return ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("llama-tiny"), 64);
  }

  private float[] random(LoraConfig config, long seed) {
    float[] values = new float[Math.toIntExact(Lora.layout(model.config(), config).elements())];
    for (int i = 0; i < values.length; i++) {
      values[i] = (CounterRng.bits(seed, 0, i) >> 40) * 0x1p-23f * 0.3f;
    }
    return values;
  }

  private static float[] logProbabilities(Model model, View view) {
    return Logits.logProbabilities(model, view, IDS);
  }

  private float[] merged(Map<Lora, Double> adapters) {
    WeightArrays weights = new WeightArrays(model).plus(adapters);
    try (Model plain = Model.load(model.ops(), model.config(), weights)) {
      return logProbabilities(plain, View.BASE);
    }
  }

  private static void assertClose(float[] expected, float[] found) {
    double error = Logits.error(expected, found);
    assertTrue(error <= TOLERANCE, "differ by " + error);
  }

  @Test
  void aCoefficientOfZeroIsTheBaseToTheBit() {
    float[] base = logProbabilities(model, View.BASE);
    assertArrayEquals(base, logProbabilities(model, View.BASE.plus(a, 0)));
    assertArrayEquals(base, logProbabilities(model, View.of(a).plus(b, -2).scaled(0)));
    try (Model untouched = load(backend)) {
      assertArrayEquals(logProbabilities(untouched, View.BASE), base);
    }
    assertTrue(Goldens.relativeError(logProbabilities(model, View.of(a)), base) > 0.05);
  }

  @Test
  void aCoefficientOfOneIsTheModelWithThatAdapterToTheBit() {
    float[] view = logProbabilities(model, View.of(a));
    try (Model own = load(backend)) {
      own.addLora(a.config(), a.values(), false);
      assertArrayEquals(view, logProbabilities(own, own.view()));
      assertArrayEquals(logProbabilities(own, View.BASE), logProbabilities(own, own.reference()));
    }
  }

  @Test
  void aViewIsThePlainSumOfItsWeights() {
    assertClose(
        merged(Map.of(a, 0.7, b, -1.3)),
        logProbabilities(model, View.BASE.plus(a, 0.7).plus(b, -1.3)));
  }

  @Test
  void aSumOfViewsIsTheAdapterWithTheirRanksConcatenated() {
    LoraConfig wide = LoraConfig.all(6, 6);
    Lora other = model.addFrozen("other", LoraConfig.all(3, 1), random(LoraConfig.all(3, 1), 9));
    float[] values = new float[Math.toIntExact(Lora.layout(model.config(), wide).elements())];
    Layout layout = Lora.layout(model.config(), wide);
    concatenate(a, 0.7, 0, layout, values);
    concatenate(other, -1.3, 3, layout, values);
    Lora one = model.addFrozen("one", wide, values);
    assertClose(
        logProbabilities(model, View.of(one)),
        logProbabilities(model, View.BASE.plus(a, 0.7).plus(other, -1.3)));
  }

  private static void concatenate(
      Lora from, double coefficient, int firstRank, Layout layout, float[] values) {
    float[] v = from.values();
    for (Parameter p : from.layout().parameters().values()) {
      Parameter to = layout.parameter(p.name());
      boolean isA = p.name().endsWith(".lora_A.weight");
      for (int i = 0; i < p.rows(); i++) {
        for (int j = 0; j < p.columns(); j++) {
          float value = v[(int) (p.offset() + i * p.columns() + j)];
          long at =
              isA
                  ? to.offset() + (firstRank + i) * to.columns() + j
                  : to.offset() + i * to.columns() + firstRank + j;
          values[(int) at] = isA ? value : (float) (coefficient * from.config().scale() * value);
        }
      }
    }
  }

  @Test
  void mixingIsLinearInTheWeightsAndNotInTheLogits() {
    double u = 0.35;
    View after = View.of(a).plus(b, -1);
    float[] mixed = logProbabilities(model, after.scaled(1 - u));
    assertClose(merged(Map.of(a, 1 - u, b, u - 1)), mixed);
    float[] base = logProbabilities(model, View.BASE);
    float[] whole = logProbabilities(model, after);
    float[] line = new float[base.length];
    for (int i = 0; i < line.length; i++) {
      line[i] = (float) (u * base[i] + (1 - u) * whole[i]);
    }
    assertTrue(Goldens.relativeError(mixed, line) > 1e-3);
  }

  @Test
  void trainingFromAViewIsTrainingOnTheMergedModel() {
    List<StepSequence> step =
        List.of(new StepSequence(Role.RETAIN, 0, new TokenSequence(IDS, 4), "test"));
    LoraConfig trained = LoraConfig.all(4, 8);
    float[] values = random(trained, 5);
    model.startFrom(View.BASE.plus(a, -0.6).plus(b, 1));
    model.addLora(trained, values, true);
    Map<String, float[]> found = gradients(model, step);
    try (Model plain =
        Model.load(
            model.ops(), model.config(), new WeightArrays(model).plus(Map.of(a, -0.6, b, 1.0)))) {
      plain.addLora(trained, values, true);
      Map<String, float[]> expected = gradients(plain, step);
      assertEquals(expected.keySet(), found.keySet());
      expected.forEach(
          (name, gradient) ->
              assertTrue(Goldens.relativeError(found.get(name), gradient) <= TOLERANCE, name));
    }
    assertClose(merged(Map.of(a, -0.6, b, 1.0)), logProbabilities(model, model.reference()));
  }

  private static Map<String, float[]> gradients(Model model, List<StepSequence> step) {
    TrainSettings settings = TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0);
    try (Step training = new Step(model, Methods.fineTuning(), settings, null, 64)) {
      training.gradients(step);
      return GradientReader.gradients(model.trainable());
    }
  }

  @Test
  void theHeadTakesReferencesFromOtherViews() {
    int n = IDS.length;
    View first = View.of(a);
    View second = View.BASE.plus(b, -1);
    PackedBatch batch = PackedBatch.of(List.of(IDS), 0);
    try (Decoder decoder = new Decoder(model, n, false);
        Head head = new Head(model, 4 * n)) {
      HeadRows.Builder rows = new HeadRows.Builder();
      for (int t = 0; t < n; t++) {
        int reference = rows.source(t % 2, t);
        rows.row(rows.source(t), IDS[t], RowKind.REFERENCE_KL.code(), reference);
      }
      HeadRows built = rows.build(0);
      head.take(decoder.forward(first, batch, built.passTokens().get(0)), built, 0);
      head.take(decoder.forward(second, batch, built.passTokens().get(1)), built, 1);
      long x = decoder.forward(View.BASE, batch, built.sourceTokens());
      float[] statistics = head.forward(x, built, false);
      float[] p = logProbabilities(model, View.BASE);
      List<float[]> references =
          List.of(logProbabilities(model, first), logProbabilities(model, second));
      int vocabulary = model.config().vocabularySize();
      for (int t = 0; t < n; t++) {
        float[] q = references.get(t % 2);
        double kl = 0;
        for (int v = t * vocabulary; v < (t + 1) * vocabulary; v++) {
          kl += Math.exp(q[v]) * (q[v] - p[v]);
        }
        float found = statistics[t * HeadOps.STATISTICS + KL];
        // Sums of 101 terms of fp32 logits.
        assertEquals(kl, found, 1e-5 * Math.max(1, kl), "position " + t);
        assertTrue(kl > 1e-3);
      }
    }
  }

  @Test
  void whatIsNoViewOfThisModelIsRefused() {
    assertThrows(InternalFaultException.class, () -> View.of(a).plus(a, 2));
    UserException e = assertThrows(UserException.class, () -> View.BASE.plus(a, Double.NaN));
    assertTrue(e.getMessage().contains("coefficient is NaN"), e.getMessage());
    try (Model other = load(backend);
        Decoder decoder = new Decoder(other, 16, false)) {
      assertThrows(
          InternalFaultException.class,
          () -> decoder.forward(View.of(a), PackedBatch.of(List.of(IDS), 0), new int[] {0}));
    }
    e = assertThrows(UserException.class, () -> model.addFrozen("a", a.config(), a.values()));
    assertTrue(e.getMessage().contains("name each apart"), e.getMessage());
    e = assertThrows(UserException.class, model::trainWeights);
    assertTrue(e.getMessage().contains("merge the adapters"), e.getMessage());
  }
}
