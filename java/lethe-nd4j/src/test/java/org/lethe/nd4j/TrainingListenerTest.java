package org.lethe.nd4j;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.UserException;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.Parameter;
import org.lethe.model.RandomWeights;
import org.lethe.train.BatchSource;
import org.lethe.train.Schedule;
import org.lethe.train.StepReport;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;
import org.lethe.train.Trainer;
import org.nd4j.linalg.api.ndarray.INDArray;

class TrainingListenerTest {
  private static final ModelConfig TINY =
      ModelConfig.llama(new ModelConfig.Sizes(61, 16, 2, 2, 1, 8, 24, 32), 1e-5f, 10000, false);

  /** Writes down what it is told. */
  private static final class Diary implements TrainingListener {
    private final List<String> lines = new ArrayList<>();

    @Override
    public void onEpochStart(TrainedModel model) {
      lines.add("start " + model.phase() + " " + model.iterationCount() + " " + model.epochCount());
    }

    @Override
    public void iterationDone(TrainedModel model, int iteration, int epoch) {
      assertEquals(iteration, model.iterationCount());
      assertEquals(epoch, model.epochCount());
      lines.add(iteration + " " + epoch + " " + model.score());
    }

    @Override
    public void onEpochEnd(TrainedModel model) {
      lines.add("end " + model.iterationCount() + " " + model.epochCount());
    }
  }

  private static StepReport report(int step) {
    return new StepReport(step, step + 0.5, Map.of(), 1, 1e-3, 10, 0, 1, true);
  }

  private static final BatchSource BATCHES =
      new BatchSource() {
        @Override
        public int stepsPerEpoch() {
          return 2;
        }

        @Override
        public List<StepSequence> step(int index) {
          int[] forget = {1, 7, 9 + index % 2, 11, 13};
          int[] retain = {1, 20, 22, 24 + index % 2};
          return List.of(
              new StepSequence(Role.FORGET, 0, new TokenSequence(forget, 2), "forget"),
              new StepSequence(Role.RETAIN, 0, new TokenSequence(retain, 1), "retain"));
        }
      };

  @Test
  void phasesWithoutEpochsAreEpochs() {
    Diary diary = new Diary();
    Nd4jRunListener listener = Nd4jRunListener.of(diary);
    listener.phase("finetune", 2);
    listener.step(report(0));
    listener.step(report(1));
    listener.phaseEnd();
    listener.phase("unlearn", 1);
    listener.step(report(0));
    listener.phaseEnd();
    assertEquals(
        List.of(
            "start finetune 0 0",
            "0 0 0.5",
            "1 0 1.5",
            "end 1 0",
            "start unlearn 2 1",
            "2 1 0.5",
            "end 2 1"),
        diary.lines);
  }

  @Test
  void epochsEndWithTheirLastStepOrTheirPhase() {
    Diary diary = new Diary();
    Nd4jRunListener listener = new Nd4jRunListener(null, 2, List.of(diary));
    listener.phase("a", 3);
    for (int step = 0; step < 3; step++) {
      listener.step(report(step));
    }
    listener.phaseEnd();
    listener.phase("b", 2);
    listener.step(report(0));
    listener.step(report(1));
    listener.phaseEnd();
    assertEquals(
        List.of(
            "start a 0 0",
            "0 0 0.5",
            "1 0 1.5",
            "end 1 0",
            "start a 2 1",
            "2 1 2.5",
            "end 2 1",
            "start b 3 2",
            "3 2 0.5",
            "4 2 1.5",
            "end 4 2"),
        diary.lines);
  }

  @Test
  void aResumedRunGoesOnWithItsNumbers() {
    Diary diary = new Diary();
    Nd4jRunListener listener = new Nd4jRunListener(null, 2, List.of(diary));
    // Steps alone, as a trainer that stands by itself gives them.
    listener.step(report(3));
    listener.step(report(4));
    listener.phaseEnd();
    listener.phaseEnd();
    // A phase, announced before its first report says how far it had come.
    listener.phase("unlearn", 4);
    listener.step(report(3));
    listener.phaseEnd();
    assertEquals(
        List.of(
            "start  3 1",
            "3 1 3.5",
            "end 3 1",
            "start  4 2",
            "4 2 4.5",
            "end 4 2",
            "start unlearn 5 3",
            "8 4 3.5",
            "end 8 4"),
        diary.lines);
  }

