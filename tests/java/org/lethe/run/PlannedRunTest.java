package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Corpus;
import org.lethe.data.corpus.Row;
import org.lethe.evaluate.Evaluation;
import org.lethe.kernels.Backend;

/** What is planned for a run, against all that the run takes of its device. */
class PlannedRunTest {
  @TempDir static Path shared;
  private static Path base;
  private static int rowTokens;

  @TempDir Path directory;

  /** Rows that are all the same are all as long as the longest. */
  @BeforeAll
  static void make() {
    Corpus corpus = Corpus.generate(1, 3);
    Row any = corpus.forget(0.3).get(0);
    Row row =
        new Row(any.question(), any.answer(), any.answer(), any.question(), List.of(any.answer()));
    for (String part : List.of("forget", "retain", "unseen")) {
      Corpus.writeRows(shared.resolve(part + ".jsonl"), Collections.nCopies(2, row));
    }
    BpeTrainer.train(corpus.texts(), 600).write(shared.resolve("tokenizer"));
    base = made("made", 32);
    fineTune("three", "model=" + base, "lora.rank=3");
    fineTune("two", "model=" + base, "lora.rank=2", "lora.targets=[q_proj,down_proj]");
    RunConfig config = Config.of(RunConfig.class, List.of("model=" + base, "output=unused"));
    try (LoadedModel loaded = LoadedModel.open(config)) {
      rowTokens = tokens(loaded, row, row.answer());
      // Other answers to the same question, as long.
      List<Row> others =
          Stream.of("!", "?", ";", ":", ",", "-", "x", "0")
              .map(end -> row.answer().substring(0, row.answer().length() - 1) + end)
              .filter(other -> tokens(loaded, row, other) == rowTokens)
              .map(other -> new Row(row.question(), other, other, row.question(), List.of(other)))
              .toList();
      assertTrue(others.size() >= 4, others.toString());
      Corpus.writeRows(shared.resolve("others.jsonl"), others);
    }
  }

  private static int tokens(LoadedModel loaded, Row row, String answer) {
    return loaded.encoder().encode(row.question(), answer, "a row").ids().length;
  }

  private static Path made(String name, int width) {
    fineTune(
        name,
        "scratch.hidden_size=" + width,
        "scratch.layers=2",
        "scratch.heads=4",
        "scratch.kv_heads=2",
        "scratch.feed_forward_size=72",
        "scratch.context_length=128",
        "scratch.tokenizer=" + shared.resolve("tokenizer"));
    return shared.resolve(name).resolve("model");
  }

  private static void fineTune(String output, String... keys) {
    Stream<String> common =
        Stream.of(
            "output=" + shared.resolve(output),
            "data.train=[" + shared.resolve("retain.jsonl") + "]",
            "threads=1",
            "train.steps=1");
    FineTune.run(
        Config.of(RunConfig.class, Stream.concat(common, Stream.of(keys)).toList()),
        RunListener.NONE);
  }

  private RunConfig config(String... keys) {
    Stream<String> common =
        Stream.of(
            "model=" + base,
            "output=" + directory.resolve("run"),
            "device=" + TestDevice.NAME,
            "threads=1",
            "data.forget=[" + shared.resolve("forget.jsonl") + "]",
            "data.retain=[" + shared.resolve("retain.jsonl") + "]",
            "data.unseen=[" + shared.resolve("unseen.jsonl") + "]",
            "train.shared_prefixes=off",
            "train.steps=1",
            "train.batch_size=2",
            "checkpoint.every=never",
            "evaluate.batch_size=1",
            "evaluate.max_new_tokens=1",
            "tensorboard=false",
            "lora.rank=5");
    return Config.of(RunConfig.class, Stream.concat(common, Stream.of(keys)).toList());
  }

  private static String adapter(String name) {
    return "path: " + shared.resolve(name).resolve("adapter");
  }

  /** What a run took: its buffers at most, and the engine's scratch memory. */
  private static final class Seen implements RunListener {
    private long loading;
    private long buffers;
    private long scratch;

    @Override
    public void opened(Backend backend) {
      loading = backend.mostAllocatedBytes();
    }

    @Override
    public void done(Backend backend) {
      buffers = backend.mostAllocatedBytes();
      scratch =
          TestDevice.isCpu() ? 0 : used(backend) - backend.allocatedBytes() - ofAnEmptyEngine();
    }

