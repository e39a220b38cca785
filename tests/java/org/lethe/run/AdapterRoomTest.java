package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.TestDevice;
import org.lethe.checkpoint.AdapterDirectory;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Corpus;
import org.lethe.engine.Engine;
import org.lethe.engine.LanguageModel;
import org.lethe.engine.LoadOptions;
import org.lethe.engine.Training;
import org.lethe.kernels.Dtype;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.AdapterRoom;
import org.lethe.model.BaseStorage;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.SpareRule;
import org.lethe.model.WeightPlacement;
import org.lethe.train.Schedule;
import org.lethe.train.TrainSettings;

/**
 * What a run knows of its adapters before it loads the weights: all of them get room, where the
 * device wants any.
 */
class AdapterRoomTest {
  private static final boolean AUGMENTED =
      !TestDevice.isCpu() && "augmented".equals(System.getenv("LETHE_LORA_FORM"));
  private static final LoraConfig OWN = LoraConfig.all(5, 8);

  @TempDir static Path shared;
  private static Path base;
  private static Path adapter;

  @TempDir Path directory;

  @BeforeAll
  static void make() {
    Corpus corpus = Corpus.generate(1, 3);
    Corpus.writeRows(shared.resolve("forget.jsonl"), corpus.forget(0.3).subList(0, 2));
    Corpus.writeRows(shared.resolve("retain.jsonl"), corpus.retain(0.3).subList(0, 2));
    BpeTrainer.train(corpus.texts(), 300).write(shared.resolve("tokenizer"));
    List<String> rows = List.of("threads=1", "data.train=[" + shared.resolve("retain.jsonl") + "]");
    base = shared.resolve("made/model");
    fineTune(
        rows,
        "output=" + shared.resolve("made"),
        "scratch.hidden_size=16",
        "scratch.layers=1",
        "scratch.heads=2",
        "scratch.kv_heads=1",
        "scratch.feed_forward_size=40",
        "scratch.context_length=128",
        "scratch.tokenizer=" + shared.resolve("tokenizer"),
        "train.steps=2");
    adapter = shared.resolve("tuned/adapter");
    fineTune(rows, "output=" + shared.resolve("tuned"), "model=" + base, "train.steps=2");
  }

