package org.lethe.checkpoint;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.lethe.UserException;
import org.lethe.model.LoraConfig;

/**
 * Holds an adapter's tensors to its configuration and to the base model: every target has its A [r,
 * in] and B [out, r], nothing is left over. PEFT itself only warns of tensors that are missing.
 */
final class AdapterTensors {
  private static final int SHOWN = 8;

  private AdapterTensors() {}

  /**
   * @param path of the tensors
   * @param adapters rank and scale of each adapted module
   * @param linears shapes of the base model's modules
   * @throws UserException naming the tensors
   */
  static void check(
      Path path,
      PeftConfig config,
      Map<String, LoraConfig.Adapter> adapters,
      Map<String, LinearShape> linears,
      SafetensorsFile weights) {
    Set<String> expected = new TreeSet<>();
    for (String module : adapters.keySet()) {
      expected.add(PeftAdapter.tensorA(module));
      expected.add(PeftAdapter.tensorB(module));
    }
    Set<String> missing = new TreeSet<>(expected);
    missing.removeAll(weights.names());
    Set<String> extra = new TreeSet<>(weights.names());
    extra.removeAll(expected);
    if (!missing.isEmpty() || !extra.isEmpty()) {
      throw new UserException(
          path
              + ": does not fit its configuration and the base model:"
              + (missing.isEmpty() ? "" : " missing " + some(missing))
              + (extra.isEmpty() ? "" : " unexpected " + some(extra) + hint(extra))
              + "; "
              + remedy(config));
    }
    adapters.forEach(
        (module, adapter) -> {
          LinearShape shape = linears.get(module);
          String a = PeftAdapter.tensorA(module);
          String b = PeftAdapter.tensorB(module);
          requireFloats(path, a, weights.info(a));
          requireFloats(path, b, weights.info(b));
          requireRank(path, a, weights.info(a), 0, adapter.rank());
          requireRank(path, b, weights.info(b), 1, adapter.rank());
          requireShape(
              path, config, a, weights.info(a), List.of((long) adapter.rank(), shape.in()));
          requireShape(
              path, config, b, weights.info(b), List.of(shape.out(), (long) adapter.rank()));
        });
  }

  private static void requireFloats(Path path, String name, TensorInfo info) {
    if (!info.dtype().convertsToFloat()) {
      throw new UserException(
          path
              + ": tensor '"
              + name
              + "' is of type "
              + info.dtype()
              + "; convert it to F32, BF16 or F16");
    }
  }

  private static void requireRank(Path path, String name, TensorInfo info, int axis, int rank) {
    if (info.shape().size() == 2 && info.shape().get(axis) != rank) {
      throw new UserException(
          path
              + ": tensor '"
              + name
              + "' has the shape "
              + info.shape()
              + ", which is rank "
              + info.shape().get(axis)
              + "; "
              + PeftAdapter.CONFIG_FILE
              + " says "
              + rank
              + " (r, or rank_pattern); they must belong together, get both again");
    }
  }

  private static void requireShape(
      Path path, PeftConfig config, String name, TensorInfo info, List<Long> shape) {
    if (!info.shape().equals(shape)) {
      throw new UserException(
          path
              + ": tensor '"
              + name
              + "' has the shape "
              + info.shape()
              + " where the base model asks for "
              + shape
              + "; "
              + remedy(config));
    }
  }

  private static String remedy(PeftConfig config) {
    return "give an adapter of this base model"
        + (config.baseModel().isEmpty()
            ? ""
            : " (this one was made for " + config.baseModel() + ")");
  }

  /** What tensors that are no pair of a linear module come from. */
  private static String hint(Set<String> extra) {
    String names = String.join(" ", extra);
    Map<String, String> kinds =
        Map.of(
            "lora_embedding_", "adapters of an embedding",
            "lora_magnitude_vector", "DoRA",
            "lora_B.bias", "lora_bias",
            ".default.weight", "names with the adapter's own name in them, not made by PEFT");
    List<String> found =
        kinds.entrySet().stream()
            .filter(kind -> names.contains(kind.getKey()))
            .map(Map.Entry::getValue)
            .sorted()
            .toList();
    boolean whole = Arrays.stream(names.split(" ", -1)).anyMatch(n -> !n.contains(".lora_"));
    if (found.isEmpty() && !whole) {
      return "";
    }
    return " (" + (found.isEmpty() ? "modules_to_save" : String.join(", ", found)) + ")";
  }

  private static String some(Set<String> names) {
    return names.stream().limit(SHOWN).toList()
        + (names.size() > SHOWN ? " and " + (names.size() - SHOWN) + " more" : "");
  }
}
