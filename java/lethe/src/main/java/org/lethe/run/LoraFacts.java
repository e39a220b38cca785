package org.lethe.run;

import java.util.Collection;
import java.util.Map;
import java.util.stream.Collectors;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;

/** What {@code inspect} tells of an adapter's settings. */
final class LoraFacts {
  private LoraFacts() {}

  /** The settings, and what they come to in the modules that are known. */
  static void put(
      Map<String, Object> facts, LoraConfig lora, Map<String, LoraConfig.Adapter> adapters) {
    put(facts, lora);
    facts.put(
        "scale", distinct(adapters.values().stream().map(LoraConfig.Adapter::scale).toList()));
    if (!lora.rankPattern().isEmpty()) {
      facts.put(
          "ranks", distinct(adapters.values().stream().map(LoraConfig.Adapter::rank).toList()));
    }
  }

  /** The settings. */
  static void put(Map<String, Object> facts, LoraConfig lora) {
    LoraTargets targets = lora.targets();
    facts.put("rank", lora.rank());
    facts.put("alpha", lora.alpha());
    facts.put("rank_stabilized", lora.rankStabilized());
    facts.put("dropout", lora.dropout());
    facts.put(
        "targets",
        targets
            .regex()
            .orElse(targets.isAll() ? "all-linear" : String.join(", ", targets.names())));
    if (!targets.layers().isEmpty()) {
      facts.put("layers", join(targets.layers()));
    }
    if (!targets.excludedNames().isEmpty() || targets.excludedRegex().isPresent()) {
      facts.put(
          "excluded", targets.excludedRegex().orElse(String.join(", ", targets.excludedNames())));
    }
    if (!lora.rankPattern().isEmpty()) {
      facts.put("rank_pattern", lora.rankPattern().toString());
    }
    if (!lora.alphaPattern().isEmpty()) {
      facts.put("alpha_pattern", lora.alphaPattern().toString());
    }
  }

  /** One value where all are equal, as is usual. */
  private static Object distinct(Collection<? extends Comparable<?>> values) {
    var distinct = values.stream().distinct().sorted().toList();
    return distinct.size() == 1 ? distinct.get(0) : join(distinct);
  }

  private static String join(Collection<?> values) {
    return values.stream().map(Object::toString).collect(Collectors.joining(", "));
  }
}
