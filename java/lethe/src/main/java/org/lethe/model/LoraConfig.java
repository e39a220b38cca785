package org.lethe.model;

import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;

/**
 * Which linear modules of a model carry LoRA adapters, and how large: {@code y = x Wᵀ + scale ·
 * dropout(x) Aᵀ Bᵀ} (Hu et al. 2021, arXiv:2106.09685), scale = alpha / r, or alpha / √r when rank
 * stabilised (Kalajdzievski 2023, arXiv:2312.03732).
 *
 * <p>Ranks and alphas by pattern follow PEFT ({@code get_pattern_key} of huggingface/peft, {@code
 * src/peft/utils/other.py}): the first pattern, in order, that is the module's name or the end of
 * it behind a dot; Python's regular expressions.
 *
 * @param rank r of every adapter that no pattern names
 * @param alpha numerator of the scale of every adapter that no pattern names
 * @param rankStabilized whether the scale divides by √r in place of r
 * @param dropout probability in [0, 1) with which an input of an adapter is left out while training
 * @param rankPattern r of the modules that a pattern matches
 * @param alphaPattern alpha of the modules that a pattern matches
 */
public record LoraConfig(
    int rank,
    double alpha,
    boolean rankStabilized,
    double dropout,
    LoraTargets targets,
    Map<String, Integer> rankPattern,
    Map<String, Double> alphaPattern) {

  /**
   * One module's adapter.
   *
   * @param rank rows of A, columns of B
   * @param scale what its output is multiplied by
   */
  public record Adapter(int rank, double scale) {}

  public LoraConfig {
    rankPattern = Collections.unmodifiableMap(new LinkedHashMap<>(rankPattern));
    alphaPattern = Collections.unmodifiableMap(new LinkedHashMap<>(alphaPattern));
    requireRank("lora.rank", rank);
    requireAlpha("lora.alpha", alpha);
    if (!(dropout >= 0 && dropout < 1)) {
      throw new UserException("lora.dropout is " + dropout + ", must be in [0, 1)");
    }
    rankPattern.forEach((key, r) -> requireRank(pattern("lora.rank_pattern", key), r));
    alphaPattern.forEach((key, a) -> requireAlpha(pattern("lora.alpha_pattern", key), a));
    ends(rankPattern, "lora.rank_pattern");
    ends(alphaPattern, "lora.alpha_pattern");
  }

  /** Adapters of one size, without dropout, on the modules of these names. */
  public LoraConfig(int rank, double alpha, List<String> targets) {
    this(rank, alpha, false, 0, LoraTargets.named(targets), Map.of(), Map.of());
    if (targets.isEmpty()) {
      throw new UserException("lora.targets names no module; name at least one");
    }
  }

  /** Adapters of one size, without dropout, on every linear module of the layers. */
  public static LoraConfig all(int rank, double alpha) {
    return new LoraConfig(rank, alpha, false, 0, LoraTargets.ALL, Map.of(), Map.of());
  }

  /** The same adapters on other targets. */
  public LoraConfig withTargets(LoraTargets other) {
    return new LoraConfig(rank, alpha, rankStabilized, dropout, other, rankPattern, alphaPattern);
  }

  /** The same adapters of another size, where no pattern names one. */
  public LoraConfig withRank(int other) {
    return new LoraConfig(
        other, alpha, rankStabilized, dropout, targets, rankPattern, alphaPattern);
  }

  /** The factor of the output of every adapter that no pattern names. */
  public double scale() {
    return scale(rank, alpha);
  }

  /**
   * The adapters of a model.
   *
   * @param modules all of its linear modules by Hugging Face's names
   * @return those that get one, in the given order; never empty
   * @throws UserException when a name or the pattern finds none, naming what there is
   */
  public Map<String, Adapter> resolve(Collection<String> modules) {
    List<String> unknown = targets.unknownAmong(modules);
    Map<String, Adapter> adapters = among(modules);
    if (!unknown.isEmpty() || adapters.isEmpty()) {
      throw new UserException(
          "the LoRA targets "
              + (unknown.isEmpty() ? describe(targets) : unknown)
              + " name no linear module of this model; name some of "
              + lastParts(modules));
    }
    return adapters;
  }

  /** The adapters of some of a model's modules, possibly none, in the given order. */
  public Map<String, Adapter> among(Collection<String> modules) {
    Map<String, PythonPattern> ranks = ends(rankPattern, "lora.rank_pattern");
    Map<String, PythonPattern> alphas = ends(alphaPattern, "lora.alpha_pattern");
    Map<String, Adapter> adapters = new LinkedHashMap<>();
    for (String module : targets.among(modules)) {
      int r = first(ranks, rankPattern, module, rank);
      adapters.put(module, new Adapter(r, scale(r, first(alphas, alphaPattern, module, alpha))));
    }
    return adapters;
  }

  /**
   * Refuses what a resolved configuration would leave without effect: a pattern that matches no
   * adapted module, a layer that has none. PEFT lets it pass; who writes it has misspelt it.
   */
  public void requireAllUsed(Collection<String> modules) {
    Collection<String> adapted = resolve(modules).keySet();
    for (Map<String, PythonPattern> patterns :
        List.of(ends(rankPattern, "lora.rank_pattern"), ends(alphaPattern, "lora.alpha_pattern"))) {
      patterns.forEach(
          (key, pattern) -> {
            if (adapted.stream().noneMatch(pattern::match)) {
              throw new UserException(
                  "the pattern '"
                      + key
                      + "' of lora.rank_pattern or lora.alpha_pattern matches no adapted module;"
                      + " they are "
                      + lastParts(adapted));
            }
          });
    }
    for (int layer : targets.layers()) {
      LoraTargets alone =
          new LoraTargets(
              targets.names(),
              targets.regex(),
              targets.excludedNames(),
              targets.excludedRegex(),
              List.of(layer),
              targets.layersPattern());
      if (alone.among(modules).isEmpty()) {
        throw new UserException(
            "lora.layers names layer " + layer + ", which has no such module; layers count from 0");
      }
    }
  }

  /** The last parts of module names, each once, in order. */
  static List<String> lastParts(Collection<String> modules) {
    return modules.stream().map(m -> m.substring(m.lastIndexOf('.') + 1)).distinct().toList();
  }

  /** The factor of the output of an adapter of this rank and alpha. */
  public double scale(int ofRank, double ofAlpha) {
    return ofAlpha / (rankStabilized ? StrictMath.sqrt(ofRank) : ofRank);
  }

  private static String describe(LoraTargets targets) {
    return targets.regex().map(r -> "'" + r + "'").orElse("")
        + (targets.names().isEmpty() ? "" : targets.names())
        + (targets.isAll() ? "(all)" : "")
        + (targets.layers().isEmpty() ? "" : " in layers " + targets.layers())
        + (targets.excludedNames().isEmpty() ? "" : " without " + targets.excludedNames())
        + targets.excludedRegex().map(r -> " without '" + r + "'").orElse("");
  }

  private static Map<String, PythonPattern> ends(Map<String, ?> patterns, String key) {
    Map<String, PythonPattern> compiled = new LinkedHashMap<>();
    patterns
        .keySet()
        .forEach(p -> compiled.put(p, PythonPattern.of("(.*\\.)?(" + p + ")$", pattern(key, p))));
    return compiled;
  }

  private static <T> T first(
      Map<String, PythonPattern> patterns, Map<String, T> values, String module, T otherwise) {
    for (Map.Entry<String, PythonPattern> pattern : patterns.entrySet()) {
      if (pattern.getValue().match(module)) {
        return values.get(pattern.getKey());
      }
    }
    // PEFT's rule falls back on the name itself, which may be a key that is no working pattern.
    return values.getOrDefault(module, otherwise);
  }

  private static String pattern(String key, String pattern) {
    return key + " '" + pattern + "'";
  }

  private static void requireRank(String key, int rank) {
    if (rank < 1) {
      throw new UserException(key + " is " + rank + ", must be at least 1");
    }
  }

  private static void requireAlpha(String key, double alpha) {
    if (!(alpha > 0) || Double.isInfinite(alpha)) {
      throw new UserException(key + " is " + alpha + ", must be above 0");
    }
  }
}
