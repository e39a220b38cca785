package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.TestDevice;
import org.lethe.data.CounterRng;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Role;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.RandomWeights;
import org.lethe.model.WeightPlacement;

/** What a step is said to take of an engine's scratch memory, against what it takes. */
class ScratchPlanTest {
  private static ModelConfig sizes(int feedForward) {
    return ModelConfig.llama(
        new ModelConfig.Sizes(64, 32, 1, 4, 2, 8, feedForward, 512), 1e-5f, 10000, true);
  }

  @BeforeEach
  void theHostHasNone() {
    assumeFalse(TestDevice.isCpu());
  }

  private static long used(Backend backend) {
    Backend.Memory memory = backend.memory();
    return memory.total() - memory.free();
  }

  private static List<StepSequence> shortStep() {
    return List.of(sequence(Role.FORGET, 0, 9), sequence(Role.RETAIN, 0, 7));
  }

  private static List<StepSequence> step() {
    return List.of(
        sequence(Role.FORGET, 0, 41),
        sequence(Role.RETAIN, 0, 37),
        sequence(Role.FORGET, 1, 29),
        sequence(Role.RETAIN, 1, 33));
  }

  private static StepSequence sequence(Role role, int pair, int length) {
    int[] ids = new int[length];
    for (int t = 0; t < length; t++) {
      ids[t] = CounterRng.below(64, 7, role.name().hashCode(), pair, t);
    }
    return new StepSequence(role, pair, new TokenSequence(ids, 1), role + " " + pair);
  }

  /**
   * Every token but the last of a sequence has a row of the head, of which the tokens are a bound.
   * A twin has none, but is a token as others are.
   */
  private static void assertTight(long planned, long seen, boolean twins) {
    assertTrue(seen <= planned, seen + " is more than the " + planned + " planned");
    assertTrue(planned <= (twins ? 2 : 1.05) * seen, seen + " of " + planned + " planned");
  }

  private static Model loaded(
      Backend backend, Dtype dtype, ModelConfig sizes, List<LoraConfig> adapters) {
    Ops ops = new Ops(backend, dtype);
    return Model.load(ops, sizes, new RandomWeights(sizes, 1), WeightPlacement.PLAIN, adapters);
  }

  @ParameterizedTest
  @CsvSource({
    // Masked inputs, splits of long sums, and the head's rows by source.
    "F32, GA+GD, 72, 0.5, false",
    "BF16, GA+GD, 72, 0.5, false",
    "F32, GA+GD, 8192, 0, false",
    "BF16, GA+GD, 72, 0, false",
    "BF16, NPO+KL, 72, 0, false",
    "F32, GA+GD, 72, 0, true",
    "BF16, GA+GD, 72, 0, true"
  })
  void whatIsSaidIsTaken(Dtype dtype, String name, int feedForward, double dropout, boolean all) {
    ModelConfig sizes = sizes(feedForward);
    Method method = Methods.create(MethodConfig.of(name));
    LoraConfig lora = new LoraConfig(4, 8, false, dropout, LoraTargets.ALL, Map.of(), Map.of());
    TrainSettings settings =
        TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0).with(TrainSettings.SharedPrefixes.OFF);
    try (Backend backend = TestDevice.open(1)) {
      long empty = used(backend) - backend.allocatedBytes();
      try (Model model = loaded(backend, dtype, sizes, all ? List.of() : List.of(lora))) {
        long loaded = used(backend) - backend.allocatedBytes() - empty;
        if (all) {
          model.optimizer(OptimizerConfig.DEFAULT);
          model.trainWeights();
        } else {
          model.addLora(lora, 1);
        }
        assertTight(model.scratch().loading(), loaded, false);
        int piece = StepSizing.largestPiece(model, method, settings, null, List.of(step()));
        try (Step step = new Step(model, method, settings, null, piece)) {
          step.run(0, step(), 1e-3);
          long planned = PieceShape.scratch(model, method, settings, null, List.of(step()), piece);
          assertTight(
              Math.max(planned, model.scratch().loading()),
              used(backend) - backend.allocatedBytes() - empty,
              name.equals("NPO+KL"));
        }
      }
    }
  }

  /** Graphs of a short step work in scratch memory that is large enough for any. */
  @ParameterizedTest
  @CsvSource({"F32", "BF16"})
  void noGraphHoldsWhatWasOutgrown(Dtype dtype) {
    ModelConfig sizes = sizes(72);
    Method method = Methods.create(MethodConfig.of("GA+GD"));
    LoraConfig lora = LoraConfig.all(4, 8);
    TrainSettings settings = TrainSettings.of(3, 1e-3, Schedule.CONSTANT, 0).with(Graphs.ALWAYS);
    try (Backend backend = TestDevice.open(1)) {
      long empty = used(backend) - backend.allocatedBytes();
      try (Model model = loaded(backend, dtype, sizes, List.of(lora))) {
        model.addLora(lora, 1);
        List<List<StepSequence>> steps = List.of(shortStep(), shortStep(), step());
        try (Step step = StepSizing.fitted(model, method, settings, null, steps, Sharding.none())) {
          for (int i = 0; i < steps.size(); i++) {
            step.run(i, steps.get(i), 1e-3);
          }
          assertEquals(2, step.graphs().captures());
          int piece = step.fit().piece();
          long planned = PieceShape.scratch(model, method, settings, null, steps, piece);
          assertEquals(planned, used(backend) - backend.allocatedBytes() - empty);
        }
      }
    }
  }
}
