package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import org.lethe.UserException;

/**
 * A LoRA adapter as PEFT keeps it: {@code adapter_config.json} and {@code
 * adapter_model.safetensors}. A module's pair is A [r, in] and B [out, r]; {@link #tensorA} and
 * {@link #tensorB} give their names.
 *
 * <p>Reading is strict: what Lethe would compute differently from PEFT is an error naming the key.
 */
public final class PeftAdapter implements AutoCloseable {
  /** Name of the configuration in an adapter's directory. */
  public static final String CONFIG_FILE = "adapter_config.json";

  /** Name of the weights in an adapter's directory. */
  public static final String WEIGHTS_FILE = "adapter_model.safetensors";

  /** Keys that do not change what a trained adapter computes. */
  private static final Set<String> HARMLESS =
      Set.of(
          "auto_mapping",
          "inference_mode",
          "megatron_core",
          "peft_version",
          "qalora_group_size",
          "revision",
          "runtime_config");

  private final PeftConfig config;
  private final SafetensorsFile weights;

  private PeftAdapter(PeftConfig config, SafetensorsFile weights) {
    this.config = config;
    this.weights = weights;
  }

  /** Name of A [r, in] of a module such as {@code model.layers.0.self_attn.q_proj}. */
  public static String tensorA(String module) {
    return "base_model.model." + module + ".lora_A.weight";
  }

  /** Name of B [out, r] of a module such as {@code model.layers.0.self_attn.q_proj}. */
  public static String tensorB(String module) {
    return "base_model.model." + module + ".lora_B.weight";
  }

  /**
   * Opens an adapter and holds it to the base model.
   *
   * @param linears the base model's linear modules by name, such as {@code
   *     model.layers.0.self_attn.q_proj}
   * @throws UserException naming the key of an unsupported feature, or the tensors that are
   *     missing, unexpected or of another shape
   */
  public static PeftAdapter open(Path directory, Map<String, LinearShape> linears) {
    PeftConfig config = readConfig(directory.resolve(CONFIG_FILE));
    Path path = directory.resolve(WEIGHTS_FILE);
    SortedMap<String, List<Long>> expected = new TreeMap<>();
    for (TensorSpec spec : specs(config, linears, StoredDtype.F32, path.toString())) {
      expected.put(spec.name(), spec.shape());
    }
    SafetensorsFile weights = SafetensorsFile.open(path);
    try {
      check(path, weights, expected);
    } catch (RuntimeException e) {
      weights.close();
      throw e;
    }
    return new PeftAdapter(config, weights);
  }

  private static void check(
      Path path, SafetensorsFile weights, SortedMap<String, List<Long>> expected) {
    Set<String> missing = new TreeSet<>(expected.keySet());
    missing.removeAll(weights.names());
    Set<String> extra = new TreeSet<>(weights.names());
    extra.removeAll(expected.keySet());
    if (!missing.isEmpty() || !extra.isEmpty()) {
      throw new UserException(
          path
              + ": does not fit its configuration and the base model:"
              + (missing.isEmpty() ? "" : " missing " + some(missing))
              + (extra.isEmpty() ? "" : " unexpected " + some(extra))
              + "; give the adapter of this base model");
    }
    expected.forEach(
        (name, shape) -> {
          TensorInfo info = weights.info(name);
          if (!info.shape().equals(shape)) {
            throw new UserException(
                path
                    + ": tensor '"
                    + name
                    + "' has the shape "
                    + info.shape()
                    + " where "
                    + shape
                    + " is due; give the adapter of this base model");
          }
          if (!info.dtype().convertsToFloat()) {
            throw new UserException(
                path
                    + ": tensor '"
                    + name
                    + "' is of type "
                    + info.dtype()
                    + "; convert it to F32, BF16 or F16");
          }
        });
  }

  private static String some(Set<String> names) {
    int shown = 8;
    return names.stream().limit(shown).toList()
        + (names.size() > shown ? " and " + (names.size() - shown) + " more" : "");
  }

  /** What the adapter's configuration says. */
  public PeftConfig config() {
    return config;
  }

  /** Gives every value of every A and B, tensor by tensor. */
  public void read(FloatStream.Consumer consumer) {
    for (String name : weights.names()) {
      FloatStream.read(weights, name, consumer);
    }
  }

  @Override
  public void close() {
    weights.close();
  }

  /**
   * Writes an adapter that PEFT loads unchanged.
   *
   * @param linears the base model's linear modules by name; those {@link PeftConfig#targets} names
   *     are written
   * @param dtype F32, BF16 or F16
   * @param supplier gives the values of {@link #tensorA} and {@link #tensorB}, in order
   * @throws UserException if the configuration is impossible or targets no module
   * @throws IOException if writing fails
   */
  public static void write(
      OutputDirectory.Sink out,
      PeftConfig config,
      Map<String, LinearShape> linears,
      StoredDtype dtype,
      FloatStream.Supplier supplier)
      throws IOException {
    List<TensorSpec> specs = specs(config, linears, dtype, "the adapter to write");
    out.writeString(CONFIG_FILE, configJson(config));
    try (WritableByteChannel channel = out.open(WEIGHTS_FILE)) {
      SafetensorsWriter writer = new SafetensorsWriter(channel, specs);
      for (TensorSpec spec : specs) {
        FloatStream.write(writer, spec, supplier);
      }
      writer.finish();
    }
  }

