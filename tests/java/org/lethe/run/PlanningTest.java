package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;
import org.lethe.checkpoint.LinearShape;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.checkpoint.PeftAdapter;
import org.lethe.checkpoint.PeftConfig;
import org.lethe.checkpoint.StoredDtype;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.OptimizerConfig;
import org.lethe.model.RandomWeights;
import org.lethe.model.SpareRule;
import org.lethe.model.WeightPlacement;
import org.lethe.train.DeviceCosts;
import org.lethe.train.MemorySettings;
import org.lethe.train.Schedule;
import org.lethe.train.Step;
import org.lethe.train.StepSequence;
import org.lethe.train.StepSizing;
import org.lethe.train.TrainSettings;

/** What is planned before anything is loaded. */
class PlanningTest {
  /** Parameters as the models' own pages count them. */
  @ParameterizedTest
  @CsvSource({
    "gemma-2-2b,2614341888",
    "llama-2-7b,6738415616",
    "llama-2-13b,13015864320",
    "llama-3-8b,8030261248",
    "llama-3.1-8b,8030261248",
    "llama-3.2-1b,1235814400",
    "llama-3.2-3b,3212749824",
    "mistral-7b,7248023552",
    "phi-1.5,1418270720",
    "qwen2.5-0.5b,494032768",
    "qwen2.5-1.5b,1543714304",
    "qwen2.5-7b,7615616512"
  })
  void shapesHaveTheParametersOfTheirModels(String name, long parameters) {
    long counted =
        Model.layout(Shapes.of(name)).parameters().values().stream()
            .mapToLong(p -> p.elements())
            .sum();
    assertEquals(parameters, counted);
  }

  @Test
  void anUnknownShapeIsRefusedWithThoseThereAre() {
    UserException e = assertThrows(UserException.class, () -> Shapes.of("llama-9"));
    Shapes.names().forEach(n -> assertTrue(e.getMessage().contains(n), e.getMessage()));
  }

  private static RunConfig config(String... overrides) {
    return Config.of(
        RunConfig.class,
        Stream.concat(Stream.of("output=unused", "device=cpu"), Stream.of(overrides)).toList());
  }

  private static MemoryForecast plan(String shape, String... overrides) {
    return Planning.plan(config(overrides), Optional.of(shape), Task.UNLEARN, 128);
  }

  /** How many steps a run has its rows tell, which a plan need not have. */
  @Test
  void aLongWarmUpIsPlannedFor() {
    MemoryForecast plain = plan("llama-3.2-1b");
    assertEquals(plain, plan("llama-3.2-1b", "train.warmup_steps=100000"));
    assertEquals(plain, plan("llama-3.2-1b", "train.warmup_epochs=5"));
    assertThrows(
        UserException.class, () -> plan("llama-3.2-1b", "train.steps=10", "train.warmup_steps=11"));
  }

  @Test
  void whatTheRunRefusesThePlanDoes() {
    UserException e =
        assertThrows(UserException.class, () -> plan("llama-3.2-1b", "memory.activations=offload"));
    assertTrue(e.getMessage().contains("set memory.activations=recompute"), e.getMessage());
  }

  /** An answer ends with the context, whatever is asked for. */
  @Test
  void answersAreNoLongerThanTheContext() {
    assertEquals(
        plan("phi-1.5", "evaluate.max_new_tokens=2048"),
        plan("phi-1.5", "evaluate.max_new_tokens=2147483647"));
  }