  @ParameterizedTest
  @EnumSource(
      value = Dtype.class,
      names = {"F32", "BF16"})
  void parametersAreThoseOfTheAdaptersThatTrain(Dtype storage) {
    Method method = Methods.create(MethodConfig.of("ME+GD"));
    List<Map<String, INDArray>> seen = new ArrayList<>();
    List<Double> scores = new ArrayList<>();
    TrainingListener collector =
        new TrainingListener() {
          @Override
          public void onEpochStart(TrainedModel model) {
            seen.add(model.paramTable());
          }

          @Override
          public void iterationDone(TrainedModel model, int iteration, int epoch) {
            scores.add(model.score());
            assertEquals(
                norm(model.gradientTable()), model.report().orElseThrow().gradientNorm(), 1e-5);
          }

          @Override
          public void onEpochEnd(TrainedModel model) {
            seen.add(model.paramTable());
            assertEquals(model.numParams(), model.params().length());
          }
        };
    List<StepReport> reports = new ArrayList<>();
    try (Backend backend = Backend.open("cpu", 1);
        Model model = Model.load(new Ops(backend, storage), TINY, new RandomWeights(TINY, 3))) {
      model.addLora(LoraConfig.all(4, 8), 5);
      Nd4jRunListener listener = new Nd4jRunListener(model, 2, List.of(collector));
      TrainSettings settings = TrainSettings.of(4, 1e-2, Schedule.CONSTANT, 0);
      try (Trainer trainer = new Trainer(model, method, settings, BATCHES, null)) {
        listener.phase("unlearn", 4);
        trainer.run(
            report -> {
              reports.add(report);
              listener.step(report);
            });
        listener.phaseEnd();
      }
      assertSame(model, seen.get(3));
    }
    assertEquals(4, seen.size());
    assertEquals(reports.stream().map(StepReport::loss).toList(), scores);
    String b = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    // B starts at zero; each snapshot stays what it was.
    assertEquals(0, seen.get(0).get(b).norm2Number().doubleValue());
    assertNotEquals(0, seen.get(1).get(b).norm2Number().doubleValue());
    assertArrayEquals(
        seen.get(1).get(b).ravel().toFloatVector(), seen.get(2).get(b).ravel().toFloatVector());
    assertNotEquals(seen.get(2).get(b), seen.get(3).get(b));
  }

  /** Against the values that Lethe saves. */
  private static void assertSame(Model model, Map<String, INDArray> table) {
    float[] values = model.lora().values();
    Map<String, Parameter> layout = new LinkedHashMap<>(model.lora().layout().parameters());
    assertEquals(List.copyOf(layout.keySet()), List.copyOf(table.keySet()));
    layout.forEach(
        (name, parameter) -> {
          INDArray array = table.get(name);
          assertArrayEquals(parameter.shape(), array.shape());
          float[] expected = new float[(int) parameter.elements()];
          System.arraycopy(values, (int) parameter.offset(), expected, 0, expected.length);
          assertArrayEquals(expected, array.ravel().toFloatVector(), name);
        });
  }

  private static double norm(Map<String, INDArray> table) {
    double sum = 0;
    for (INDArray array : table.values()) {
      sum += Math.pow(array.norm2Number().doubleValue(), 2);
    }
    return Math.sqrt(sum);
  }

  @Test
  void parametersOfNoModelAreRefused() {
    Nd4jRunListener listener =
        Nd4jRunListener.of(
            new TrainingListener() {
              @Override
              public void onEpochStart(TrainedModel model) {
                assertTrue(Double.isNaN(model.score()));
                assertTrue(model.report().isEmpty());
                model.params();
              }
            });
    UserException e = assertThrows(UserException.class, () -> listener.phase("finetune", 1));
    assertTrue(e.getMessage().contains("Nd4jRunListener with the model"), e.getMessage());
    assertThrows(UserException.class, () -> new Nd4jRunListener(null, -1, List.of()));
    try (Backend backend = Backend.open("cpu", 1);
        Model frozen = Model.load(new Ops(backend, Dtype.F32), TINY, new RandomWeights(TINY, 3))) {
      UserException nothing =
          assertThrows(
              UserException.class,
              () ->
                  new Nd4jRunListener(
                          frozen,
                          0,
                          List.of(
                              new TrainingListener() {
                                @Override
                                public void onEpochStart(TrainedModel model) {
                                  model.paramTable();
                                }
                              }))
                      .phase("finetune", 1));
      assertTrue(nothing.getMessage().contains("adapters"), nothing.getMessage());
    }
  }
}