  /** Bytes that {@link #write} puts on disk, to declare before writing. */
  public static long fileBytes(
      PeftConfig config, Map<String, LinearShape> linears, StoredDtype dtype) {
    return configJson(config).getBytes(StandardCharsets.UTF_8).length
        + SafetensorsWriter.fileBytes(specs(config, linears, dtype, "the adapter to write"));
  }

  private static List<TensorSpec> specs(
      PeftConfig config, Map<String, LinearShape> linears, StoredDtype dtype, String where) {
    List<TensorSpec> specs = new ArrayList<>();
    Set<String> unused = new TreeSet<>(config.targetModules());
    new TreeMap<>(linears)
        .forEach(
            (module, shape) -> {
              if (config.targets(module)) {
                specs.add(TensorSpec.of(tensorA(module), dtype, config.rank(), shape.in()));
                specs.add(TensorSpec.of(tensorB(module), dtype, shape.out(), config.rank()));
                unused.removeIf(t -> module.equals(t) || module.endsWith("." + t));
              }
            });
    if (specs.isEmpty() || !unused.isEmpty()) {
      throw new UserException(
          where
              + ": target_modules "
              + unused
              + " name no linear module of the base model; known are "
              + lastParts(linears.keySet()));
    }
    return specs;
  }

  private static Set<String> lastParts(Set<String> modules) {
    Set<String> parts = new TreeSet<>();
    modules.forEach(module -> parts.add(module.substring(module.lastIndexOf('.') + 1)));
    return parts;
  }

  private static String configJson(PeftConfig config) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    node.putObject("alpha_pattern");
    node.putNull("auto_mapping");
    if (config.baseModel().isEmpty()) {
      node.putNull("base_model_name_or_path");
    } else {
      node.put("base_model_name_or_path", config.baseModel());
    }
    node.put("bias", "none")
        .put("fan_in_fan_out", false)
        .put("inference_mode", true)
        .put("init_lora_weights", true)
        .putNull("layers_pattern")
        .putNull("layers_to_transform");
    if (config.alpha() == StrictMath.rint(config.alpha()) && config.alpha() <= Integer.MAX_VALUE) {
      node.put("lora_alpha", (int) config.alpha());
    } else {
      node.put("lora_alpha", config.alpha());
    }
    node.put("lora_dropout", config.dropout())
        .putNull("modules_to_save")
        .put("peft_type", "LORA")
        .put("r", config.rank());
    node.putObject("rank_pattern");
    node.putNull("revision");
    config.targetModules().forEach(node.putArray("target_modules")::add);
    node.put("task_type", "CAUSAL_LM")
        .put("use_dora", false)
        .put("use_rslora", config.rankStabilized());
    return JsonFiles.write(node);
  }

  private static PeftConfig readConfig(Path file) {
    StrictJson json = new StrictJson(file, JsonFiles.readObject(file));
    json.requireText("peft_type", "LORA");
    JsonNode task = json.take("task_type");
    if (task != null && !task.asText().equals("CAUSAL_LM")) {
      throw json.error("task_type", "is " + task + "; Lethe supports only 'CAUSAL_LM'");
    }
    json.requireText("bias", "none");
    // Other ways to initialise (pissa, olora, loftq, corda) also change the base model's weights.
    JsonNode init = json.take("init_lora_weights");
    if (init != null && !init.isBoolean() && !init.asText().equals("gaussian")) {
      throw json.error(
          "init_lora_weights",
          "is " + init + ", which changes the base model; convert the adapter to plain LoRA");
    }
    HARMLESS.forEach(json::take);
    JsonNode base = json.take("base_model_name_or_path");
    int rank = json.positiveInt("r");
    double alpha = json.positiveDouble("lora_alpha");
    JsonNode dropout = json.take("lora_dropout");
    double probability = dropout == null ? 0 : dropout.doubleValue();
    if (dropout != null && (!dropout.isNumber() || !(probability >= 0 && probability < 1))) {
      throw json.error("lora_dropout", "is " + dropout + "; it must lie in [0, 1)");
    }
    JsonNode rankStabilized = json.take("use_rslora");
    if (rankStabilized != null && !rankStabilized.isBoolean()) {
      throw json.error("use_rslora", "is " + rankStabilized + "; it must be true or false");
    }
    PeftConfig config =
        new PeftConfig(
            base == null ? "" : base.asText(),
            rank,
            alpha,
            probability,
            targetModules(json),
            rankStabilized != null && rankStabilized.booleanValue());
    requireOff(json);
    return config;
  }

  private static List<String> targetModules(StrictJson json) {
    JsonNode node = json.take("target_modules");
    Map<String, JsonNode> names = new LinkedHashMap<>();
    if (node != null && node.isArray()) {
      node.forEach(name -> names.put(name.asText(), name));
    }
    if (names.isEmpty() || names.values().stream().anyMatch(name -> !name.isTextual())) {
      throw json.error(
          "target_modules", "is " + node + "; Lethe supports only a list of module names");
    }
    return List.copyOf(names.keySet());
  }

  /** PEFT writes a null, false or empty value for every feature that is not used. */
  private static void requireOff(StrictJson json) {
    for (Map.Entry<String, JsonNode> entry : json.rest().properties()) {
      JsonNode value = entry.getValue();
      boolean off =
          value.isNull()
              || (value.isBoolean() && !value.booleanValue())
              || (value.isContainerNode() && value.isEmpty());
      if (!off) {
        throw json.error(
            entry.getKey(),
            "is " + value + ", a feature that Lethe does not support; give a plain LoRA adapter");
      }
    }
  }
}
