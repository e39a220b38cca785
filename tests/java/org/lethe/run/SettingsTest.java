package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.DataConfig;
import org.lethe.config.EvaluateSection;
import org.lethe.config.MethodSection;
import org.lethe.config.ParitySection;
import org.lethe.config.RunConfig;
import org.lethe.config.TrainConfig;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Pairing;
import org.lethe.data.Refusals;
import org.lethe.method.EntropyDirection;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.Use;
import org.lethe.metric.Definitions;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;
import org.lethe.model.OptimizerConfig;
import org.lethe.train.Padding;
import org.lethe.train.Parity;
import org.lethe.train.Schedule;
import org.lethe.train.TrainSettings;

class SettingsTest {
  private static RunConfig config(String... overrides) {
    List<String> all = new ArrayList<>(List.of("model=m", "output=o"));
    all.addAll(Arrays.asList(overrides));
    return Config.of(RunConfig.class, all);
  }

  private static void assertSameNames(Class<? extends Enum<?>> a, Class<? extends Enum<?>> b) {
    assertEquals(names(a), names(b), a + " and " + b);
  }

  private static List<String> names(Class<? extends Enum<?>> type) {
    return Arrays.stream(type.getEnumConstants()).map(Enum::name).toList();
  }

  @Test
  void stepsAndWarmUpBeyondAllNumbersAreRefused() {
    for (String override :
        List.of(
            "train.epochs=2147483647",
            "train.epochs=500001",
            "train.warmup_epochs=4294967296",
            "train.warmup_epochs=1e300")) {
      TrainConfig train = config(override).train();
      UserException e = assertThrows(UserException.class, () -> Settings.train(train, 2));
      String key = override.startsWith("train.epochs") ? "train.epochs" : "train.warmup_epochs";
      assertTrue(e.getMessage().contains(key), e.getMessage());
    }
  }

  /** All of them are looked at before the first. */
  @Test
  void aRunHasAtMostAMillionSteps() {
    assertEquals(1_000_000, Settings.train(config("train.steps=1000000").train(), 2).steps());
    assertEquals(1_000_000, Settings.train(config("train.epochs=500000").train(), 2).steps());
    for (int steps : new int[] {1_000_001, Integer.MAX_VALUE}) {
      TrainConfig train = config("train.steps=" + steps).train();
      UserException e = assertThrows(UserException.class, () -> Settings.train(train, 2));
      assertTrue(e.getMessage().contains("more than 1000000"), e.getMessage());
      assertTrue(e.getMessage().startsWith("train.steps=" + steps), e.getMessage());
    }
  }

  @Test
  void enumsOfTheConfigurationAreTheEngines() {
    assertSameNames(TrainConfig.Schedule.class, Schedule.class);
    assertSameNames(TrainConfig.OnNonFinite.class, TrainSettings.OnNonFinite.class);
    assertSameNames(TrainConfig.SharedPrefixes.class, TrainSettings.SharedPrefixes.class);
    assertSameNames(MethodSection.Positions.class, Positions.class);
    assertSameNames(MethodSection.MeDirection.class, EntropyDirection.class);
    assertSameNames(DataConfig.PairingMode.class, Pairing.Kind.class);
    assertSameNames(DataConfig.Tokenization.class, ExampleEncoder.Border.class);
    assertSameNames(ParitySection.Padding.class, Padding.Kind.class);
    assertSameNames(EvaluateSection.Definitions.class, Definitions.class);
    assertSameNames(DataConfig.Truncation.class, ExampleEncoder.LongSequence.class);
    assertSameNames(TrainConfig.Master.class, OptimizerConfig.Master.class);
    assertSameNames(TrainConfig.OptimizerState.class, OptimizerConfig.Moments.class);
  }

  @Test
  void quirksAreOffUntilTheyAreAskedFor() {
    assertEquals(Parity.NONE, Settings.parity(config().parity(), 2));
    RunConfig c =
        config(
            "parity.padding=closer_look", "parity.padded_length=500", "parity.micro_batch_rows=4");
    Padding padding = new Padding(Padding.Kind.CLOSER_LOOK, 500, 2);
    assertEquals(new Parity(4, padding), Settings.parity(c.parity(), 2));
    c = config("parity.padding=open_unlearning", "parity.padding_token=0");
    padding = new Padding(Padding.Kind.OPEN_UNLEARNING, 0, 0);
    assertEquals(new Parity(0, padding), Settings.parity(c.parity(), 2));
    UserException e = assertThrows(UserException.class, () -> config("parity.padding=closer_look"));
    assertTrue(e.getMessage().contains("padded_length"), e.getMessage());
  }

