package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.lethe.model.LoraConfig;

/**
 * What {@code adapter_config.json} says of a LoRA adapter.
 *
 * @param baseModel {@code base_model_name_or_path}; empty if not known
 * @param lora ranks, scales, dropout and targets
 * @param others keys that change nothing in what a trained adapter computes ({@code revision},
 *     {@code peft_version}, ...), where they are not what Lethe writes by itself
 */
public record PeftConfig(String baseModel, LoraConfig lora, Map<String, JsonNode> others) {
  public PeftConfig {
    others = Collections.unmodifiableMap(new TreeMap<>(others));
  }

  /** An adapter of Lethe's own. */
  public PeftConfig(String baseModel, LoraConfig lora) {
    this(baseModel, lora, Map.of());
  }

  /**
   * The same with the targets' last parts written out where all are meant: what PEFT itself writes
   * for {@code all-linear}, and every reader knows.
   *
   * @param modules linear modules of the model
   */
  public PeftConfig named(Collection<String> modules) {
    if (!lora.targets().isAll()) {
      return this;
    }
    TreeSet<String> names = new TreeSet<>();
    lora.among(modules).keySet().forEach(m -> names.add(m.substring(m.lastIndexOf('.') + 1)));
    LoraConfig spelt = lora.withTargets(lora.targets().withNames(List.copyOf(names)));
    return new PeftConfig(baseModel, spelt, others);
  }
}
