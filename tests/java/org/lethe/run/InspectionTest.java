package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.checkpoint.SafetensorsWriter;
import org.lethe.checkpoint.StoredDtype;
import org.lethe.checkpoint.TensorSpec;
import org.lethe.config.Config;
import org.lethe.config.ExportConfig;
import org.lethe.model.Goldens;

/** Checkpoints and damaged runs; the other kinds are looked at through the command line. */
class InspectionTest {
  private static final String A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  private static final String B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

  @TempDir Path directory;

  private Path checkpoint() throws IOException {
    Path checkpoint = Files.createDirectories(directory.resolve("run/checkpoints/step-000000040"));
    Files.writeString(
        checkpoint.resolve("manifest.json"),
        """
        {"format": "lethe-checkpoint", "format_version": 2, "kind": "adapter", "step": 40,
         "base_model": null, "data": {"epoch": 1},
         "lora": {"peft_type": "LORA", "r": 1, "lora_alpha": 4.0,
          "target_modules": ["q_proj"]}}
        """);
    List<TensorSpec> specs = new ArrayList<>();
    for (String part : List.of("master/", "moment1/")) {
      specs.add(TensorSpec.of(part + A, StoredDtype.F32, 1, 2));
      specs.add(TensorSpec.of(part + B, StoredDtype.F32, 3, 1));
    }
    try (FileChannel channel =
        FileChannel.open(
            checkpoint.resolve("state.safetensors"),
            StandardOpenOption.CREATE_NEW,
            StandardOpenOption.WRITE)) {
      SafetensorsWriter writer = new SafetensorsWriter(channel, specs);
      float next = 1;
      for (TensorSpec spec : specs) {
        ByteBuffer bytes = ByteBuffer.allocate((int) spec.bytes()).order(ByteOrder.LITTLE_ENDIAN);
        while (bytes.hasRemaining()) {
          bytes.putFloat(next++);
        }
        writer.write(spec.name(), bytes.flip());
      }
      writer.finish();
    }
    return checkpoint;
  }

  @Test
  void parametersOfAQuantisedModelAreItsWeightsAndNotItsBytes() {
    Map<String, Object> plain = Inspection.of(Goldens.path("llama-tiny"), false).facts();
    Map<String, Object> facts = Inspection.of(Goldens.path("quant/llama-nf4"), false).facts();
    assertEquals(32032L, plain.get("parameters"));
    assertEquals(32032L, facts.get("parameters"));
    assertEquals(21, facts.get("quantized_weights"));
    assertFalse(plain.containsKey("quantized_weights"));
    assertFalse(facts.containsKey("problems"));
  }

  @Test
  void aCheckpointSaysWhereItStandsAndWhatItHolds() throws IOException {
    Inspection inspection = Inspection.of(checkpoint(), true);
    assertEquals("checkpoint", inspection.kind());
    Map<String, Object> facts = inspection.facts();
    assertEquals(40L, facts.get("step"));
    assertEquals("adapter", facts.get("trains"));
    assertEquals(1, facts.get("rank"));
    assertEquals(4L, facts.get("tensor_count"));
    assertEquals(10L, facts.get("parameters"));
    assertEquals("q_proj", facts.get("targets"));
  }

  @Test
  void oneThatDoesNotVerifyIsToldAndNotExported() throws IOException {
    Path checkpoint = checkpoint();
    Map<String, Object> facts = Inspection.of(checkpoint, false).facts();
    assertEquals(false, facts.get("verified"));
    assertTrue(facts.get("damage").toString().contains("manifest.json"), facts.toString());
    Path output = directory.resolve("adapter");
    ExportConfig config =
        Config.of(ExportConfig.class, List.of("from=" + checkpoint, "output=" + output));
    UserException e = assertThrows(UserException.class, () -> Export.adapter(config));
    assertTrue(e.getMessage().contains("is damaged"), e.getMessage());
    assertFalse(Files.exists(output));
  }

  @Test
  void aRunThatWasKilledIsReadUpToItsLastWholeLine() throws IOException {
    checkpoint();
    Path run = directory.resolve("run");
    Files.writeString(run.resolve("config.yaml"), "output: o\ntrain:\n  steps: 9\n");
    Files.writeString(
        run.resolve("metrics.jsonl"),
        """
        {"step":0,"loss":2.5,"gradient_norm":1,"learning_rate":0.1,"tokens":9,"applied":true}
        {"step":1,"loss":"NaN","gradient_norm":1,"learning_rate":0.1,"tokens":9,"applied":false}
        {"step":2,"lo\
        """);
    Map<String, Object> facts = Inspection.of(run, false).facts();
    assertEquals(2, facts.get("steps"));
    assertEquals(2.5, facts.get("first_loss"));
    assertTrue(facts.get("last").toString().startsWith("{step=1, loss=NaN, "));
    assertEquals(1L, facts.get("skipped"));
    assertEquals(false, facts.get("finished"));
    assertEquals(1L, facts.get("checkpoints"));
    assertEquals(Map.of("output", "o", "train.steps", 9), facts.get("config"));
    Files.writeString(run.resolve("metrics.jsonl"), "");
    assertEquals(0, Inspection.of(run, false).facts().get("steps"));
  }

  @Test
  void aDamagedFileIsNamed() throws IOException {
    Path file = Files.writeString(directory.resolve("x.safetensors"), "short");
    UserException e = assertThrows(UserException.class, () -> Inspection.of(file, false));
    assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
    Path half = Files.createDirectories(directory.resolve("half"));
    Files.copy(
        Goldens.path("llama-tiny/adapter/adapter_config.json"),
        half.resolve("adapter_config.json"));
    UserException missing = assertThrows(UserException.class, () -> Inspection.of(half, false));
    assertTrue(missing.getMessage().contains("adapter_model.safetensors"), missing.getMessage());
  }
}