  @Test
  void allThatYamlCallsTrueIsTrue() {
    for (String yes : List.of("true", "True", "yes", "on", "ON")) {
      assertTrue(config("train.full_parameters=" + yes).train().fullParameters(), yes);
    }
    for (String no : List.of("false", "no", "off", "Off")) {
      assertFalse(config("train.full_parameters=" + no).train().fullParameters(), no);
    }
  }

  @Test
  void everyConstantGoesThrough() {
    for (Schedule schedule : Schedule.values()) {
      RunConfig c = config("train.schedule=" + schedule.name().toLowerCase(Locale.ROOT));
      assertEquals(schedule, Settings.train(c.train(), 1).schedule());
    }
    for (TrainSettings.OnNonFinite answer : TrainSettings.OnNonFinite.values()) {
      RunConfig c = config("train.on_non_finite=" + answer);
      assertEquals(answer, Settings.train(c.train(), 1).onNonFinite());
    }
    for (TrainSettings.SharedPrefixes shared : TrainSettings.SharedPrefixes.values()) {
      RunConfig c = config("train.shared_prefixes=" + shared.name().toLowerCase(Locale.ROOT));
      assertEquals(shared, Settings.train(c.train(), 1).sharedPrefixes());
    }
    for (Pairing.Kind kind : Pairing.Kind.values()) {
      assertEquals(kind, Settings.pairing(config("data.pairing=" + kind).data()));
    }
    for (Positions positions : List.of(Positions.ANSWER, Positions.ALL, Positions.SPANS)) {
      for (String forget : List.of("GA", "NPO", "DPO", "IDK", "ME")) {
        RunConfig c =
            config(
                "method.forget=" + forget,
                "method.retain=GD",
                "method.forget_positions=" + positions,
                "method.retain_positions=" + positions);
        for (Use use : Settings.method(c.method()).uses()) {
          assertEquals(positions, use.positions(), forget);
        }
      }
    }
    Method forward = Settings.method(config("method.forget=ME").method());
    Method reverse = Settings.method(config("method.me_direction=model_to_uniform").method());
    assertTrue(!forward.uses().equals(reverse.uses()));
  }

  @Test
  void trainingNumbersGoThrough() {
    RunConfig c =
        config(
            "train.steps=7",
            "train.learning_rate=2e-4",
            "train.warmup_steps=3",
            "train.adam_beta1=0.8",
            "train.adam_beta2=0.95",
            "train.adam_eps=1e-6",
            "train.weight_decay=0.1",
            "train.max_gradient_norm=2.5",
            "train.tokens_per_micro_batch=99");
    assertEquals(
        new TrainSettings(
            7,
            2e-4,
            Schedule.CONSTANT,
            3,
            0.8,
            0.95,
            1e-6,
            0.1,
            2.5,
            99,
            TrainSettings.OnNonFinite.STOP),
        Settings.train(c.train(), 1000));
    assertEquals(12, Settings.train(config("train.epochs=4", "train.steps=0").train(), 3).steps());
    assertThrows(
        UserException.class, () -> Settings.train(config("train.epochs=2000000000").train(), 2));
  }

  @Test
  void theOptimizerGoesThrough() {
    assertEquals(OptimizerConfig.DEFAULT, Settings.optimizer(config().train()));
    RunConfig c =
        config(
            "dtype=bf16",
            "train.master=none",
            "train.optimizer_state=8bit",
            "train.fused_update=true",
            "train.warmup_steps=50");
    assertEquals(
        new OptimizerConfig(OptimizerConfig.Master.NONE, OptimizerConfig.Moments.EIGHT_BIT, true),
        Settings.optimizer(c.train()));
    Settings.requireOptimizer(c, true);
    assertRefused("set train.full_parameters=true", c, false);
    assertRefused("set dtype=bf16", config("train.master=none"), true);
    assertRefused("or train.shards=1", config("train.fused_update=true", "train.shards=2"), true);
    assertRefused(
        "or parity.micro_batch_rows=0",
        config("train.fused_update=true", "parity.micro_batch_rows=2"),
        true);
    assertRefused(
        "set train.max_gradient_norm above 0",
        config("train.fused_update=true", "train.max_gradient_norm=0", "train.on_non_finite=skip"),
        true);
    UserException e =
        assertThrows(UserException.class, () -> config("train.optimizer_state=eight_bit"));
    assertTrue(e.getMessage().contains("one of fp32, 8bit"), e.getMessage());
  }

  private static void assertRefused(String remedy, RunConfig config, boolean all) {
    UserException e =
        assertThrows(UserException.class, () -> Settings.requireOptimizer(config, all));
    assertTrue(e.getMessage().contains(remedy), e.getMessage());
  }

