package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterFiles;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.ModelCheck;
import org.lethe.checkpoint.ModelConfigFile;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.ModelWeights;
import org.lethe.checkpoint.PeftAdapter;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.checkpoint.ShardedSafetensors;
import org.lethe.data.Tokenizer;
import org.lethe.model.ModelConfig;

/**
 * What stands in a directory or file that Lethe reads or writes. Nothing is loaded onto a device;
 * weights themselves are read for adapters alone.
 *
 * @param kind "model", "adapter", "run", "checkpoint" or "safetensors"
 * @param facts by name, in the order to be shown: texts, numbers, truth values, maps of these, and
 *     lists of maps with equal keys (tables)
 */
public record Inspection(String kind, Map<String, Object> facts) {
  static final String MANIFEST = CheckpointStore.MANIFEST;

  /**
   * Looks at a path, telling by its content what it is.
   *
   * @param tensors whether every tensor is listed
   * @throws UserException when it is nothing that Lethe knows, or is damaged
   */
  public static Inspection of(Path path, boolean tensors) {
    if (!Files.exists(path)) {
      throw new UserException(path + ": no such file or directory; check the path");
    }
    if (!Files.isDirectory(path)) {
      return safetensors(path, tensors);
    }
    if (Files.exists(path.resolve(MANIFEST))) {
      return new Inspection("checkpoint", CheckpointFacts.of(path, tensors));
    }
    if (Files.exists(path.resolve(PeftAdapter.CONFIG_FILE))) {
      return new Inspection("adapter", AdapterFacts.of(path, tensors));
    }
    if (Files.exists(path.resolve("config.json"))) {
      return model(path, tensors);
    }
    if (Files.exists(path.resolve("config.yaml")) && Files.exists(path.resolve("metrics.jsonl"))) {
      return new Inspection("run", RunFacts.of(path));
    }
    List<String> named = AdapterFiles.named(path);
    if (!named.isEmpty()) {
      Map<String, Object> facts = new LinkedHashMap<>();
      facts.put("path", path.toString());
      facts.put("adapters", String.join(", ", named));
      return new Inspection("adapters", facts);
    }
    throw new UserException(
        path
            + ": is no model (config.json), adapter ("
            + PeftAdapter.CONFIG_FILE
            + "), run (config.yaml and metrics.jsonl) or checkpoint ("
            + MANIFEST
            + "); give one of these or a .safetensors file");
  }

  private static Inspection safetensors(Path path, boolean tensors) {
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      Map<String, Object> facts = new LinkedHashMap<>();
      facts.put("path", path.toString());
      facts.put("file_bytes", size(path));
      if (!file.metadata().isEmpty()) {
        facts.put("metadata", new LinkedHashMap<>(file.metadata()));
      }
      TensorFacts.put(facts, file, tensors);
      return new Inspection("safetensors", facts);
    }
  }

  private static Inspection model(Path path, boolean tensors) {
    ModelConfigFile config = ModelDirectory.config(path);
    ModelConfig model = config.model();
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("path", path.toString());
    facts.put("architecture", model.family());
    facts.put("layers", model.layers());
    facts.put("hidden_size", model.hiddenSize());
    facts.put("heads", model.heads());
    facts.put("kv_heads", model.kvHeads());
    facts.put("head_dim", model.headDim());
    facts.put("feed_forward_size", model.feedForwardSize());
    facts.put("vocabulary", model.vocabularySize());
    facts.put("context_length", model.contextLength());
    facts.put("tied_head", model.tiedHead());
    facts.put("rope_theta", model.rotary().theta());
    facts.put("rope_scaling", model.rotary().name());
    facts.put("windows", windows(model));
    facts.put("tokenizer", tokenizer(path));
    try (ShardedSafetensors file = ShardedSafetensors.open(path)) {
      facts.put("files", file.names().stream().map(file::file).distinct().count());
      TensorFacts.put(facts, file, tensors);
    }
    putQuantized(facts, path);
    List<String> problems = ModelCheck.problems(path, config);
    if (!problems.isEmpty()) {
      facts.put("problems", String.join("; ", problems));
    }
    return new Inspection("model", facts);
  }

  /** How many layers see how much: a window, or everything before. */
  private static String windows(ModelConfig model) {
    Map<Integer, Long> counts =
        model.attention().windows().stream()
            .collect(Collectors.groupingBy(w -> w, LinkedHashMap::new, Collectors.counting()));
    return counts.entrySet().stream()
        .map(e -> e.getValue() + " x " + (e.getKey() == 0 ? "all" : e.getKey()))
        .collect(Collectors.joining(", "));
  }

  /** Several tensors stand for a quantised weight, and packed bytes are no parameters. */
  private static void putQuantized(Map<String, Object> facts, Path path) {
    try (ModelWeights weights = ModelWeights.open(path)) {
      if (!weights.quantizedNames().isEmpty()) {
        facts.put("quantized_weights", weights.quantizedNames().size());
        long parameters = 0;
        for (String name : weights.names()) {
          parameters += weights.info(name).elements();
        }
        facts.put("parameters", parameters);
      }
    }
  }

  private static Object tokenizer(Path path) {
    if (!Files.exists(path.resolve("tokenizer.json"))) {
      return "none";
    }
    try (Tokenizer tokenizer = Tokenizer.load(path)) {
      Map<String, Object> facts = new LinkedHashMap<>();
      facts.put("vocabulary", tokenizer.vocabularySize());
      facts.put("chat_template", tokenizer.hasChatTemplate());
      tokenizer.bosId().ifPresent(id -> facts.put("bos_id", id));
      if (tokenizer.hasEos()) {
        facts.put("eos_id", tokenizer.eosId());
      }
      return facts;
    }
  }

  static long size(Path file) {
    try {
      return Files.size(file);
    } catch (IOException e) {
      throw new EnvironmentException(
          file + ": cannot be looked at (" + e + "); check its permissions", e);
    }
  }

  /** Bytes of all files below a directory. */
  static long treeSize(Path directory) {
    try (Stream<Path> files = Files.walk(directory)) {
      return files.filter(Files::isRegularFile).mapToLong(Inspection::size).sum();
    } catch (IOException e) {
      throw new EnvironmentException(
          directory + ": cannot be looked at (" + e + "); check its permissions", e);
    }
  }
}
