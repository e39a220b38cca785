package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.lethe.internal.cli.Outcome.assertFails;
import static org.lethe.internal.cli.Outcome.note;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.model.Goldens;

/** Every fault of a model directory: said by each verb that reads one, and nothing written. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class BadModelTest {
  private TinyRuns runs;
  private Path scratch;

  @BeforeAll
  void fineTune(@TempDir Path root) {
    runs = new TinyRuns(root).fineTuned();
    scratch = root;
  }

  private static void replace(Path file, String pattern, String replacement) throws IOException {
    String before = Files.readString(file);
    String after = before.replaceFirst(pattern, replacement);
    assertFalse(before.equals(after), pattern + " is not in " + before);
    Files.writeString(file, after);
  }

  private void assertModelRefused(Path model, String... parts) {
    String name = "out-" + model.getFileName();
    assertFails(2, runs.unlearn(name, "ME+GD", "model=" + model), parts);
    runs.assertNothingAt(name);
    assertFails(2, runs.evaluate(name, "model=" + model), parts);
    runs.assertNothingAt(name);
    assertFails(
        2,
        new String[] {
          "finetune",
          "model=" + model,
          "output=" + scratch.resolve(name),
          "data.train=[" + runs.data("forget") + "]"
        },
        parts);
    runs.assertNothingAt(name);
    assertFails(2, new String[] {"generate", "--model", model.toString(), "Who?"}, parts);
  }

  @Test
  void aMissingModelDirectory() {
    Path nowhere = scratch.resolve("nowhere");
    assertModelRefused(nowhere, nowhere.resolve("config.json").toString());
  }

  @Test
  void aFileInPlaceOfTheModelDirectory() throws IOException {
    Path file = runs.copyOfModel("a-file").resolve("config.json");
    assertFails(
        2,
        new String[] {"plan", "model=" + file},
        file + ": is a file, not a directory; give the directory that holds config.json");
  }

  @ParameterizedTest
  @CsvSource({"vocab_size,2147483647", "intermediate_size,2147483647", "hidden_size,536870912"})
  void widthsThatNoKernelTakes(String key, int width) throws IOException {
    Path model = runs.copyOfModel("wide-" + key);
    replace(
        model.resolve("config.json"), "\"" + key + "\" *: *[0-9]+", "\"" + key + "\": " + width);
    assertFails(
        2,
        new String[] {"plan", "model=" + model},
        model.resolve("config.json").toString(),
        "key '" + key + "' makes a width of " + width + "; kernels take up to 16777216");
  }

  @Test
  void missingWeights() throws IOException {
    Path model = runs.copyOfModel("no-weights");
    Files.delete(model.resolve("model.safetensors"));
    assertModelRefused(model, model.toString(), "model.safetensors");
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 7, 100, -1})
  void truncatedWeights(int bytes) throws IOException {
    Path model = runs.copyOfModel("truncated-" + bytes);
    Path weights = model.resolve("model.safetensors");
    byte[] whole = Files.readAllBytes(weights);
    Files.write(weights, Arrays.copyOf(whole, bytes < 0 ? whole.length + bytes : bytes));
    assertModelRefused(model, weights.toString());
  }

  @Test
  void aMissingShard() throws IOException {
    Path model = scratch.resolve("sharded");
    note("export", "model=" + runs.model(), "output=" + model, "max_shard_size=40KB");
    List<Path> shards;
    try (Stream<Path> files = Files.list(model)) {
      shards = files.filter(f -> f.toString().endsWith(".safetensors")).sorted().toList();
    }
    assertTrue(shards.size() > 1, shards.toString());
    Path gone = shards.get(1);
    Files.delete(gone);
    assertModelRefused(
        model,
        model.resolve("model.safetensors.index.json").toString(),
        "the shard '" + gone.getFileName() + "', which is missing; get it again");
  }

  @Test
  void aQuantisedWeightWithoutItsState() throws IOException {
    Path model = scratch.resolve("quantised");
    note("export", "model=" + runs.model(), "output=" + model, "quantize=nf4");
    Path weights = model.resolve("model.safetensors");
    // One byte a character, so that nothing else in the file changes.
    String bytes = Files.readString(weights, StandardCharsets.ISO_8859_1);
    Files.writeString(
        weights,
        bytes.replaceFirst("weight\\.quant_state\\.", "weight.quant_stale."),
        StandardCharsets.ISO_8859_1);
    assertModelRefused(
        model, weights.toString(), "_proj.weight'", "its quant_state", "quantise the model anew");
  }

  @Test
  void aModelQuantisedInAnotherWay() throws IOException {
    Path model = runs.copyOfModel("gptq");
    replace(
        model.resolve("config.json"),
        "\\{",
        "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4},");
    assertModelRefused(
        model,
        model.resolve("config.json").toString(),
        "quantization_config.quant_method",
        "\"gptq\"; Lethe reads bitsandbytes");
  }

  @Test
  void weightsOfAnotherModel() throws IOException {
    Path model = runs.copyOfModel("other-weights");
    Files.copy(
        Goldens.path("llama-tiny/model.safetensors"),
        model.resolve("model.safetensors"),
        StandardCopyOption.REPLACE_EXISTING);
    assertModelRefused(model, "get config.json and weights that belong together");
  }

  @Test
  void anUnknownArchitecture() throws IOException {
    Path model = runs.copyOfModel("gpt2");
    replace(model.resolve("config.json"), "\"llama\"", "\"gpt2\"");
    assertModelRefused(
        model, model.resolve("config.json").toString(), "model_type", "gpt2", "Lethe knows");
  }

  @Test
  void anUnknownRopeType() throws IOException {
    Path model = runs.copyOfModel("yarn");
    replace(model.resolve("config.json"), "\"default\"", "\"yarn\"");
    assertModelRefused(
        model, model.resolve("config.json").toString(), "rope_parameters.rope_type", "yarn");
  }

  @Test
  void aTokenizerLargerThanTheVocabulary() throws IOException {
    Path model = runs.copyOfModel("small-vocabulary");
    replace(model.resolve("config.json"), "\"vocab_size\" *: *700", "\"vocab_size\": 690");
    assertModelRefused(
        model,
        model.resolve("tokenizer.json") + " has token ids up to 699",
        "vocabulary is 690",
        "use the tokenizer that belongs to the model");
  }
}