  @Test
  void methodNumbersGoThrough() {
    Method m =
        Settings.method(
            config(
                    "method.forget=npo",
                    "method.retain=ap",
                    "method.forget_coefficient=0.25",
                    "method.retain_coefficient=3",
                    "method.forget_beta=0.7",
                    "method.retain_beta=0.3")
                .method());
    assertEquals("NPO+AP", m.name());
    assertEquals(0.25, m.losses().get(0).weight());
    assertEquals(3, m.losses().get(1).weight());
    assertEquals(2 / 0.7, m.losses().get(0).loss().scale());
    assertEquals(1 / 0.3, m.losses().get(1).loss().scale());
  }

  @Test
  void optionsOfALossGoThrough(@TempDir Path directory) throws IOException {
    Path file = directory.resolve("run.yaml");
    Files.writeString(
        file,
        """
        output: o
        method:
          forget: npo
          forget_options:
            beta: 0.7
            positions: all
        """);
    RunConfig config = Config.load(RunConfig.class, file, List.of());
    Method m = Settings.method(config.method());
    assertEquals(2 / 0.7, m.losses().get(0).loss().scale());
    assertEquals(Positions.ALL, m.uses().get(0).positions());
    RunConfig again =
        Config.of(RunConfig.class, List.of("output=o", "method.forget_options.beta=1e1"));
    assertEquals("1e1", again.method().forgetOptions().get("beta").text());
    Files.writeString(file, Config.toYaml(config));
    assertEquals(config, Config.load(RunConfig.class, file, List.of()));
    refused(file, "forget_options.beta and method.forget_beta", "method.forget_beta=0.1");
    refused(file, "method.forget_options.beta is 0", "method.forget_options.beta=0");
    refused(file, "GA has no such option", "method.forget=GA");
    refused(file, "expected a text or a number, found a list", "method.forget_options.beta=[1]");
  }

  private static void refused(Path file, String part, String... overrides) {
    String message =
        assertThrows(
                UserException.class,
                () ->
                    Settings.method(
                        Config.load(RunConfig.class, file, List.of(overrides)).method()))
            .getMessage();
    assertTrue(message.contains(part), message);
  }

  @Test
  void adaptersGoOnEveryLinearUnlessNamed() {
    assertEquals(LoraConfig.all(8, 16), Settings.lora(config().lora()));
    assertEquals(
        new LoraConfig(3, 5, List.of("v_proj", "q_proj")),
        Settings.lora(
            config("lora.rank=3", "lora.alpha=5", "lora.targets=[v_proj, q_proj]").lora()));
  }

  @Test
  void everyKeyOfLoraReachesTheAdapters() {
    LoraConfig c =
        Settings.lora(
            config(
                    "lora.rslora=true",
                    "lora.dropout=0.25",
                    "lora.exclude=[up_proj]",
                    "lora.layers=[0, 3]",
                    "lora.rank_pattern.v_proj=2",
                    "lora.alpha_pattern.down_proj=1.5")
                .lora());
    assertEquals(
        new LoraConfig(
            8,
            16,
            true,
            0.25,
            new LoraTargets(
                List.of(),
                Optional.empty(),
                List.of("up_proj"),
                Optional.empty(),
                List.of(0, 3),
                List.of()),
            Map.of("v_proj", 2),
            Map.of("down_proj", 1.5)),
        c);
    assertEquals(
        LoraTargets.matching(".*[qv]_proj"),
        Settings.lora(config("lora.target_regex='.*[qv]_proj'").lora()).targets());
  }

  @Test
  void filesAreReadOneAfterTheOther(@TempDir Path directory) throws IOException {
    Path a = directory.resolve("a.jsonl");
    Path b = directory.resolve("b.jsonl");
    Files.writeString(a, "{\"question\": \"1\", \"answer\": \"x\"}\n");
    Files.writeString(b, "{\"question\": \"2\", \"answer\": \"y\"}\n");
    List<Example> rows = Settings.read(List.of(b, a));
    assertEquals(List.of("2", "1"), rows.stream().map(Example::question).toList());
    assertEquals(b + ":1", rows.get(0).source());
    assertEquals(List.of(), Settings.read(List.of()));
    assertThrows(UserException.class, () -> Settings.read(List.of(directory.resolve("c.jsonl"))));
  }

  @Test
  void refusalsAreLethesOwnUnlessGiven(@TempDir Path directory) throws IOException {
    assertEquals(Refusals.lines(), Settings.refusals(config()));
    Path file = directory.resolve("refusals.txt");
    Files.writeString(file, "  No idea.\n\nÜber mich kein Wort.\n");
    assertEquals(
        List.of("No idea.", "Über mich kein Wort."),
        Settings.refusals(config("data.refusals=" + file)));
  }
}