  private static void fineTune(List<String> rows, String... keys) {
    List<String> all = Stream.concat(rows.stream(), Stream.of(keys)).toList();
    FineTune.run(Config.of(RunConfig.class, all), RunListener.NONE);
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
            "evaluate.max_new_tokens=4",
            "lora.rank=5",
            "lora.alpha=8",
            "train.steps=1");
    return Config.of(RunConfig.class, Stream.concat(common, Stream.of(keys)).toList());
  }

  private static void assertRoom(LoadedModel opened, LoraConfig... adapters) {
    try (LoadedModel loaded = opened) {
      Model model = loaded.model();
      SpareRule rule = SpareRule.of(model.ops());
      AdapterRoom room = AdapterRoom.of(rule, model.config(), List.of(adapters));
      assertEquals(
          Model.bytes(model.config(), Dtype.F32, WeightPlacement.PLAIN, room), model.bytes());
      long packed = Model.bytes(model.config(), Dtype.F32);
      assertEquals(AUGMENTED && adapters.length > 0, model.bytes() > packed);
    }
  }

  @Test
  void everyAdapterOfARunGetsRoom() {
    LoraConfig given = AdapterDirectory.config(adapter);
    String[] named = {
      "adapters=[{path: " + adapter + ", coefficient: 0.5}]",
      "views=[{name: other, path: " + adapter + "}]"
    };
    assertRoom(LoadedModel.open(config()));
    assertRoom(LoadedModel.openToTrain(config()), OWN);
    assertRoom(LoadedModel.open(config(named)), given, given);
    assertRoom(LoadedModel.open(config(named), List.of(OWN)), given, given, OWN);
    assertRoom(LoadedModel.openToTrain(config(named)), given, given, OWN);
    assertRoom(LoadedModel.open(config("adapter=" + adapter)), given);
    RunConfig goesOn = config("adapter=" + adapter, "lora.start=continue");
    assertRoom(LoadedModel.openToTrain(goesOn), given);
    assertRoom(LoadedModel.openToTrain(config("train.full_parameters=true")));
  }

  @Test
  void aPlanCountsIt() {
    RunConfig config = config();
    MemoryForecast plan = Planning.plan(config, Optional.empty(), Task.UNLEARN, 64);
    Long room = plan.parts().get("room for adapters beside weights");
    assertEquals(AUGMENTED, room != null);
    try (LoadedModel loaded = LoadedModel.openToTrain(config)) {
      long weights = plan.parts().get("weights") + (room == null ? 0 : room);
      assertEquals(loaded.model().bytes(), weights);
    }
  }

  /** What the documents say of a model of seven billion parameters. */
  @Test
  void theRoomOfSevenBillionParametersIsWhatIsSaid() {
    ModelConfig sizes = Shapes.of("llama-2-7b");
    SpareRule rule = SpareRule.cuda("augmented");
    AdapterRoom room = AdapterRoom.of(rule, sizes, List.of(LoraConfig.all(16, 32)));
    // Columns: 48 for q, k, v, 32 for gate and up; 16 rows for down.
    long ranks = 3 * 4096 * 48L + 2 * 11008 * 32L + 16 * 11008L;
    Map<BaseStorage, Long> said =
        Map.of(
            BaseStorage.PLAIN, 32 * ranks * Short.BYTES,
            BaseStorage.NF4, 2 * 11008 * 32L * Short.BYTES);
    said.forEach(
        (storage, bytes) ->
            assertEquals(
                bytes,
                Model.bytes(sizes, Dtype.BF16, WeightPlacement.of(storage), room)
                    - Model.bytes(sizes, Dtype.BF16, WeightPlacement.of(storage))));
    assertEquals(94, said.get(BaseStorage.PLAIN) / 1_000_000);
  }

  @Test
  void aRunFromAdaptersTrainsAndIsJudged() {
    RunConfig config =
        config(
            "adapters=[{path: " + adapter + ", coefficient: 0.5}]",
            "method.forget=NPO",
            "method.retain=KL");
    Unlearn.Result result = Unlearn.run(config, null, RunListener.NONE);
    assertEquals(1, result.steps().size());
    Path trained = config.output().resolve("adapter");
    assertTrue(Files.exists(trained.resolve("adapter_model.safetensors")));
    Evaluate.Result again =
        Evaluate.run(
            config("adapters=[{path: " + adapter + ", coefficient: 0.5}]", "adapter=" + trained),
            RunListener.NONE);
    assertEquals(result.after().byName(), again.evaluation().byName());
  }

  @Test
  void anEmbeddedModelIsLoadedForItsAdapters() {
    LoadOptions options = LoadOptions.DEFAULT.withContextLength(64).withAdapters(OWN);
    try (Engine engine = Engine.open(TestDevice.NAME, 1);
        LanguageModel model = engine.load(base, options)) {
      long used = engine.allocatedBytes();
      assertEquals(engine.predictedBytes(base, options), used);
      assertEquals(AUGMENTED, used > LanguageModel.predictedBytes(base, options));
      try (Training training =
          model
              .unlearn(Methods.create(MethodConfig.of("NPO+GD")), rows("forget"), rows("retain"))
              .adapter(OWN)
              .batchSize(2)
              .settings(TrainSettings.of(2, 1e-2, Schedule.CONSTANT, 0))
              .build()) {
        double before = training.next().orElseThrow().loss();
        assertTrue(training.next().orElseThrow().loss() < before);
      }
      assertTrue(
          model.evaluate(Map.of("forget", rows("forget")), 2).score("forget", "probability") > 0);
    }
  }

  private static List<Example> rows(String name) {
    return Jsonl.read(shared.resolve(name + ".jsonl"));
  }
}