  /** Every part of a plan against what the very same training takes of a backend. */
  @Test
  void whatIsPlannedIsWhatATrainingTakes() {
    ModelConfig sizes = Bench.size("4M");
    Method method = Methods.create(MethodConfig.of("NPO+KL"));
    LoraConfig lora = LoraConfig.all(8, 16);
    for (Dtype dtype : List.of(Dtype.F32, Dtype.BF16)) {
      for (boolean full : new boolean[] {false, true}) {
        Method trained = full ? Methods.fineTuning() : method;
        List<StepSequence> step = Bench.sequences(trained, sizes.vocabularySize(), 3, 40);
        TrainSettings settings =
            TrainSettings.of(1, 1e-3, Schedule.CONSTANT, 0)
                .with(new MemorySettings(0, MemorySettings.Activations.RECOMPUTE));
        try (Backend backend = Backend.open("cpu", 1);
            Model model = Model.load(new Ops(backend, dtype), sizes, new RandomWeights(sizes, 1))) {
          if (full) {
            model.trainWeights();
          } else {
            model.addLora(lora, 1);
          }
          PlannedTraining planned =
              new PlannedTraining(
                  sizes,
                  dtype,
                  WeightPlacement.PLAIN,
                  new PlannedAdapters(full ? null : lora, true, List.of()),
                  OptimizerConfig.DEFAULT,
                  trained,
                  false,
                  0,
                  settings,
                  step,
                  Judging.NONE,
                  new PlannedTraining.Device(
                      org.lethe.model.Head.workspace(model.ops()),
                      SpareRule.of(model.ops()),
                      new DeviceCosts(true, 0, 64)));
          long fixed = planned.fixed().values().stream().mapToLong(v -> v).sum();
          assertWithin(backend.allocatedBytes(), fixed);
          int largest = StepSizing.largestPiece(trained, settings, null, List.of(step));
          assertEquals(largest, planned.cut(false).piece());
          try (Step taken = new Step(model, trained, settings, null, largest)) {
            assertEquals(taken.bytes(), planned.cut(false).bytes());
          }
        }
      }
    }
  }

  /** Arenas end on 64 bytes, and a tenth of a per cent is more than those. */
  private static void assertWithin(long expected, long found) {
    assertEquals(1, (double) found / expected, 1e-3);
  }

  @Test
  void aSevenBillionModelIsPlannedInFractionsOfASecondAndToldWhatWouldFit() {
    MemoryForecast plan = plan("llama-2-7b", "memory.budget=8GB");
    assertFalse(plan.fits());
    assertEquals(OptionalLong.of(8_000_000_000L), plan.available());
    // 6.74 billion numbers of 4 bytes, and the tables of angles.
    assertWithin(4 * 6_738_415_616L, plan.parts().get("weights"));
    assertEquals(List.of("quantize_base=nf4_double"), plan.remedies());
    assertTrue(plan("llama-2-7b", "memory.budget=8GB", "quantize_base=nf4_double").fits());
    MemoryForecast fitting = plan("llama-2-7b", "memory.budget=16GB", "dtype=bf16");
    assertTrue(fitting.fits());
    assertTrue(fitting.piece() < plan("llama-2-7b", "dtype=bf16").piece());
    assertTrue(fitting.remedies().isEmpty());
  }

  @Test
  void aRemedyIsOneWithWhichThePlanFits() {
    MemoryForecast plan = plan("llama-3.2-1b", "memory.budget=4GB");
    assertFalse(plan.fits());
    assertEquals(List.of("dtype=bf16", "quantize_base=nf4_double"), plan.remedies());
    assertTrue(plan("llama-3.2-1b", "memory.budget=4GB", "dtype=bf16").fits());
    // A megabyte less than the smallest pieces with all activations.
    String[] keep = {"dtype=bf16", "memory.activations=keep", "memory.budget=1GB"};
    keep[2] = "memory.budget=" + (plan("llama-3.2-1b", keep).peak() - 1_000_000) + "B";
    MemoryForecast kept = plan("llama-3.2-1b", keep);
    assertFalse(kept.fits());
    assertEquals("memory.activations=auto", kept.remedies().get(0));
    MemoryForecast again = plan("llama-3.2-1b", "dtype=bf16", keep[2]);
    assertTrue(again.fits() && again.recomputed() > 1, again.toString());
  }

