package org.lethe.model.families;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.Set;
import org.lethe.model.ModelConfig.Sizes;
import org.lethe.model.Rotary;
import org.lethe.model.Rotary.Scaling;

/**
 * Reads rotary embeddings in both spellings: {@code rope_theta} with {@code rope_scaling}, as
 * transformers 4 writes them, and {@code rope_parameters} of transformers 5. Said twice, both must
 * mean the same; the base is assumed only for {@link #llama old Llamas}.
 *
 * <p>Parameters that differ from one type of layer to another, nested in {@code rope_parameters},
 * belong to families that Lethe does not compute and are refused.
 */
final class RotaryKeys {
  private static final Set<String> ANY = Set.of("default", "linear", "llama3", "longrope");
  private static final Set<String> PHI3 = Set.of("default", "longrope", "su", "yarn");

  private final ConfigKeys keys;
  private final Sizes sizes;
  private final Set<String> types;
  private final OptionalInt original;

  private RotaryKeys(ConfigKeys keys, Sizes sizes, Set<String> types, OptionalInt original) {
    this.keys = keys;
    this.sizes = sizes;
    this.types = types;
    this.original = original;
  }

  /** Base of the paper (Su et al. 2021), and the only one before {@code rope_theta} existed. */
  private static final double FIRST_BASE = 10000;

  /**
   * Of Llama, whose published files are older than {@code rope_theta} (Llama 2: transformers
   * 4.32.0.dev0): without it, and not in the spelling of transformers 5, the base is {@value
   * #FIRST_BASE}, as in every release of its class.
   */
  static Rotary llama(ConfigKeys keys, Sizes sizes) {
    boolean old = !keys.present("rope_theta") && !keys.present("rope_parameters");
    OptionalDouble base = old ? OptionalDouble.of(FIRST_BASE) : OptionalDouble.empty();
    return new RotaryKeys(keys, sizes, ANY, OptionalInt.empty()).read(1, false, base);
  }

  /** Of a family that turns heads whole. */
  static Rotary whole(ConfigKeys keys, Sizes sizes) {
    return new RotaryKeys(keys, sizes, ANY, OptionalInt.empty())
        .read(1, false, OptionalDouble.empty());
  }

  /**
   * Of a family that may turn a part of each head.
   *
   * @param partDefault what its class assumes when {@code partial_rotary_factor} is absent
   */
  static Rotary partial(ConfigKeys keys, Sizes sizes, double partDefault) {
    return new RotaryKeys(keys, sizes, ANY, OptionalInt.empty())
        .read(partDefault, true, OptionalDouble.empty());
  }

  /**
   * Of Phi-3, whose {@code original_max_position_embeddings} may stand beside the rest and then
   * rules, and whose old names {@code su} and {@code yarn} mean {@code longrope}.
   */
  static Rotary phi3(ConfigKeys keys, Sizes sizes) {
    OptionalInt original = keys.whole("original_max_position_embeddings");
    return new RotaryKeys(keys, sizes, PHI3, original).read(1, true, OptionalDouble.empty());
  }

  private record Said(String key, OptionalDouble theta, OptionalDouble part, Scaling scaling) {}

  private Rotary read(double partDefault, boolean mayBePartial, OptionalDouble thetaDefault) {
    List<Double> thetas = new ArrayList<>();
    List<Double> parts = new ArrayList<>();
    keys.positive("rope_theta").ifPresent(thetas::add);
    keys.positive("partial_rotary_factor").ifPresent(parts::add);
    List<Said> said = new ArrayList<>();
    for (String key : List.of("rope_parameters", "rope_scaling")) {
      keys.object(key).ifPresent(nested -> said.add(nested(key, nested)));
    }
    for (Said s : said) {
      s.theta().ifPresent(thetas::add);
      s.part().ifPresent(parts::add);
    }
    if (thetas.isEmpty()) {
      thetaDefault.ifPresent(thetas::add);
    }
    if (thetas.isEmpty()) {
      throw keys.error(
          "rope_theta",
          "is absent; add it (models from before the key existed were trained with 10000.0)");
    }
    double theta = same("rope_theta", thetas);
    double part = parts.isEmpty() ? partDefault : same("partial_rotary_factor", parts);
    if (part > 1 || (part != 1 && !mayBePartial)) {
      throw keys.error(
          "partial_rotary_factor",
          mayBePartial ? "must be at most 1" : "must be 1; this family turns heads whole");
    }
    if (said.size() > 1 && !said.get(0).scaling().equals(said.get(1).scaling())) {
      throw keys.error(
          "rope_scaling", "and 'rope_parameters' disagree; keep the right one, remove the other");
    }
    int width = (int) (sizes.headDim() * part);
    if (width < 2 || width % 2 != 0) {
      throw keys.error(
          "head_dim",
          "times partial_rotary_factor must be even for rotary embeddings, is " + width);
    }
    Scaling scaling = said.isEmpty() ? new Rotary.Unscaled() : said.get(0).scaling();
    if (scaling instanceof Rotary.LongRope r
        && (r.shortFactors().size() != width / 2 || r.longFactors().size() != width / 2)) {
      throw keys.error(
          said.get(0).key(),
          "must have " + width / 2 + " short_factor and long_factor, one for each frequency");
    }
    return new Rotary(theta, width, scaling);
  }

