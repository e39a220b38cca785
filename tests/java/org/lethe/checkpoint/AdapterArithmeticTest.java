package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.model.Goldens;
import org.lethe.model.Logits;
import org.lethe.model.Model;
import org.lethe.model.View;

/** Sums of adapters, as views and as files, against weights added up by torch in fp64. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class AdapterArithmeticTest {
  // fp32 logits against fp64: the project's bound, of the largest logit.
  private static final double TOLERANCE = 1e-5;
  private static final JsonNode GOLDEN = Goldens.json("views/views.json");

  private Backend backend;
  private SafetensorsFile logits;
  private int[] ids;

  @BeforeAll
  void open() {
    backend = Backend.open("cpu", 1);
    logits = SafetensorsFile.open(Goldens.path("views/logits.safetensors"));
    ids = Goldens.ints(logits, "ids");
  }

  @AfterAll
  void close() {
    logits.close();
    backend.close();
  }

  private Model load() {
    return ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("llama-tiny"), 64);
  }

  private static Path adapter(String name) {
    return Goldens.path(GOLDEN.get("adapters").get(name).asText());
  }

  private static List<AdapterArithmetic.Summand> summands(String view) {
    List<AdapterArithmetic.Summand> summands = new ArrayList<>();
    for (Map.Entry<String, JsonNode> e : GOLDEN.get("views").get(view).properties()) {
      summands.add(new AdapterArithmetic.Summand(adapter(e.getKey()), e.getValue().doubleValue()));
    }
    return summands;
  }

  private void assertLogits(String name, Model model, View view) {
    float[] expected = Logits.logProbabilities(Goldens.floats(logits, name), ids.length);
    float[] found = Logits.logProbabilities(model, view, ids);
    assertTrue(Logits.error(expected, found) <= TOLERANCE, "" + Logits.error(expected, found));
  }

  @ParameterizedTest
  @ValueSource(strings = {"base", "first", "negated", "mixed", "forgotten", "all"})
  void aViewIsTheModelOfTorchsWeights(String name) {
    try (Model model = load()) {
      View view = View.BASE;
      for (AdapterArithmetic.Summand s : summands(name)) {
        view =
            view.plus(
                AdapterDirectory.loadFrozen(model, s.directory().toString(), s.directory()),
                s.coefficient());
      }
      assertLogits(name, model, view);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"first", "negated", "mixed", "forgotten", "all"})
  void aSumWrittenIsThatModel(String name, @TempDir Path directory) {
    Path sum = directory.resolve("sum");
    AdapterArithmetic.Result result = AdapterArithmetic.write(summands(name), "", sum, false);
    assertEquals(name.equals("all") ? 9 : name.equals("forgotten") ? 6 : 4, result.rank());
    assertEquals(21, result.modules());
    JsonNode config = Goldens.json(sum.resolve("adapter_config.json").toString());
    assertEquals(config.get("r").asInt(), config.get("lora_alpha").asInt());
    assertEquals("llama-tiny", config.get("base_model_name_or_path").asText());
    try (Model model = load()) {
      AdapterDirectory.load(model, sum, false);
      assertLogits(name, model, model.view());
    }
  }

  @Test
  void aPowerOfTwoIsExact(@TempDir Path directory) {
    List<AdapterArithmetic.Summand> twice =
        List.of(new AdapterArithmetic.Summand(adapter("first"), -0.5));
    AdapterArithmetic.write(twice, "", directory.resolve("half"), false);
    try (Model model = load()) {
      View half = View.of(AdapterDirectory.loadFrozen(model, "half", directory.resolve("half")));
      View view =
          View.BASE.plus(AdapterDirectory.loadFrozen(model, "first", adapter("first")), -0.5);
      assertArrayEquals(
          Logits.logProbabilities(model, view, ids), Logits.logProbabilities(model, half, ids));
    }
  }

  @Test
  void whatIsNoSumIsRefused(@TempDir Path directory) throws IOException {
    Path target = directory.resolve("sum");
    assertRefused("no adapter to add up", List.of(), "", target);
    assertRefused(
        "neither lora_A nor lora_B",
        List.of(new AdapterArithmetic.Summand(adapterOfAnotherKind(directory), 1)),
        "",
        target);
    UserException e =
        assertThrows(
            UserException.class,
            () -> new AdapterArithmetic.Summand(adapter("first"), Double.POSITIVE_INFINITY));
    assertTrue(e.getMessage().contains("finite number"), e.getMessage());
    List<AdapterArithmetic.Summand> two =
        List.of(
            new AdapterArithmetic.Summand(adapter("first"), 1),
            new AdapterArithmetic.Summand(renamed(directory), 1));
    assertRefused("[llama-tiny, other]", two, "", target);
    AdapterArithmetic.write(two, "mine", target, false);
    assertEquals(
        "mine",
        Goldens.json(target.resolve("adapter_config.json").toString())
            .get("base_model_name_or_path")
            .asText());
    assertRefused("allow overwriting", two, "mine", target);
  }

  private static Path adapterOfAnotherKind(Path directory) throws IOException {
    Path odd = Files.createDirectories(directory.resolve("odd"));
    Files.copy(Goldens.path("views/logits.safetensors"), odd.resolve("adapter_model.safetensors"));
    Files.copy(adapter("first").resolve("adapter_config.json"), odd.resolve("adapter_config.json"));
    return odd;
  }

  private static Path renamed(Path directory) throws IOException {
    Path other = Files.createDirectories(directory.resolve("other"));
    Files.copy(
        adapter("second").resolve("adapter_model.safetensors"),
        other.resolve("adapter_model.safetensors"));
    Files.writeString(
        other.resolve("adapter_config.json"),
        Files.readString(adapter("second").resolve("adapter_config.json"))
            .replace("\"llama-tiny\"", "\"other\""));
    return other;
  }

  private static void assertRefused(
      String message, List<AdapterArithmetic.Summand> summands, String base, Path target) {
    UserException e =
        assertThrows(
            UserException.class, () -> AdapterArithmetic.write(summands, base, target, false));
    assertTrue(e.getMessage().contains(message), e.getMessage());
    assertFalse(e.getMessage().isBlank());
  }
}