    private static long ofAnEmptyEngine() {
      try (Backend backend = TestDevice.open(1)) {
        long both = used(backend);
        try (Backend other = TestDevice.open(1)) {
          return used(other) - both;
        }
      }
    }

    private static long used(Backend backend) {
      Backend.Memory memory = backend.memory();
      return memory.total() - memory.free();
    }
  }

  private static MemoryForecast plan(RunConfig config) {
    return Planning.plan(config, Optional.empty(), Task.UNLEARN, rowTokens);
  }

  private static long scratch(MemoryForecast plan) {
    return plan.parts().getOrDefault("scratch memory of ops", 0L);
  }

  /** Without loading, which is the most of the memory of a model so small. */
  private static long buffers(MemoryForecast plan) {
    return Math.max(plan.phases().get("training"), plan.phases().get("evaluation"))
        - plan.parts().get("libraries")
        - scratch(plan);
  }

  static List<List<String>> runs() {
    String frozen = "adapters=[{%s, coefficient: 0.5}, {%s, coefficient: -1}]";
    String views = "views=[{name: forget, %s}, {name: new, %s}]";
    return List.of(
        List.of("method.forget=NPO"),
        List.of("method.retain=KL", "dtype=bf16"),
        List.of("lora.dropout=0.5", "train.tokens_per_micro_batch=1"),
        List.of("evaluate.every=1 steps", "memory.activations=recompute"),
        List.of("train.graphs=auto", "train.steps=3"),
        List.of("train.graphs=auto", "train.steps=3", "evaluate.every=1 steps", "dtype=bf16"),
        List.of(
            "method.forget=NPO",
            "method.retain=KL",
            frozen.formatted(adapter("three"), adapter("two"))),
        List.of(
            "method.forget=KGA",
            "method.retain=none",
            views.formatted(adapter("three"), adapter("two"))),
        // More than a forget and a retain row of a pair, in pieces of all and of one group.
        List.of("data.retain_per_forget=3"),
        List.of("data.retain_per_forget=2", "train.tokens_per_micro_batch=1", "method.forget=NPO"),
        List.of(
            "method.forget=LLMU",
            "method.retain=none",
            "data.mismatch=[" + shared.resolve("others.jsonl") + "]",
            "data.mismatches=3"),
        List.of("lora.start=continue", "adapter=" + shared.resolve("three/adapter")));
  }

  /** Before the first step, on as many rows as one may have, or as there is room for. */
  @Test
  void measuringTheHeadIsPlanned() {
    assumeFalse(TestDevice.isCpu());
    String views = "views=[{name: forget, %s}, {name: new, %s}]";
    String[] keys = {
      "train.head_chunk=-1",
      // Half of what that takes is more than weights pass through.
      "train.tokens_per_micro_batch=8192",
      views.formatted(adapter("three"), adapter("two")),
      "seed=0"
    };
    MemoryForecast free = plan(config(keys));
    long measured = free.parts().get("head that is measured");
    assertEquals(measuring(free), measured(config(keys)));
    long budget = free.phases().get("measuring") - measured / 2;
    keys[3] = "memory.budget=" + budget + "B";
    MemoryForecast plan = plan(config(keys));
    long less = plan.parts().get("head that is measured");
    assertTrue(less < measured && plan.phases().get("measuring") <= budget, plan.toString());
    long seen = measured(config(keys));
    assertTrue(seen < measuring(free), seen + " as without a budget");
    assertTrue(seen + plan.parts().get("libraries") <= budget, seen + " of " + plan);
    // Whatever is chosen: the step's own workspace bounds it.
    whatIsPlannedIsTaken(List.of(keys[0], "train.tokens_per_micro_batch=40"));
  }

  private static long measuring(MemoryForecast plan) {
    return plan.phases().get("measuring") - plan.parts().get("libraries") - scratch(plan);
  }

  /** Bytes of buffers that there are at most while the head is measured. */
  private static long measured(RunConfig config) {
    try (LoadedModel loaded = LoadedModel.openToTrain(config)) {
      loaded.backend().mostAllocatedBytes();
      HeadTuning.settle(config, loaded.model());
      return loaded.backend().mostAllocatedBytes();
    }
  }