  private double same(String key, List<Double> values) {
    if (values.stream().distinct().count() > 1) {
      throw keys.error(key, "is given as " + values + "; keep the right one");
    }
    return values.get(0);
  }

  private Said nested(String key, ConfigKeys nested) {
    if (nested.present("full_attention") || nested.present("sliding_attention")) {
      throw keys.error(
          key, "differs from one type of layer to another, which this family does not; mend it");
    }
    List<String> named = new ArrayList<>();
    nested.text("rope_type").ifPresent(named::add);
    nested.text("type").ifPresent(named::add);
    if (named.isEmpty()) {
      throw nested.error("rope_type", "is absent; add it");
    }
    String type = named.get(0);
    if (named.stream().distinct().count() > 1) {
      throw nested.error("rope_type", "is given as " + named + "; keep the right one");
    }
    if (!types.contains(type)) {
      throw nested.error(
          "rope_type",
          "is '"
              + type
              + "'; Lethe computes for this family only "
              + List.copyOf(types).stream().sorted().toList()
              + ", choose another model");
    }
    OptionalDouble theta = nested.positive("rope_theta");
    OptionalDouble part = nested.positive("partial_rotary_factor");
    Scaling scaling =
        switch (type) {
          case "default" -> new Rotary.Unscaled();
          case "linear" -> new Rotary.Linear(nested.requirePositive("factor"));
          case "llama3" -> llama3(nested);
          default -> longRope(nested);
        };
    if (type.equals("default")) {
      // transformers 5 moves Phi-3's key here whatever the type.
      OptionalInt moved = nested.whole("original_max_position_embeddings");
      if (moved.isPresent() && types != PHI3) {
        throw nested.error(
            "original_max_position_embeddings", "is not known to Lethe for the type 'default'");
      }
    }
    nested.refuseRest();
    return new Said(key, theta, part, scaling);
  }

  private static Scaling llama3(ConfigKeys nested) {
    double low = nested.requirePositive("low_freq_factor");
    double high = nested.requirePositive("high_freq_factor");
    if (high <= low) {
      throw nested.error("high_freq_factor", "must be above low_freq_factor, " + low);
    }
    return new Rotary.Llama3(
        nested.requirePositive("factor"),
        low,
        high,
        nested.requireWhole("original_max_position_embeddings"));
  }

  /** The attention factor of LongRoPE: given, or √(1 + ln(factor) / ln(original length)). */
  private Scaling longRope(ConfigKeys nested) {
    OptionalInt inside = nested.whole("original_max_position_embeddings");
    if (inside.isPresent() && original.isPresent() && !inside.equals(original)) {
      throw nested.error(
          "original_max_position_embeddings",
          "and the key of the same name beside it disagree; keep the right one");
    }
    int length =
        original.isPresent()
            ? original.getAsInt()
            : inside.orElseThrow(
                () -> nested.error("original_max_position_embeddings", "is absent; add it"));
    double factor = nested.positive("factor").orElse((double) sizes.context() / length);
    double computed =
        factor <= 1 ? 1 : StrictMath.sqrt(1 + StrictMath.log(factor) / StrictMath.log(length));
    return new Rotary.LongRope(
        factors(nested, "short_factor"),
        factors(nested, "long_factor"),
        length,
        nested.positive("attention_factor").orElse(computed));
  }

  private static List<Double> factors(ConfigKeys nested, String key) {
    Optional<List<Double>> factors = nested.numbers(key);
    return factors.orElseThrow(() -> nested.error(key, "is absent; add it"));
  }
}
