package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.Parameter;
import org.lethe.model.ParameterNames;
import org.lethe.model.WeightPlacement;

/**
 * A model in Hugging Face's layout: {@code config.json}, {@code model.safetensors} (or shards with
 * an index), and the tokenizer's files beside them.
 */
public final class ModelDirectory {
  static final String WEIGHTS_FILE = "model.safetensors";
  static final List<String> TOKENIZER_FILES =
      List.of(
          "tokenizer.json",
          "tokenizer_config.json",
          "special_tokens_map.json",
          "chat_template.jinja");
  private static final int STAGING_BYTES = 1 << 20;

  private ModelDirectory() {}

  /** What config.json says. */
  public static ModelConfigFile config(Path directory) {
    return HuggingFaceConfig.read(directory.resolve(HuggingFaceConfig.FILE));
  }

  /**
   * Loads a frozen model.
   *
   * @param contextLength positions wanted, at most the model's own
   */
  public static Model load(Ops ops, Path directory, int contextLength) {
    return load(ops, directory, contextLength, WeightPlacement.PLAIN);
  }

  /**
   * The same with weights kept in another way. Codes of that very layout are taken as they are
   * stored; other weights are quantised as they are read.
   */
  public static Model load(Ops ops, Path directory, int contextLength, WeightPlacement placement) {
    return load(ops, directory, contextLength, placement, List.of());
  }

  /**
   * The same for a model that is to carry adapters.
   *
   * @param adapters all that it will carry at one time
   */
  public static Model load(
      Ops ops,
      Path directory,
      int contextLength,
      WeightPlacement placement,
      List<LoraConfig> adapters) {
    ModelConfig sizes = config(directory).model().withContextLength(contextLength);
    try (ModelWeights tensors = ModelWeights.open(directory)) {
      requireTiedHead(tensors, sizes, directory);
      return Model.load(ops, sizes, new CheckpointWeights(tensors, directory), placement, adapters);
    }
  }

  /**
   * Refuses a tied head that is stored, too, with other values: transformers 5 takes it as it is
   * stored, 4 takes the embedding.
   */
  static void requireTiedHead(TensorSource tensors, ModelConfig config, Path directory) {
    List<Long> shape = List.of((long) config.vocabularySize(), (long) config.hiddenSize());
    // A table that is missing or of another shape is found, and said better, when it is loaded.
    boolean twice =
        config.tiedHead()
            && tensors.names().contains(ParameterNames.HEAD)
            && tensors.names().contains(ParameterNames.EMBEDDING)
            && tensors.info(ParameterNames.EMBEDDING).shape().equals(shape);
    if (twice
        && !tensors.slices(ParameterNames.HEAD).equals(tensors.slices(ParameterNames.EMBEDDING))) {
      throw new UserException(
          directory.resolve(HuggingFaceConfig.FILE)
              + ": key 'tie_word_embeddings' says that the head is the embedding, but the weights"
              + " hold another lm_head.weight; set it to false to use that, or remove the tensor");
    }
  }

  /**
   * Writes a model that transformers loads: config, weights in the model's storage, and the
   * tokenizer's files.
   *
   * @param tokenizer the directory that holds them
   */
  public static void save(
      Model model, ModelConfigFile config, Path tokenizer, Path target, boolean overwrite) {
    StoredDtype dtype = model.ops().dtype() == Dtype.BF16 ? StoredDtype.BF16 : StoredDtype.F32;
    List<TensorSpec> specs = new ArrayList<>();
    for (Parameter p : model.layout().parameters().values()) {
      specs.add(TensorSpec.of(p.name(), dtype, p.shape()));
    }
    OutputDirectory.write(
        target,
        overwrite,
        SafetensorsWriter.fileBytes(specs),
        out -> {
          out.writeString(HuggingFaceConfig.FILE, HuggingFaceConfig.configJson(config, dtype));
          out.writeString(
              HuggingFaceConfig.GENERATION_FILE, HuggingFaceConfig.generationConfigJson(config));
          for (String name : TOKENIZER_FILES) {
            if (Files.exists(tokenizer.resolve(name))) {
              out.copy(tokenizer.resolve(name), name);
            }
          }
          try (WritableByteChannel channel = out.open(WEIGHTS_FILE);
              Staging staging = new Staging(STAGING_BYTES)) {
            SafetensorsWriter writer = new SafetensorsWriter(channel, specs);
            for (TensorSpec spec : specs) {
              writeTensor(model, spec.name(), writer, staging);
            }
            writer.finish();
          }
        });
  }

  /** The linears an adapter may sit on, by module name, as PEFT's files are checked against. */
  static Map<String, LinearShape> linears(ModelConfig c) {
    Map<String, LinearShape> linears = new LinkedHashMap<>();
    Model.projections(c)
        .forEach((module, p) -> linears.put(module, new LinearShape(p.rows(), p.columns())));
    return linears;
  }

  private static void writeTensor(
      Model model, String name, SafetensorsWriter writer, Staging staging) throws IOException {
    IOException[] failed = new IOException[1];
    model.readWeight(
        name,
        staging,
        piece -> {
          try {
            if (failed[0] == null) {
              writer.write(name, piece);
            }
          } catch (IOException e) {
            failed[0] = e;
          }
        });
    if (failed[0] != null) {
      throw failed[0];
    }
  }
}
