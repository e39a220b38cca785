package org.lethe.method;

import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import org.lethe.UserException;

/**
 * A loss as configurations name it and as documentation shows it. Some names stand for several
 * weighted losses.
 *
 * @param title what the name stands for
 * @param formula in plain text
 * @param reduction how rows and sequences become one number, in words
 * @param source paper or code it was taken from
 * @param note where paper and code, or two codes, differ and which is the default; empty where they
 *     do not
 * @param coefficient its weight in the objective where none is configured
 * @param coefficientSource where that comes from
 * @param whole whether it is a complete objective, which takes no retain loss beside it
 */
public record LossSpec(
    String name,
    Side side,
    String title,
    String formula,
    String reduction,
    String source,
    String note,
    double coefficient,
    String coefficientSource,
    boolean whole,
    List<Option> options,
    Function<Options, List<Weighted>> create) {
  public LossSpec {
    options = List.copyOf(options);
  }

  /** One that makes a single loss, of weight 1 by default. */
  static LossSpec of(Side side, String name, String title, Function<Options, Loss> create) {
    return several(side, name, title, o -> List.of(new Weighted(1, create.apply(o))));
  }

  /** One that makes several losses. */
  static LossSpec several(
      Side side, String name, String title, Function<Options, List<Weighted>> create) {
    return new LossSpec(
        name, side, title, "", "", "", "", 1, "the objective's own", false, List.of(), create);
  }

  LossSpec formula(String text, String reduced) {
    return new LossSpec(
        name,
        side,
        title,
        text,
        reduced,
        source,
        note,
        coefficient,
        coefficientSource,
        whole,
        options,
        create);
  }

  LossSpec source(String text, String differences) {
    return new LossSpec(
        name,
        side,
        title,
        formula,
        reduction,
        text,
        differences,
        coefficient,
        coefficientSource,
        whole,
        options,
        create);
  }

  LossSpec coefficient(double weight, String from) {
    return new LossSpec(
        name, side, title, formula, reduction, source, note, weight, from, whole, options, create);
  }

  LossSpec options(Option... ofLoss) {
    return new LossSpec(
        name,
        side,
        title,
        formula,
        reduction,
        source,
        note,
        coefficient,
        coefficientSource,
        whole,
        List.of(ofLoss),
        create);
  }

  /** The same as a complete objective. */
  LossSpec complete() {
    return new LossSpec(
        name,
        side,
        title,
        formula,
        reduction,
        source,
        note,
        coefficient,
        coefficientSource,
        true,
        options,
        create);
  }

  /** Whether it has an option of that name. */
  public boolean has(String option) {
    return options.stream().anyMatch(o -> o.name().equals(option));
  }

  /** Whether an option of that name takes that value. */
  public boolean takes(String option, String value) {
    return options.stream()
        .anyMatch(
            o ->
                o.name().equals(option)
                    && (o.choices().isEmpty()
                        || o.choices().contains(value.toLowerCase(Locale.ROOT))));
  }

  /**
   * The losses.
   *
   * @throws UserException for an option it does not have, or a value out of range
   */
  List<Weighted> losses(Map<String, Setting> given) {
    return create.apply(Options.of(side.key() + "_options", name, options, given));
  }
}