  /** Where nothing that learns the same fits: the largest that does, and no larger one does. */
  @Test
  void aSmallerRankIsARemedyWhereNoOtherSettingIsOne() {
    String[] given = {"dtype=bf16", "quantize_base=nf4_double", "lora.rank=256", "", ""};
    given[3] = "train.optimizer_state=8bit";
    given[4] = "memory.budget=5.5GB";
    MemoryForecast plan = plan("llama-2-7b", given);
    assertFalse(plan.fits());
    assertEquals(List.of("lora.rank=32"), plan.remedies());
    given[2] = "lora.rank=32";
    assertTrue(plan("llama-2-7b", given).fits());
    given[2] = "lora.rank=64";
    assertEquals(List.of("lora.rank=32"), plan("llama-2-7b", given).remedies());
    // On top of all others, as each alone is too little.
    List<String> together = plan("llama-2-7b", "memory.budget=4.6GB", "lora.rank=256").remedies();
    assertEquals(1, together.size(), together.toString());
    assertTrue(together.get(0).matches("dtype=bf16 quantize_base=nf4_double .*lora.rank=\\d+"));
    assertTrue(plan("llama-2-7b", ("memory.budget=4.6GB " + together.get(0)).split(" ")).fits());
  }

  /** Adapters learn something else than all weights do, so they are the last thing to be said. */
  @Test
  void allWeightsAreMadeToFitBeforeAdaptersTakeTheirPlace() {
    String[] given = {
      "dtype=bf16", "train.full_parameters=true", "evaluate.max_new_tokens=16", "memory.budget=8GB"
    };
    String all = "train.optimizer_state=8bit train.fused_update=true train.master=none";
    List<String> found = plan("llama-3.2-1b", given).remedies();
    assertEquals(List.of(all, "train.full_parameters=false"), found);
    assertTrue(plan("llama-3.2-1b", with(given, all.split(" "))).fits());
    // A fused update is none of adapters.
    String[] fused = with(given, "train.fused_update=true", "memory.budget=4GB");
    assertEquals(
        List.of("train.full_parameters=false train.fused_update=false"),
        plan("llama-3.2-1b", fused).remedies());
    // What a run would refuse is no remedy.
    String[] sharded = with(given, "train.shards=2");
    assertEquals(List.of("train.full_parameters=false"), plan("llama-3.2-1b", sharded).remedies());
    String[] tiny = with(given, "memory.budget=2GB");
    assertEquals(
        List.of("train.full_parameters=false quantize_base=nf4_double"),
        plan("llama-3.2-1b", tiny).remedies());
  }

  /** fp32 weights have no master to do without, until they are bf16. */
  @Test
  void aMasterIsGivenUpWhereThereIsOne() {
    String[] given = {
      "train.full_parameters=true", "evaluate.max_new_tokens=16", "memory.budget=8GB"
    };
    List<String> found = plan("llama-3.2-1b", given).remedies();
    assertEquals(
        "dtype=bf16 train.optimizer_state=8bit train.fused_update=true train.master=none",
        found.get(0));
    List<String> roomy = plan("llama-3.2-1b", with(given, "memory.budget=16GB")).remedies();
    assertFalse(roomy.isEmpty());
    assertTrue(roomy.stream().noneMatch(r -> r.startsWith("train.master")), roomy.toString());
  }

  private static String[] with(String[] given, String... more) {
    return Stream.concat(Stream.of(given), Stream.of(more)).toArray(String[]::new);
  }

  @Test
  void aDeviceThatIsNotHereIsPlannedForWithoutKnowingItsMemory() {
    MemoryForecast plan = plan("llama-3.2-1b", "device=cuda:63", "dtype=bf16");
    assertTrue(plan.available().isEmpty() && plan.fits());
    assertEquals(600_000_000, plan.parts().get("libraries"));
    MemoryForecast moved =
        plan("llama-3.2-1b", "device=cuda:63", "dtype=bf16", "memory.activations=offload");
    assertEquals(16, moved.offloaded());
    assertTrue(moved.parts().get("activations") < plan.parts().get("activations"));
  }

