package org.lethe.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
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
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.model.Goldens;

class CheckpointStateTest {
  private static final Path ADAPTER = Goldens.path("llama-tiny/adapter");

  @TempDir Path directory;

  /** A checkpoint whose master weights are the golden adapter. */
  private Path checkpoint(String kind) throws IOException {
    Path checkpoint = Files.createDirectories(directory.resolve("step-7"));
    Files.writeString(
        checkpoint.resolve("manifest.json"),
        "{\"format\":1,\"kind\":\""
            + kind
            + "\",\"step\":7,\"base_model\":\"llama-tiny\",\"lora\":{\"peft_type\":\"LORA\","
            + "\"r\":4,\"lora_alpha\":8.0,\"target_modules\":[\"q_proj\",\"k_proj\",\"v_proj\","
            + "\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"]}}");
    try (SafetensorsFile file = SafetensorsFile.open(ADAPTER.resolve("adapter_model.safetensors"));
        FileChannel channel =
            FileChannel.open(
                checkpoint.resolve("state.safetensors"),
                StandardOpenOption.CREATE_NEW,
                StandardOpenOption.WRITE)) {
      List<TensorSpec> specs = new ArrayList<>();
      for (String part : List.of("master/", "moment1/", "moment2/")) {
        for (String name : file.names()) {
          specs.add(new TensorSpec(part + name, StoredDtype.F32, file.info(name).shape()));
        }
      }
      SafetensorsWriter writer = new SafetensorsWriter(channel, specs);
      for (TensorSpec spec : specs) {
        ByteBuffer bytes = ByteBuffer.allocate((int) spec.bytes()).order(ByteOrder.LITTLE_ENDIAN);
        if (spec.name().startsWith("master/")) {
          file.readInto(spec.name().substring("master/".length()), 0, bytes);
          bytes.flip();
        }
        writer.write(spec.name(), bytes);
      }
      writer.finish();
    }
    return checkpoint;
  }

  @Test
  void itsAdapterIsWrittenForPeft() throws IOException {
    Path output = directory.resolve("adapter");
    try (CheckpointState state = CheckpointState.open(checkpoint("adapter"))) {
      assertEquals(7, state.step());
      assertEquals("llama-tiny", state.baseModel());
      assertEquals(4, state.lora().orElseThrow().rank());
      state.writeAdapter(output, StoredDtype.F32, false);
    }
    try (SafetensorsFile expected =
            SafetensorsFile.open(ADAPTER.resolve("adapter_model.safetensors"));
        SafetensorsFile found = SafetensorsFile.open(output.resolve("adapter_model.safetensors"));
        PeftAdapter adapter = PeftAdapter.open(output, AdapterFiles.linears(ADAPTER))) {
      assertEquals(2.0, adapter.adapters().get("model.layers.0.mlp.up_proj").scale());
      assertEquals(expected.names().size(), found.names().size());
      for (String name : expected.names()) {
        assertArrayEquals(Goldens.floats(expected, name), Goldens.floats(found, name), name);
      }
    }
  }

  @Test
  void oneOfAllWeightsHasNoAdapter() throws IOException {
    try (CheckpointState state = CheckpointState.open(checkpoint("weights"))) {
      UserException e =
          assertThrows(
              UserException.class,
              () -> state.writeAdapter(directory.resolve("out"), StoredDtype.F32, false));
      assertTrue(e.getMessage().contains("trains all weights"), e.getMessage());
    }
  }

  @Test
  void anythingElseIsRefused() throws IOException {
    Path checkpoint = checkpoint("adapter");
    Path manifest = checkpoint.resolve("manifest.json");
    Files.writeString(manifest, "{\"kind\":\"soup\"}");
    UserException e =
        assertThrows(UserException.class, () -> CheckpointState.open(checkpoint).close());
    assertTrue(e.getMessage().startsWith(manifest + ": key 'kind'"), e.getMessage());
  }
}