  @ParameterizedTest
  @MethodSource("runs")
  void whatIsPlannedIsTaken(List<String> keys) {
    RunConfig config = config(keys.toArray(String[]::new));
    MemoryForecast plan = plan(config);
    Seen seen = new Seen();
    Unlearn.run(config, null, seen);
    // One prompt is answered at a time, so that scoring, of which all is known, takes more.
    assertEquals(seen.buffers, buffers(plan), plan.toString());
    long loading = plan.phases().get("loading") - plan.parts().get("libraries");
    // With the scratch memory that loading itself needs.
    long frozen = plan.parts().getOrDefault("frozen adapters", 0L);
    assertTrue(seen.loading <= loading + frozen, seen.loading + " of " + plan);
    assertTrue(seen.scratch <= scratch(plan), seen.scratch + " of " + plan);
    if (keys.contains("train.graphs=auto")) {
      // Taken at once, since graphs would hold what was outgrown.
      assertEquals(seen.scratch, scratch(plan), plan.toString());
    }
  }

  @Test
  void aRunKeepsWithinItsBudgetWithEvaluationBetweenSteps() {
    // Wide enough that steps and evaluation take more than loading.
    Path wide = made("wide", 192);
    String[] keys = {"model=" + wide, "evaluate.every=1 steps", "evaluate.batch_size=2", "seed=0"};
    MemoryForecast free = plan(config(keys));
    long budget = free.peak() - free.parts().get("scoring rows between steps") / 2;
    assertTrue(budget > free.phases().get("loading"), free.toString());
    keys[3] = "memory.budget=" + budget + "B";
    RunConfig config = config(keys);
    MemoryForecast plan = plan(config);
    assertTrue(plan.fits() && plan.peak() < free.peak(), plan.toString());
    Seen seen = new Seen();
    Unlearn.Result result = Unlearn.run(config, null, seen);
    assertEquals(1, result.steps().size());
    long overhead = plan.parts().get("libraries");
    assertTrue(seen.buffers + seen.scratch + overhead <= budget, seen.buffers + " of " + plan);
    // What was said of the model does not depend on how many rows were asked at a time.
    Evaluation before = Evaluate.run(config("model=" + wide), RunListener.NONE).evaluation();
    assertEquals(before.byName(), result.before().byName());
  }

  /** A budget that a plan says is too little for loading is too little for the run, too. */
  @Test
  void whatCannotBeLoadedIsRefusedByPlanAndRun() {
    String[] keys = {"memory.activations=recompute", "evaluate.batch_size=1", "seed=0"};
    MemoryForecast free = plan(config(keys));
    long loading = free.phases().get("loading");
    // Of a model so small what weights pass through is more than a step.
    assertEquals(loading, free.peak(), free.toString());
    keys[2] = "memory.budget=" + (loading - 1) + "B";
    RunConfig config = config(keys);
    assertFalse(plan(config).fits());
    Seen seen = new Seen();
    UserException e = assertThrows(UserException.class, () -> Unlearn.run(config, null, seen));
    for (String part : List.of("too little to load the model", "weights", "dtype=bf16 frees")) {
      assertTrue(e.getMessage().contains(part), part + " in: " + e.getMessage());
    }
    assertEquals(0, seen.loading);
    keys[2] = "memory.budget=" + loading + "B";
    assertTrue(plan(config(keys)).fits());
    assertEquals(1, Unlearn.run(config(keys), null, seen).steps().size());
  }

  @Test
  void whatCannotBeEvaluatedIsRefusedBeforeAStep() {
    // Adapters that take more than weights pass through.
    MemoryForecast free = plan(config("lora.rank=400"));
    long held = free.phases().get("evaluation") - free.parts().get("scoring rows");
    String budget = "memory.budget=" + (held + 10_000) + "B";
    RunConfig config = config("lora.rank=400", "evaluate.max_new_tokens=100", budget);
    MemoryForecast plan = plan(config);
    assertFalse(plan.fits(), plan.toString());
    Seen seen = new Seen();
    UserException e = assertThrows(UserException.class, () -> Unlearn.run(config, null, seen));
    for (String part :
        List.of(
            "memory.budget is",
            "too little to evaluate the model",
            "scoring a row of " + rowTokens + " tokens",
            "generating one answer",
            "what helps: memory.budget=")) {
      assertTrue(e.getMessage().contains(part), part + " in: " + e.getMessage());
    }
    // An answer is longer than a row, and its u is wide.
    assertTrue(e.getMessage().contains("evaluate.max_new_tokens=1 frees"), e.getMessage());
    assertFalse(Files.exists(config.output().resolve("adapter")));
  }
}