  @Test
  void anEmbeddingOnTheHostIsARemedyOfDevicesAlone() {
    String[] given = {"device=cuda:63", "dtype=bf16", "quantize_base=nf4_double", ""};
    given[3] = "memory.activations=recompute";
    long whole = plan("llama-3-8b", given).parts().get("weights");
    given[3] = "memory.embedding=host";
    assertWithin(whole - 2L * 128256 * 4096, plan("llama-3-8b", given).parts().get("weights"));
    given[3] = "memory.budget=6.5GB";
    assertEquals(List.of("memory.embedding=host"), plan("llama-3-8b", given).remedies());
    for (String[] refused :
        List.of(
            new String[] {"llama-3.2-1b", "device=cuda:63", "tie_word_embeddings"},
            new String[] {"llama-3-8b", "device=cpu", "the device is the host"})) {
      UserException e =
          assertThrows(
              UserException.class,
              () -> plan(refused[0], refused[1], "memory.embedding=host"),
              refused[0]);
      assertTrue(e.getMessage().contains(refused[2]), e.getMessage());
    }
    UserException e =
        assertThrows(
            UserException.class,
            () ->
                plan(
                    "llama-2-7b",
                    "device=cuda:63",
                    "memory.embedding=host",
                    "train.full_parameters=true"));
    assertTrue(e.getMessage().contains("memory.embedding"), e.getMessage());
  }

  private static String adapter(Path directory, int rank) {
    ModelConfig sizes = Shapes.of("llama-3.2-1b");
    LoraConfig lora = new LoraConfig(rank, 16, List.of("v_proj"));
    Map<String, LinearShape> linears = new HashMap<>();
    Model.projections(sizes)
        .forEach((module, p) -> linears.put(module, new LinearShape(p.rows(), p.columns())));
    PeftConfig config = new PeftConfig("a base", lora);
    OutputDirectory.write(
        directory,
        false,
        0,
        out ->
            PeftAdapter.write(
                out,
                config,
                linears,
                name -> StoredDtype.BF16,
                (name, first, into) -> into.put(new float[into.remaining()])));
    return directory.toString();
  }

  @Test
  void adaptersAndViewsOfANamedShapeAreCounted(@TempDir Path directory) {
    String one = adapter(directory.resolve("one"), 4);
    String other = adapter(directory.resolve("other"), 8);
    MemoryForecast alone = plan("llama-3.2-1b", "dtype=bf16");
    MemoryForecast plan =
        plan(
            "llama-3.2-1b",
            "dtype=bf16",
            "adapters=[{path: " + one + "}]",
            "views=[{name: forget, path: " + one + "}, {name: new, path: " + other + "}]",
            "method.forget=KGA",
            "method.retain=none");
    // 16 layers, [r, 2048] and [512, r], in two bytes.
    long rank = 16 * (2048 + 512) * 2;
    assertEquals(rank * (4 + 4 + 8), plan.parts().get("frozen adapters"));
    assertEquals(alone.parts().get("weights"), plan.parts().get("weights"));
    assertTrue(plan.training().contains("beside 3 frozen"), plan.training());
    // KGA reads each row in a pass of each view, too.
    assertTrue(plan.piece() > alone.piece(), plan.piece() + " and " + alone.piece());
    UserException e =
        assertThrows(
            UserException.class,
            () -> plan("llama-2-7b", "adapters=[{path: " + one + "}]"),
            "made for another shape");
    assertTrue(e.getMessage().contains("one"), e.getMessage());
    e =
        assertThrows(
            UserException.class,
            () -> plan("llama-2-7b", "method.forget=KGA", "method.retain=none"));
    assertTrue(e.getMessage().contains("views=[{name: forget"), e.getMessage());
    e =
        assertThrows(
            UserException.class,
            () ->
                plan(
                    "llama-3.2-1b",
                    "method.forget=GA",
                    "method.retain=none",
                    "train.full_parameters=true",
                    "adapters=[{path: " + one + "}]"));
    assertTrue(e.getMessage().contains("merge the adapters"), e.getMessage());
  }

