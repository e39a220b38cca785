package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.model.LoraConfig;

/**
 * A training checkpoint read for what it trains, without its optimizer: {@code manifest.json} says
 * kind, step and adapters, {@code state.safetensors} holds {@code master/NAME} (fp32) beside the
 * moments. {@link CheckpointStore#verify} holds the files to their hashes.
 */
public final class CheckpointState implements AutoCloseable {
  /** Trains LoRA adapters. */
  public static final String ADAPTER = "adapter";

  /** Trains all weights. */
  public static final String WEIGHTS = "weights";

  private static final String MANIFEST = CheckpointStore.MANIFEST;
  private static final String STATE = CheckpointStore.STATE;
  private static final String MASTER = "master/";

  private final Path directory;
  private final ObjectNode meta;
  private final SafetensorsFile tensors;

  private CheckpointState(Path directory, ObjectNode meta, SafetensorsFile tensors) {
    this.directory = directory;
    this.meta = meta;
    this.tensors = tensors;
  }

  /**
   * Opens a checkpoint's directory.
   *
   * @throws UserException naming the file, when one is missing, damaged or of another kind
   */
  public static CheckpointState open(Path directory) {
    Path manifest = directory.resolve(MANIFEST);
    ObjectNode root = JsonFiles.readObject(manifest);
    ObjectNode meta = root.path("meta") instanceof ObjectNode inner ? inner : root;
    String kind = meta.path("kind").asText();
    if (!kind.equals(ADAPTER) && !kind.equals(WEIGHTS)) {
      throw new UserException(
          manifest + ": key 'kind' must be adapter or weights; give a checkpoint that Lethe wrote");
    }
    return new CheckpointState(directory, meta, SafetensorsFile.open(directory.resolve(STATE)));
  }

  /** {@link #ADAPTER} or {@link #WEIGHTS}. */
  public String kind() {
    return meta.path("kind").asText();
  }

  /** Steps that were made. */
  public long step() {
    return meta.path("step").asLong();
  }

  /** The model that was started from; empty when not known. */
  public String baseModel() {
    return meta.path("base_model").asText("");
  }

  /** All that the manifest says. */
  public JsonNode meta() {
    return meta;
  }

  /** The stored tensors, the optimizer's among them. */
  public TensorSource tensors() {
    return tensors;
  }

  /** The adapters' settings; empty when all weights train. */
  public Optional<LoraConfig> lora() {
    if (!kind().equals(ADAPTER)) {
      return Optional.empty();
    }
    if (!(meta.path("lora") instanceof ObjectNode lora)) {
      throw new UserException(
          directory.resolve(MANIFEST) + ": key 'lora' must hold the adapter's settings");
    }
    return Optional.of(PeftConfigFile.read(directory.resolve(MANIFEST), lora).lora());
  }

  /**
   * Writes the checkpoint's adapter in PEFT's layout.
   *
   * @param dtype F32, BF16 or F16
   * @return bytes written
   * @throws UserException when it trains all weights
   */
  public long writeAdapter(Path target, StoredDtype dtype, boolean overwrite) {
    LoraConfig lora =
        lora()
            .orElseThrow(
                () ->
                    new UserException(
                        directory
                            + ": trains all weights and holds no adapter; export the model that"
                            + " the run wrote"));
    PeftConfig config = new PeftConfig(baseModel(), lora);
    Map<String, LinearShape> linears = new LinkedHashMap<>();
    for (String name : tensors.names()) {
      AdapterFiles.module(name, MASTER)
          .ifPresent(
              module ->
                  linears.put(
                      module,
                      new LinearShape(
                          tensors.info(MASTER + PeftAdapter.tensorB(module)).shape().get(0),
                          tensors.info(MASTER + PeftAdapter.tensorA(module)).shape().get(1))));
    }
    long bytes = PeftAdapter.fileBytes(config, linears, name -> dtype);
    OutputDirectory.write(
        target,
        overwrite,
        bytes,
        out ->
            PeftAdapter.write(
                out,
                config,
                linears,
                name -> dtype,
                (name, first, into) -> {
                  FloatStream.read(tensors, MASTER + name, first, into.duplicate());
                  Halves.requireRange(target, name, dtype, into.duplicate());
                }));
    return bytes;
  }

  @Override
  public void close() {
    tensors.close();
  }
}
