package org.lethe.model;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Optional;
import java.util.function.Predicate;
import org.lethe.UserException;

/**
 * Which linear modules get an adapter, by PEFT's rules ({@code check_target_module_exists} of
 * huggingface/peft, {@code src/peft/tuners/tuners_utils.py}): what is excluded never does; then the
 * regular expression decides, or the names do, and the layers among what the last part of a name
 * found.
 *
 * @param names last parts of module names ({@code q_proj}, {@code self_attn.q_proj}) or whole
 *     names; empty without {@code regex}: every linear module of the layers
 * @param regex Python pattern over the whole name of a module, in place of {@code names}
 * @param excludedNames as {@code names}, for modules left out
 * @param excludedRegex as {@code regex}, for modules left out; in place of {@code excludedNames}
 * @param layers numbers of the layers that {@code names} are looked for in; empty: all. A module
 *     that is named whole is found in any layer
 * @param layersPattern Python patterns of what stands before a layer's number in a module's name
 *     ({@code layers}); empty: anything
 */
public record LoraTargets(
    List<String> names,
    Optional<String> regex,
    List<String> excludedNames,
    Optional<String> excludedRegex,
    List<Integer> layers,
    List<String> layersPattern) {

  /** Every linear module of the layers. */
  public static final LoraTargets ALL = named(List.of());

  private static final String LAYER = "layer";

  public LoraTargets {
    names = List.copyOf(names);
    excludedNames = List.copyOf(excludedNames);
    layers = List.copyOf(layers);
    layersPattern = List.copyOf(layersPattern);
    if (regex.isPresent() && !names.isEmpty()) {
      throw new UserException("a LoRA target is a pattern or a list of names; give one of them");
    }
    if (regex.isPresent() && !layers.isEmpty()) {
      throw new UserException(
          "layers of LoRA targets cannot stand beside a pattern, which names layers itself; give"
              + " one of them");
    }
    if (layers.isEmpty() && !layersPattern.isEmpty()) {
      throw new UserException("a pattern of layers needs the layers' numbers; give both");
    }
    if (excludedRegex.isPresent() && !excludedNames.isEmpty()) {
      throw new UserException("excluded modules are a pattern or a list; give one of them");
    }
    regex.ifPresent(r -> PythonPattern.of(r, "LoRA targets"));
    excludedRegex.ifPresent(r -> PythonPattern.of(r, "excluded LoRA targets"));
    layersPattern.forEach(p -> PythonPattern.of(layerPattern(p), "pattern of layers"));
  }

  /** Those with these last parts or whole names, in all layers. */
  public static LoraTargets named(List<String> names) {
    return new LoraTargets(
        names, Optional.empty(), List.of(), Optional.empty(), List.of(), List.of());
  }

  /** Those whose whole name matches a Python pattern. */
  public static LoraTargets matching(String regex) {
    return new LoraTargets(
        List.of(), Optional.of(regex), List.of(), Optional.empty(), List.of(), List.of());
  }

  /** Whether all linear modules are meant, but for those excluded or outside the layers. */
  public boolean isAll() {
    return names.isEmpty() && regex.isEmpty();
  }

  /** The same with other names in place of what was looked for. */
  public LoraTargets withNames(List<String> other) {
    return new LoraTargets(
        other, Optional.empty(), excludedNames, excludedRegex, layers, layersPattern);
  }

  /** The modules meant, in their order. */
  public List<String> among(Collection<String> modules) {
    Predicate<String> included = includes();
    Predicate<String> excluded = excludes();
    return modules.stream().filter(m -> !excluded.test(m) && included.test(m)).toList();
  }

  /** The names that are the last part of no module and no module's name. */
  public List<String> unknownAmong(Collection<String> modules) {
    return names.stream().filter(n -> modules.stream().noneMatch(m -> isNamed(m, n))).toList();
  }

  private Predicate<String> excludes() {
    if (excludedRegex.isPresent()) {
      return PythonPattern.of(excludedRegex.get(), "excluded LoRA targets")::fullMatch;
    }
    return module -> excludedNames.stream().anyMatch(name -> isNamed(module, name));
  }

  private Predicate<String> includes() {
    if (regex.isPresent()) {
      return PythonPattern.of(regex.get(), "LoRA targets")::fullMatch;
    }
    Predicate<String> inLayers = inLayers();
    if (names.isEmpty()) {
      return inLayers;
    }
    return module ->
        names.contains(module)
            || (names.stream().anyMatch(name -> isNamed(module, name)) && inLayers.test(module));
  }

  private Predicate<String> inLayers() {
    if (layers.isEmpty()) {
      return module -> true;
    }
    List<PythonPattern> patterns = new ArrayList<>();
    // The first number in the name is the layer's: a module within it may have a number, too.
    for (String p : layersPattern.isEmpty() ? List.of("") : layersPattern) {
      String python = layersPattern.isEmpty() ? anyLayer() : layerPattern(p);
      patterns.add(PythonPattern.of(python, "pattern of layers"));
    }
    return module -> {
      for (PythonPattern pattern : patterns) {
        if (pattern.match(module)) {
          String number = pattern.group(module, LAYER);
          return number != null && layers.contains(Integer.valueOf(number));
        }
      }
      return false;
    };
  }

  private static String anyLayer() {
    return ".*?\\.[^.]*\\.(?P<" + LAYER + ">\\d+)\\.";
  }

  private static String layerPattern(String pattern) {
    return "(?:^|.*?\\.)" + pattern + "\\.(?P<" + LAYER + ">\\d+)\\.";
  }

  private static boolean isNamed(String module, String name) {
    return module.equals(name) || module.endsWith("." + name);
  }
}