  @Test
  void everyMethodCanBePlanned(@TempDir Path directory) {
    String one = adapter(directory.resolve("one"), 4);
    String views =
        Stream.of("forget", "new", "reinforced")
            .map(name -> "{name: " + name + ", path: " + one + "}")
            .collect(Collectors.joining(", ", "views=[", "]"));
    for (String forget : Methods.forgetNames()) {
      MemoryForecast plan =
          plan("llama-3.2-1b", "method.forget=" + forget, "method.retain=none", views);
      assertTrue(plan.piece() >= 128, forget);
    }
  }

  @Test
  void evaluationIsCountedAndHasRemedies() {
    String[] keys = {"dtype=bf16", "evaluate.batch_size=4", "evaluate.every=10 steps", ""};
    keys[3] = "evaluate.max_new_tokens=1000";
    MemoryForecast plan = plan("llama-3.2-1b", keys);
    long held = plan.phases().get("evaluation") - plan.parts().get("generating answers");
    long steps = plan.parts().get("activations") + plan.parts().get("head");
    long beside = plan.parts().get("generating answers between steps");
    assertTrue(beside > plan.parts().get("scoring rows between steps"), plan.toString());
    assertEquals(held + steps + beside, plan.phases().get("training"));
    // Keys and values of four prompts with their answers, and the activations of as many tokens.
    long cached = 4L * 1128 * 16 * 2 * 8 * 64 * 2;
    assertTrue(plan.parts().get("generating answers") > cached);
    keys[3] = "memory.budget=" + (held + steps + beside - 1) + "B";
    MemoryForecast cut = plan("llama-3.2-1b", keys[0], keys[1], keys[2], keys[3]);
    assertTrue(cut.fits(), cut.toString());
    String[] keep = {
      "dtype=bf16",
      "memory.activations=keep",
      "evaluate.every=10 steps",
      "evaluate.max_new_tokens=8000",
      "seed=0"
    };
    MemoryForecast free = plan("llama-3.2-1b", keep);
    keep[4] = "train.tokens_per_micro_batch=1";
    MemoryForecast small = plan("llama-3.2-1b", keep);
    assertTrue(small.peak() < free.peak());
    keep[4] = "memory.budget=4GB";
    MemoryForecast tooLong = plan("llama-3.2-1b", keep);
    assertFalse(tooLong.fits(), tooLong.toString());
    assertTrue(tooLong.remedies().contains("evaluate.max_new_tokens=16"), tooLong.toString());
    keep[3] = "evaluate.max_new_tokens=16";
    assertTrue(plan("llama-3.2-1b", keep).fits());
  }

  @Test
  void scratchMemoryOfADeviceIsCounted() {
    MemoryForecast plan = plan("llama-2-7b", "device=cuda:63", "dtype=bf16");
    long scratch = plan.parts().get("scratch memory of ops");
    // What decoding finds: 16 prompts, 32 heads of 16 rows, 8 rounds of 128 numbers and two sums.
    assertWithin(16L * 32 * 16 * 8 * 130 * 4, scratch);
    assertFalse(plan("llama-2-7b", "dtype=bf16").parts().containsKey("scratch memory of ops"));
  }

  @Test
  void whatCannotBePlannedIsRefused() {
    assertThrows(
        UserException.class, () -> Planning.plan(config(), Optional.empty(), Task.UNLEARN, 128));
    assertThrows(
        UserException.class,
        () ->
            Planning.plan(config("model=somewhere"), Optional.of("llama-2-7b"), Task.UNLEARN, 128));
    UserException e =
        assertThrows(
            UserException.class,
            () -> Planning.plan(config(), Optional.of("llama-2-7b"), Task.UNLEARN, 5000));
    assertTrue(e.getMessage().contains("--row-tokens is 5000"), e.getMessage());
  }
}
