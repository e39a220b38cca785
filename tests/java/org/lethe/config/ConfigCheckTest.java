package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** All that is wrong with a file, not just the first. */
class ConfigCheckTest {
  @TempDir Path directory;

  private Config.Checked<RunConfig> check(String yaml, String... overrides) throws IOException {
    Path file = Files.writeString(directory.resolve("run.yaml"), yaml);
    return Config.check(RunConfig.class, file, List.of(overrides));
  }

  private List<String> messages(Config.Checked<RunConfig> checked) {
    return checked.problems().stream()
        .map(p -> p.getMessage().replace(directory + "/", ""))
        .toList();
  }

  @Test
  void aGoodFileHasNoProblem() throws IOException {
    Config.Checked<RunConfig> checked = check("output: o\ntrain: {epochs: 2}\n", "seed=4");
    assertEquals(List.of(), checked.problems());
    assertEquals(2, checked.config().orElseThrow().train().epochs());
    assertEquals(4, checked.config().orElseThrow().seed());
  }

  @Test
  void everyProblemIsListedAndTheDefaultsGoOn() throws IOException {
    Config.Checked<RunConfig> checked =
        check(
            """
            output: o
            sead: 3
            dtype: fp64
            train:
              epochs: many
              batch_sice: 3
              steps: 7
            lora:
              rank: 0
            data:
              forget: [a.jsonl, 3]
            """,
            "threads=x",
            "broken");
    List<String> messages = messages(checked);
    assertEquals(8, messages.size(), messages.toString());
    assertTrue(messages.get(0).startsWith("override 'broken'"), messages.toString());
    for (String part :
        List.of(
            "run.yaml:2: unknown key sead; did you mean seed?",
            "run.yaml:3: dtype: expected one of fp32, bf16",
            "override 'threads=x': threads: expected a whole number",
            "run.yaml:5: train.epochs: expected a whole number",
            "run.yaml:6: unknown key train.batch_sice",
            "run.yaml:9: lora: rank must be from 1 to 65536",
            "run.yaml:11: data.forget[1]: expected a path")) {
      assertTrue(messages.stream().anyMatch(m -> m.startsWith(part)), part + " in " + messages);
    }
    RunConfig config = checked.config().orElseThrow();
    assertEquals(RunConfig.Dtype.FP32, config.dtype());
    assertEquals(5, config.train().epochs());
    assertEquals(7, config.train().steps());
    assertEquals(8, config.lora().rank());
    assertEquals(List.of(), config.data().forget());
  }

  @Test
  void withoutWhatMustBeGivenThereIsNoConfiguration() throws IOException {
    Config.Checked<RunConfig> missing = check("trian: {}\nmodel: m\n");
    assertTrue(missing.config().isEmpty());
    assertEquals(2, missing.problems().size(), messages(missing).toString());
    Config.Checked<RunConfig> both = check("output: o\nmodel: m\nscratch: {layers: 1}\n");
    assertTrue(both.config().isEmpty());
    assertTrue(messages(both).get(0).contains("exclude each other"), messages(both).toString());
    Config.Checked<RunConfig> broken = check("output: [\n");
    assertTrue(messages(broken).get(0).contains("not valid YAML"), messages(broken).toString());
  }
}
