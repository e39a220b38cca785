package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
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

/** Before a run: what {@code init} writes, and all that {@code validate} finds wrong. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class ValidateVerbTest {
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

  private List<String> filledIn(String file) {
    return List.of(
        "validate",
        file,
        "model=" + runs.model(),
        "output=" + path("new"),
        "data.forget=[" + runs.data("forget") + "]",
        "data.retain=[" + runs.data("retain") + "]",
        "data.train=[" + runs.data("general") + "]");
  }

  @ParameterizedTest
  @CsvSource({"finetune", "unlearn", "evaluate"})
  void whatInitWritesIsValidOncePathsAreFilledIn(String task) throws IOException {
    String file = path("init-" + task + ".yaml");
    Outcome written = succeed("init", file, "--for", task, "--schema", "s.json");
    assertTrue(written.out().contains("lethe " + task + " --config " + file), written.out());
    String text = Files.readString(Path.of(file));
    assertTrue(text.startsWith("# yaml-language-server: $schema=s.json\n"), text);
    assertEquals(task.equals("unlearn"), text.contains("\nmethod:\n"), text);
    assertEquals(!task.equals("evaluate"), text.contains("\n  learning_rate: "), text);
    // As it stands it names files that are not there.
    assertEquals(2, run("validate", file, "--for", task).code());
    JsonNode json = succeed(with(filledIn(file), "--for", task, "--json")).json();
    assertEquals(task, json.path("task").asText());
    assertEquals(0, json.path("errors").asInt(), json.toString());
  }

  @Test
  void initReplacesNothingUnasked() throws IOException {
    Path file = Files.writeString(root.resolve("mine.yaml"), "mine");
    Outcome refused = run("init", file.toString());
    assertEquals(2, refused.code());
    assertTrue(refused.err().contains("--overwrite"), refused.err());
    assertEquals("mine", Files.readString(file));
    assertEquals(
        "evaluate",
        succeed("init", file.toString(), "--for", "EVALUATE", "--overwrite", "--json")
            .json()
            .path("task")
            .asText());
    assertNotEquals("mine", Files.readString(file));
    assertEquals(2, run("init", root.toString()).code());
    assertEquals(2, run("init", file.toString(), "--for", "soup").code());
  }

  private List<String> findings(Outcome outcome) {
    List<String> findings = new ArrayList<>();
    for (JsonNode f : outcome.json().path("findings")) {
      findings.add(
          f.path("level").asText()
              + " "
              + f.path("key").asText()
              + ": "
              + f.path("message").asText().replace(root + "/", ""));
    }
    return findings;
  }

  private static void assertFound(List<String> findings, String... starts) {
    for (String start : starts) {
      assertTrue(
          findings.stream().anyMatch(f -> f.startsWith(start)),
          start + " is not in " + String.join("\n", findings));
    }
    assertEquals(starts.length, findings.size(), String.join("\n", findings));
  }

  @Test
  void validateListsEverythingThatIsWrong() throws IOException {
    String file = path("wrong.yaml");
    succeed("init", file);
    Path rows =
        Files.writeString(
            root.resolve("bad.jsonl"),
            """
            {"question": "q", "answer": "a"}
            {"question": "q"}
            not json
            {"question": "q", "answer": " "}
            """);
    Outcome outcome =
        run(
            with(
                filledIn(file),
                "data.forget=[" + rows + "]",
                "data.retain=[" + path("none.jsonl") + "]",
                "trian.epochs=3",
                "method.forget=NPQ",
                "lora.targets=[q_prj]",
                "device=tpu",
                "output=" + path("tuned"),
                "--json"));
    assertEquals(2, outcome.code());
    assertFound(
        findings(outcome),
        "error keys: override 'trian.epochs=3': unknown key trian; did you mean train?",
        "note keys: what follows was checked with the defaults",
        "error data.forget: bad.jsonl:2: no field \"answer\"",
        "error data.forget: bad.jsonl:3: not a JSON row",
        "error data.forget: bad.jsonl:4: field \"answer\" is blank",
        "error data.retain: none.jsonl does not exist",
        "error method: method.forget: there is no loss \"NPQ\"; did you mean NPO?",
        "error device: LETHE_NO_DEVICE: cannot load backend 'tpu'",
        "error lora: the LoRA targets [q_prj] name no linear module",
        "error output: tuned: is not empty",
        "error output: tuned/model: lies in the output directory");
    assertFalse(Files.exists(root.resolve("new")));
  }

  @Test
  void validateKnowsWhatTheMethodNeeds() throws IOException {
    String file = path("method.yaml");
    succeed("init", file);
    Outcome outcome =
        run(
            with(
                filledIn(file),
                "method.forget=NPO",
                "method.retain=KL",
                "data.retain=[]",
                "train.full_parameters=true",
                "adapter=" + path("forgot/adapter"),
                "--for",
                "unlearn",
                "--json"));
    assertFound(
        findings(outcome),
        "error method: NPO+KL compares with the reference model",
        "error data.retain: the retain set is empty, but NPO+KL",
        "error adapter: adapter is");
    Outcome same = run(with(filledIn(file), "data.retain=[" + runs.data("forget") + "]", "--json"));
    assertEquals(0, same.code());
    assertFound(findings(same), "warning data.retain: 6 rows are in data.forget, too");
  }

  @Test
  void validateTellsWhatTheContextCuts() throws IOException {
    String file = path("context.yaml");
    succeed("init", file);
    Path rows =
        Files.writeString(
            root.resolve("long.jsonl"),
            "{\"question\":\"Who?\",\"answer\":\"Me.\"}\n{\"question\":\"Who?\",\"answer\":\""
                + "word ".repeat(200)
                + "\"}\n{\"question\":\""
                + "word ".repeat(200)
                + "\",\"answer\":\"Me.\"}\n");
    String[] cut = with(filledIn(file), "data.forget=[" + rows + "]", "--json");
    assertFound(
        findings(run(cut)),
        "warning data.forget: 1 of 3 rows are longer than the context of 128 tokens",
        "error data.forget: long.jsonl:3: the prompt has ");
    String[] refused =
        with(
            filledIn(file),
            "data.forget=[" + rows + "]",
            "data.on_too_long=refuse",
            "data.context_length=4000",
            "--json");
    assertFound(
        findings(run(refused)),
        "note data.context_length: is 4000, but the model has 128 positions",
        "error data.forget: 1 of 3 rows are longer than the context of 128 tokens",
        "error data.forget: long.jsonl:3: the prompt has ");
  }

  @Test
  void validateReadsTheModelAndTheAdapter() throws IOException {
    String file = path("model.yaml");
    succeed("init", file, "--for", "evaluate");
    Path broken = Files.createDirectories(root.resolve("broken"));
    for (String name : List.of("model.safetensors", "tokenizer.json", "tokenizer_config.json")) {
      Files.copy(runs.model().resolve(name), broken.resolve(name));
    }
    Files.writeString(
        broken.resolve("config.json"),
        Files.readString(runs.model().resolve("config.json"))
            .replaceFirst("\"vocab_size\" : 700", "\"vocab_size\" : 690")
            .replaceFirst("\"num_hidden_layers\" : 1", "\"num_hidden_layers\" : 2"));
    Outcome outcome =
        run(
            with(
                filledIn(file),
                "model=" + broken,
                "adapter=" + path("forgot/adapter"),
                "evaluate.never_saw=" + path("nowhere.json"),
                "--json"));
    assertFound(
        findings(outcome),
        "error evaluate.never_saw: nowhere.json: cannot be read",
        "error model: broken: the weights lack model.layers.1.input_layernorm.weight",
        "error model: broken/model.safetensors: tensor 'model.embed_tokens.weight' has the shape"
            + " [700, 32], by config.json [690, 32]",
        "error model: broken: the tokenizer has token ids up to 699",
        "error adapter: forgot/adapter/adapter_model.safetensors: does not fit");
    Outcome fits = succeed(with(filledIn(file), "adapter=" + path("forgot/adapter")));
    assertTrue(fits.out().endsWith(": nothing wrong, checked as evaluate\n"), fits.out());
  }
}
