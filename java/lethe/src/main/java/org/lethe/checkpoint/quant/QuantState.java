package org.lethe.checkpoint.quant;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * What a 4-bit weight says of itself: the JSON that bitsandbytes keeps as bytes in {@code
 * W.quant_state.bitsandbytes__nf4} ({@code QuantState.as_dict} and {@code pack_dict_to_tensor}).
 *
 * @param code of the weight
 * @param blockSize elements that share a scale
 * @param dtype float32, float16 or bfloat16: what the weight was, and what it becomes again
 * @param shape of the weight
 * @param nested how the scales are quantised in their turn, if they are
 */
public record QuantState(
    FourBit code, int blockSize, String dtype, List<Long> shape, Optional<Nested> nested) {
  private static final Set<String> DTYPES = Set.of("float32", "float16", "bfloat16");
  private static final Set<String> KEYS =
      Set.of(
          "quant_type",
          "blocksize",
          "dtype",
          "shape",
          "nested_blocksize",
          "nested_dtype",
          "nested_offset");
  private static final JsonMapper MAPPER =
      JsonMapper.builder().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS).build();

  /**
   * Double quantisation.
   *
   * @param blockSize scales that share a scale
   * @param offset added to each
   */
  public record Nested(int blockSize, float offset) {}

  public QuantState {
    shape = List.copyOf(shape);
  }

  /** The product of the shape. */
  public long elements() {
    long product = 1;
    for (long size : shape) {
      product = Math.multiplyExact(product, size);
    }
    return product;
  }

  /** The bytes Python's {@code json.dumps} gives for the same dictionary. */
  public byte[] json() {
    StringBuilder text = new StringBuilder();
    text.append("{\"quant_type\": \"").append(code.tag()).append("\", \"blocksize\": ");
    text.append(blockSize).append(", \"dtype\": \"").append(dtype).append("\", \"shape\": ");
    text.append(shape);
    nested.ifPresent(
        n ->
            text.append(", \"nested_blocksize\": ")
                .append(n.blockSize())
                .append(", \"nested_dtype\": \"float32\", \"nested_offset\": ")
                .append(python(n.offset())));
    return text.append('}').toString().getBytes(StandardCharsets.UTF_8);
  }

  /** The shortest decimal of a double, as Python writes it. JDK 17's own is not always shortest. */
  static String python(double value) {
    if (value == 0) {
      return 1 / value < 0 ? "-0.0" : "0.0";
    }
    BigDecimal exact = new BigDecimal(value);
    BigDecimal shortest = exact;
    for (int digits = 1; digits <= 17; digits++) {
      shortest = exact.round(new MathContext(digits, RoundingMode.HALF_EVEN));
      if (shortest.doubleValue() == value) {
        break;
      }
    }
    shortest = shortest.stripTrailingZeros();
    int exponent = shortest.precision() - shortest.scale() - 1;
    if (exponent >= -4 && exponent < 16) {
      String plain = shortest.toPlainString();
      return plain.contains(".") ? plain : plain + ".0";
    }
    String digits = shortest.unscaledValue().abs().toString();
    String mantissa = digits.length() == 1 ? digits : digits.charAt(0) + "." + digits.substring(1);
    String size = (Math.abs(exponent) < 10 ? "0" : "") + Math.abs(exponent);
    return (value < 0 ? "-" : "") + mantissa + "e" + (exponent < 0 ? "-" : "+") + size;
  }

  /**
   * Reads the bytes.
   *
   * @param code as the tensor's name says
   * @throws IllegalArgumentException saying what is wrong with which key
   */
  public static QuantState parse(FourBit code, byte[] bytes) {
    JsonNode node;
    try {
      node = MAPPER.readTree(new String(bytes, StandardCharsets.UTF_8));
    } catch (JsonProcessingException e) {
      throw new IllegalArgumentException("is not valid JSON (" + e.getOriginalMessage() + ")", e);
    }
    if (!node.isObject()) {
      throw new IllegalArgumentException("is no JSON object");
    }
    for (Map.Entry<String, JsonNode> entry : node.properties()) {
      if (!KEYS.contains(entry.getKey())) {
        throw new IllegalArgumentException("has the unknown key '" + entry.getKey() + "'");
      }
    }
    requireText(node, "quant_type", Set.of(code.tag()));
    int blockSize = positive(node, "blocksize");
    if (!FourBitBlocks.allows(blockSize)) {
      throw new IllegalArgumentException(
          "has blocksize " + blockSize + ", which must be a power of two from 32 to 4096");
    }
    requireText(node, "dtype", DTYPES);
    String dtype = node.get("dtype").textValue();
    QuantState state = new QuantState(code, blockSize, dtype, shape(node), nest(node));
    try {
      state.elements();
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException("has an impossible shape, " + state.shape(), e);
    }
    return state;
  }

  private static List<Long> shape(JsonNode node) {
    JsonNode sizes = node.path("shape");
    List<Long> shape = new ArrayList<>();
    for (JsonNode size : sizes) {
      if (!size.isInt() || size.intValue() <= 0) {
        throw new IllegalArgumentException("has the shape " + sizes + ", which must be positive");
      }
      shape.add(size.longValue());
    }
    if (!sizes.isArray() || shape.isEmpty()) {
      throw new IllegalArgumentException("has no list of sizes under 'shape'");
    }
    return shape;
  }

  private static Optional<Nested> nest(JsonNode node) {
    long given = KEYS.stream().filter(key -> key.startsWith("nested_") && node.has(key)).count();
    if (given == 0) {
      return Optional.empty();
    }
    requireText(node, "nested_dtype", Set.of("float32"));
    JsonNode offset = node.path("nested_offset");
    float value = (float) offset.doubleValue();
    if (!offset.isNumber() || !Float.isFinite(value)) {
      throw new IllegalArgumentException("has no finite number under 'nested_offset'");
    }
    return Optional.of(new Nested(positive(node, "nested_blocksize"), value));
  }

  private static int positive(JsonNode node, String key) {
    JsonNode value = node.path(key);
    if (!value.isInt() || value.intValue() <= 0) {
      throw new IllegalArgumentException("has no positive whole number under '" + key + "'");
    }
    return value.intValue();
  }

  private static void requireText(JsonNode node, String key, Set<String> allowed) {
    if (!allowed.contains(node.path(key).asText())) {
      throw new IllegalArgumentException(
          "has "
              + (node.has(key) ? node.get(key) : "nothing")
              + " under '"
              + key
              + "', not "
              + String.join(" or ", allowed.stream().sorted().toList()));
    }
  }
}
