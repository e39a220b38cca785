package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.lethe.internal.cli.Outcome.run;
import static org.lethe.internal.cli.Outcome.succeed;
import static org.lethe.internal.cli.TinyRuns.with;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.model.Goldens;

/** The verbs around a run: what they print for people and for scripts, and how they end. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class VerbsTest {
  private TinyRuns runs;
  private Path root;

  @BeforeAll
  void train(@TempDir Path directory) {
    root = directory;
    runs = new TinyRuns(directory).fineTuned();
    assertEquals(0, run(runs.unlearn("forgot", "ME+GD", "train.learning_rate=1e-2")).code());
  }

  private String path(String name) {
    return root.resolve(name).toString();
  }

  @Test
  void everyVerbHasHelpWithAnExample() {
    String help = succeed("--help").out();
    List<String> verbs =
        help.lines()
            .dropWhile(l -> !l.equals("Commands:"))
            .takeWhile(l -> !l.isBlank())
            .filter(l -> l.matches("  [a-z].*"))
            .map(l -> l.strip().split(" ", 2)[0])
            .toList();
    assertTrue(verbs.size() >= 15, verbs.toString());
    for (String verb : verbs) {
      String text = succeed(verb, "--help").out();
      assertTrue(text.matches("(?s).*Examples?: lethe " + verb + "\\b.*"), text);
    }
  }

  @Test
  void inspectTellsKindsByThemselves() {
    JsonNode model = succeed("inspect", runs.model().toString(), "--json").json();
    assertEquals("model", model.path("kind").asText());
    assertEquals(700, model.path("tokenizer").path("vocabulary").asInt());
    assertEquals(11, model.path("tensor_count").asInt());
    // Embedding 700·32; q, o 32·32; k, v 16·32; three of 64·32; three norms of 32.
    assertEquals(22400 + 2048 + 1024 + 6144 + 96, model.path("parameters").asLong());
    assertEquals(4 * model.path("parameters").asLong(), model.path("tensor_bytes").asLong());
    assertEquals(11, model.path("dtypes").path("F32").asInt());

    JsonNode adapter = succeed("inspect", path("forgot/adapter"), "--json", "--tensors").json();
    assertEquals("adapter", adapter.path("kind").asText());
    assertEquals(2, adapter.path("rank").asInt());
    assertEquals(8.0, adapter.path("scale").asDouble());
    assertEquals(14, adapter.path("tensors").size());
    assertEquals(7, adapter.path("norms").size());
    assertTrue(adapter.at("/norms/0/norm_delta").asDouble() > 0);

    JsonNode run = succeed("inspect", path("forgot"), "--json").json();
    assertEquals("run", run.path("kind").asText());
    assertEquals(4, run.path("steps").asInt());
    assertTrue(run.path("finished").asBoolean());
    assertEquals(3, run.at("/last/step").asInt());
    assertEquals("2", run.at("/config/lora.rank").asText());
    assertFalse(run.path("config").has("lora.alpha"), run.toString());

    Outcome file = succeed("inspect", path("tuned/model/model.safetensors"));
    assertTrue(file.out().startsWith("kind          safetensors\n"), file.out());
    assertTrue(file.out().contains("model.layers.*.mlp.up_proj.weight"), file.out());

    Outcome nothing = run("inspect", path("data"));
    assertEquals(2, nothing.code());
    assertTrue(nothing.err().contains("config.json"), nothing.err());
    assertEquals(2, run("inspect", path("nowhere")).code());
  }

  @Test
  void theNormOfAnAdaptersProductIsThatOfThePlainProduct() {
    JsonNode adapter =
        succeed("inspect", Goldens.path("llama-tiny/adapter").toString(), "--json", "--tensors")
            .json();
    String module = "model.layers.0.mlp.up_proj";
    try (SafetensorsFile file =
        SafetensorsFile.open(Goldens.path("llama-tiny/adapter/adapter_model.safetensors"))) {
      float[] a = Goldens.floats(file, "base_model.model." + module + ".lora_A.weight");
      float[] b = Goldens.floats(file, "base_model.model." + module + ".lora_B.weight");
      double sum = 0;
      for (int i = 0; i < 56; i++) {
        for (int j = 0; j < 32; j++) {
          double product = 0;
          for (int k = 0; k < 4; k++) {
            product += (double) b[i * 4 + k] * a[k * 32 + j];
          }
          sum += 4 * product * product;
        }
      }
      for (JsonNode row : adapter.path("norms")) {
        if (row.path("module").asText().equals(module)) {
          assertEquals(Math.sqrt(sum), row.path("norm_delta").asDouble(), 1e-9 * Math.sqrt(sum));
          assertEquals(Goldens.norm(a), row.path("norm_a").asDouble(), 1e-9);
          return;
        }
      }
    }
    throw new AssertionError(adapter.toString());
  }

  @Test
  void mergedAndExportedModelsAreJudgedAlike() throws IOException {
    String adapter = "adapter=" + path("forgot/adapter");
    JsonNode merged =
        succeed("merge", "model=" + runs.model(), adapter, "output=" + path("merged"), "--json")
            .json();
    assertEquals(1, merged.path("delta_survives").asDouble(), 1e-3);
    assertEquals(1, merged.path("files").asInt());
    assertArrayEquals(
        Files.readAllBytes(runs.model().resolve("tokenizer.json")),
        Files.readAllBytes(root.resolve("merged/tokenizer.json")));
    JsonNode apart =
        succeed(with(List.of(runs.evaluate("judged-apart", adapter)), "--json")).json();
    JsonNode whole =
        succeed(with(List.of(runs.evaluate("judged-merged", "model=" + path("merged"))), "--json"))
            .json();
    double expected = apart.at("/sets/forget/probability").asDouble();
    assertTrue(expected > 0);
    // Sums of fp32 in another order, over some ten tokens a row.
    assertEquals(expected, whole.at("/sets/forget/probability").asDouble(), 1e-4 * expected);
    assertEquals(path("judged-merged"), whole.path("output").asText());
    assertTrue(whole.path("model_utility").isNumber(), whole.toString());

    Outcome text =
        succeed(
            "export",
            "model=" + path("merged"),
            "output=" + path("narrow"),
            "--dtype",
            "BF16",
            "--max-shard-size",
            "20KB");
    assertTrue(text.out().contains("bytes in 2 files"), text.out());
    assertEquals("2", succeed("inspect", path("narrow"), "--json").json().path("files").asText());
    succeed(runs.evaluate("judged-narrow", "model=" + path("narrow"), "dtype=bf16"));

    Outcome quantised =
        succeed("export", "model=" + path("merged"), "output=" + path("nf4"), "--quantize", "NF4");
    assertTrue(quantised.out().contains("bytes in 1 file"), quantised.out());
    succeed(runs.evaluate("judged-nf4", "model=" + path("nf4")));
    succeed(runs.unlearn("forgot-nf4", "ME+GD", "model=" + path("nf4")));

    succeed("export", "from=" + path("forgot"), "output=" + path("for-peft"));
    assertArrayEquals(
        Files.readAllBytes(root.resolve("forgot/adapter/adapter_model.safetensors")),
        Files.readAllBytes(root.resolve("for-peft/adapter_model.safetensors")));
  }

  @Test
  void theLastCheckpointHoldsTheAdapterThatTheRunWrote() throws IOException {
    succeed(runs.unlearn("kept", "ME+GD", "checkpoint.every=2 steps"));
    String checkpoint = path("kept/checkpoints/step-000000004");
    JsonNode json = succeed("inspect", checkpoint, "--json").json();
    assertEquals("checkpoint", json.path("kind").asText());
    assertTrue(json.path("verified").asBoolean(), json.toString());
    assertEquals(4, json.path("step").asInt());
    succeed("export", "from=" + checkpoint, "output=" + path("of-checkpoint"));
    assertArrayEquals(
        Files.readAllBytes(root.resolve("kept/adapter/adapter_model.safetensors")),
        Files.readAllBytes(root.resolve("of-checkpoint/adapter_model.safetensors")));
    Files.write(Path.of(checkpoint, "state.safetensors"), new byte[] {1});
    Outcome damaged = run("export", "from=" + checkpoint, "output=" + path("never"));
    assertEquals(2, damaged.code());
    assertTrue(damaged.err().contains("state.safetensors"), damaged.err());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "merge  | model=M output=O                     | merge needs both",
        "merge  | model=M adapter=A output=R           | lies in the output directory",
        "merge  | model=M adapter=A output=O dtype=f8  | expected one of stored, fp32",
        "export | output=O                             | give either model",
        "export | model=M from=R output=O              | give either model",
        "export | from=M output=O                      | holds no adapter",
        "export | model=M output=O max_shard_size=-5   | max_shard_size is '-5', which is no"
            + " amount",
        "export | model=M output=O max_shard_size=5GX  | max_shard_size is '5GX', which is no"
            + " amount",
        "export | model=M output=M                     | is not empty",
        "export | model=M output=O quantize=nf5        | none, nf4, nf4_double",
        "export | from=R output=O quantize=nf4         | quantize is for a model",
        "export | model=M output=O quantize_skip=[x]   | quantize_skip needs quantize",
        "export | model=M output=O quantize=int8 quantize_skip=[lm_head] | no linear of the model",
        "export | from=R output=O ouptut=P             | did you mean output?"
      })
  void whatCannotBeWrittenIsSaid(String verb, String arguments, String message) {
    List<String> all = new ArrayList<>(List.of(verb));
    for (String argument : arguments.split(" ", -1)) {
      all.add(
          argument
              .replaceFirst("=M$", "=" + runs.model())
              .replaceFirst("=A$", "=" + path("forgot/adapter"))
              .replaceFirst("=O$", "=" + path("never"))
              .replaceFirst("=R$", "=" + path("forgot")));
    }
    if (message.startsWith("lies in")) {
      all.add("--overwrite");
    }
    Outcome outcome = run(all.toArray(String[]::new));
    assertEquals(2, outcome.code(), outcome.err());
    assertTrue(outcome.err().contains(message), outcome.err());
    assertFalse(Files.exists(root.resolve("never")));
    assertTrue(Files.exists(runs.model().resolve("model.safetensors")));
  }

  @Test
  void theConfigurationComesAsJsonToo() {
    JsonNode json =
        succeed("config", "output=o", "data.forget=['a b.jsonl']", "seed=3", "--json").json();
    assertEquals(3, json.path("seed").asInt());
    assertEquals("a b.jsonl", json.at("/data/forget/0").asText());
    assertEquals(0.999, json.at("/train/adam_beta2").asDouble());
    assertFalse(json.has("model"), json.toString());
  }

  @Test
  void answersComeAsJsonToo() {
    String[] args = {
      "generate", "--model", runs.model().toString(), "--max-new-tokens", "4", "Who?", "What?"
    };
    String text = succeed(args).out();
    JsonNode json = succeed(with(List.of(args), "--json")).json();
    assertEquals(2, json.path("answers").size());
    assertEquals("Who?", json.at("/answers/0/question").asText());
    assertEquals(text.lines().findFirst().orElseThrow(), json.at("/answers/0/answer").asText());
  }

  @Test
  void doctorSaysWhatIsHereAndWhatIsNot() {
    JsonNode json = succeed("doctor", "--json").json();
    assertTrue(json.path("can_run").asBoolean());
    assertEquals("cpu", json.at("/backends/0/name").asText());
    assertTrue(json.at("/backends/0/available").asBoolean());
    assertTrue(json.at("/libraries/glibc").asText().matches("\\d+\\.\\d+"), json.toString());
    assertEquals("1.5.13", json.at("/libraries/javacpp").asText());
    assertTrue(json.at("/memory/total_bytes").asLong() > 1 << 28);
    if (!json.at("/backends/3/available").asBoolean()) {
      assertTrue(json.path("advice").toString().contains("device=cuda"), json.toString());
    }
    String text = succeed("doctor").out();
    assertFalse(text.contains(System.getProperty("user.home") + "/"), text);
  }
}
