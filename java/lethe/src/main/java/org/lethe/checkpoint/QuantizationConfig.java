package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.checkpoint.quant.FourBit;

/**
 * The {@code quantization_config} of a {@code config.json}, as transformers' {@code
 * BitsAndBytesConfig} writes it: 4-bit weights (NF4, FP4) or LLM.int8().
 *
 * <p>{@code llm_int8_threshold} and the compute types say how activations are treated when
 * bitsandbytes multiplies; Lethe multiplies with the dequantised weights and does not need them.
 * Which modules are quantised ({@code llm_int8_skip_modules}) is read from the tensors themselves.
 *
 * @param fourBit whether weights are 4-bit; else 8-bit
 */
record QuantizationConfig(boolean fourBit) {
  static final String KEY = "quantization_config";

  private static final String METHOD = "bitsandbytes";

  /** Keys that leave the weights' values alone. */
  private static final Set<String> HARMLESS =
      Set.of(
          "bnb_4bit_compute_dtype",
          "bnb_4bit_quant_storage",
          "bnb_4bit_use_double_quant",
          "llm_int8_enable_fp32_cpu_offload",
          "llm_int8_skip_modules",
          "llm_int8_threshold");

  /**
   * Reads the key from a model's config.json; empty if the model is not quantised.
   *
   * @throws UserException naming file and key, if the weights are quantised in a way Lethe does not
   *     read
   */
  static Optional<QuantizationConfig> read(Path directory) {
    Path file = directory.resolve(HuggingFaceConfig.FILE);
    return take(new JsonConfigKeys(file, JsonFiles.readObject(file)));
  }

  /** The same, from a file whose keys are being taken. */
  static Optional<QuantizationConfig> take(JsonConfigKeys json) {
    JsonNode node = json.take(KEY);
    if (node == null) {
      return Optional.empty();
    }
    if (!(node instanceof ObjectNode object)) {
      throw json.error(KEY, "must be an object; get the file again");
    }
    method(json, object);
    boolean fourBit = either(json, object, "load_in_4bit");
    boolean eightBit = either(json, object, "load_in_8bit");
    if (fourBit == eightBit) {
      throw json.error(
          KEY,
          "says "
              + (fourBit ? "both" : "neither")
              + " load_in_4bit and load_in_8bit; keep the one that the weights are stored in");
    }
    if (flag(json, object, "llm_int8_has_fp16_weight") && eightBit) {
      throw json.error(
          KEY + ".llm_int8_has_fp16_weight",
          "is true: the weights are fp16 and only multiplied in 8 bits; remove "
              + KEY
              + " to load them as they are");
    }
    JsonNode type = object.path("bnb_4bit_quant_type");
    if (fourBit && !type.isMissingNode() && fourBit(type.asText()).isEmpty()) {
      throw json.error(KEY + ".bnb_4bit_quant_type", "is " + type + "; Lethe reads nf4 and fp4");
    }
    return Optional.of(new QuantizationConfig(fourBit));
  }

  private static void method(JsonConfigKeys json, ObjectNode object) {
    JsonNode method = object.path("quant_method");
    // The key came with transformers 4.32; older files have only the two flags.
    if (!method.isMissingNode() && !method.asText().equals(METHOD)) {
      throw json.error(
          KEY + ".quant_method",
          "is "
              + method
              + "; Lethe reads "
              + METHOD
              + ", take the model's unquantised weights or ones quantised with it");
    }
    for (Map.Entry<String, JsonNode> entry : object.properties()) {
      String key = entry.getKey();
      boolean known =
          HARMLESS.contains(key)
              || List.of(
                      "quant_method",
                      "load_in_4bit",
                      "_load_in_4bit",
                      "load_in_8bit",
                      "_load_in_8bit",
                      "llm_int8_has_fp16_weight",
                      "bnb_4bit_quant_type")
                  .contains(key);
      if (!known) {
        throw json.error(
            KEY + "." + key,
            "is not known to Lethe, which cannot tell whether it changes the weights; remove it if"
                + " it does not");
      }
    }
  }

  /** transformers writes the flags twice, once with an underscore. */
  private static boolean either(JsonConfigKeys json, ObjectNode object, String key) {
    boolean plain = flag(json, object, key);
    boolean underscored = flag(json, object, "_" + key);
    return plain || underscored;
  }

  private static boolean flag(JsonConfigKeys json, ObjectNode object, String key) {
    JsonNode node = object.path(key);
    if (node.isMissingNode() || node.isNull()) {
      return false;
    }
    if (!node.isBoolean()) {
      throw json.error(KEY + "." + key, "is " + node + "; it must be true or false");
    }
    return node.booleanValue();
  }

  static Optional<FourBit> fourBit(String tag) {
    for (FourBit code : FourBit.values()) {
      if (code.tag().equals(tag.toLowerCase(Locale.ROOT))) {
        return Optional.of(code);
      }
    }
    return Optional.empty();
  }

  /**
   * The object transformers 4 and 5 load the weights by.
   *
   * @param dtype of the model, as config.json spells it
   * @param skipped modules that stay as they are, the output head among them
   */
  static void put(ObjectNode config, Quantization scheme, String dtype, List<String> skipped) {
    boolean fourBit = scheme.fourBit().isPresent();
    ObjectNode node =
        config
            .putObject(KEY)
            .put("_load_in_4bit", fourBit)
            .put("_load_in_8bit", !fourBit)
            .put("bnb_4bit_compute_dtype", fourBit ? dtype : "float32")
            .put("bnb_4bit_quant_storage", "uint8")
            .put("bnb_4bit_quant_type", scheme.fourBit().orElse(FourBit.FP4).tag())
            .put("bnb_4bit_use_double_quant", scheme.nested())
            .put("llm_int8_enable_fp32_cpu_offload", false)
            .put("llm_int8_has_fp16_weight", false);
    skipped.forEach(node.putArray("llm_int8_skip_modules")::add);
    node.put("llm_int8_threshold", 6.0)
        .put("load_in_4bit", fourBit)
        .put("load_in_8bit", !fourBit)
        .put("quant_method", METHOD);
  }
}
