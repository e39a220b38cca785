package org.lethe.method;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.lethe.UserException;

/**
 * Something that a loss may be asked for.
 *
 * @param name its key below {@code method.forget_options} or {@code method.retain_options}
 * @param meaning for people, a phrase
 * @param standard the default, as it would be written
 * @param source where the default comes from
 * @param above numbers are above it, or at least it
 * @param including whether {@code above} itself is allowed
 * @param most numbers are at most it; ∞ where nothing bounds them
 * @param choices of a choice, lower case; else empty
 */
public record Option(
    String name,
    Type type,
    String meaning,
    String standard,
    String source,
    double above,
    boolean including,
    double most,
    List<String> choices) {
  private static final double UNBOUNDED = Double.POSITIVE_INFINITY;

  /** What an option's values are. */
  public enum Type {
    NUMBER,
    WHOLE,
    CHOICE,
    FLAG
  }

  public Option {
    choices = List.copyOf(choices);
  }

  /** A number above {@code above}. */
  static Option above(double above, String name, double standard, String meaning, String source) {
    return new Option(
        name, Type.NUMBER, meaning, text(standard), source, above, false, UNBOUNDED, List.of());
  }

  /** A number of at least {@code least}. */
  static Option atLeast(double least, String name, double standard, String meaning, String source) {
    return new Option(
        name, Type.NUMBER, meaning, text(standard), source, least, true, UNBOUNDED, List.of());
  }

  /** Any finite number. */
  static Option number(String name, double standard, String meaning, String source) {
    return new Option(
        name,
        Type.NUMBER,
        meaning,
        text(standard),
        source,
        -UNBOUNDED,
        false,
        UNBOUNDED,
        List.of());
  }

  /** A whole number of at least {@code least}. */
  static Option whole(int least, String name, int standard, String meaning, String source) {
    return new Option(
        name,
        Type.WHOLE,
        meaning,
        Integer.toString(standard),
        source,
        least,
        true,
        Integer.MAX_VALUE,
        List.of());
  }

  /** True or false. */
  static Option flag(String name, boolean standard, String meaning, String source) {
    return new Option(
        name,
        Type.FLAG,
        meaning,
        Boolean.toString(standard),
        source,
        -UNBOUNDED,
        false,
        UNBOUNDED,
        List.of("true", "false"));
  }

  /** One of some values of an enum. */
  @SafeVarargs
  @SuppressWarnings("varargs") // The values are only read.
  static <E extends Enum<E>> Option choice(
      String name, E standard, String meaning, String source, E... values) {
    return new Option(
        name,
        Type.CHOICE,
        meaning,
        text(standard),
        source,
        -UNBOUNDED,
        false,
        UNBOUNDED,
        Arrays.stream(values).map(Option::text).toList());
  }

  /** β of the losses that the literature gives 0.1. */
  static Option beta(String source) {
    return above(0, "beta", Loss.DEFAULT_BETA, "inverse temperature of the preference", source);
  }

  /** The rows a loss over labels looks at. */
  static Option positions(Positions standard, String source) {
    return choice(
        "positions",
        standard,
        "rows the loss looks at",
        source,
        Positions.ANSWER,
        Positions.ALL,
        Positions.SPANS);
  }

  /** The same with an upper bound, which is allowed. */
  Option atMost(double bound) {
    return new Option(name, type, meaning, standard, source, above, including, bound, choices);
  }

  /** The allowed values, for people: "above 0". */
  public String range() {
    if (!choices.isEmpty()) {
      return String.join(", ", choices);
    }
    String what = type == Type.WHOLE ? "a whole number" : "a number";
    String low = above == -UNBOUNDED ? "" : (including ? " of at least " : " above ") + text(above);
    boolean bounded = most < (type == Type.WHOLE ? Integer.MAX_VALUE : UNBOUNDED);
    return what + low + (bounded ? (low.isEmpty() ? "" : " and") + " at most " + text(most) : "");
  }

  /**
   * The value as it is kept.
   *
   * @param key full name, for messages
   * @throws UserException when it is none of the allowed
   */
  String checked(String key, Setting given) {
    String value = given.text().strip().toLowerCase(Locale.ROOT);
    if (!(choices.isEmpty() ? inRange(value) : choices.contains(value))) {
      throw new UserException(
          given.place()
              + key
              + " is "
              + given.text()
              + "; give "
              + (choices.isEmpty() ? "" : "one of ")
              + range()
              + ", or leave it out for "
              + standard
              + " ("
              + source
              + ")");
    }
    return value;
  }

  private boolean inRange(String text) {
    double value;
    try {
      value = type == Type.WHOLE ? Integer.parseInt(text) : Double.parseDouble(text);
    } catch (NumberFormatException e) {
      return false;
    }
    return Double.isFinite(value) && (including ? value >= above : value > above) && value <= most;
  }

  private static String text(double value) {
    return value == StrictMath.rint(value) && StrictMath.abs(value) < 1e9
        ? Long.toString((long) value)
        : Double.toString(value);
  }

  private static String text(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }
}
