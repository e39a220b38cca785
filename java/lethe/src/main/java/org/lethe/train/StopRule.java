package org.lethe.train;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.lethe.UserException;

/**
 * When a run has done enough, or went wrong: {@code forget.probability <= 0.05 and
 * retain.probability >= 0.9 for 2} stops it when both have held at two evaluations in a row.
 *
 * <p>A rule that names a score of an evaluation is looked at after each evaluation, any other after
 * each step. A score that is not a number holds for nothing.
 *
 * @param text as it was written
 * @param terms that must hold together
 * @param times in a row, at least 1
 */
public record StopRule(String text, List<Term> terms, int times) {
  /** Names that every step has a number for. */
  public static final Set<String> OF_A_STEP =
      Set.of("step", "epoch", "loss", "gradient_norm", "learning_rate");

  private static final Pattern TIMES = Pattern.compile("(.*\\S)\\s+for\\s+(\\d{1,6})");
  private static final Pattern TERM =
      Pattern.compile(
          "([a-z_]+(?:\\.[A-Za-z_0-9]+)?)\\s*(<=|>=|<|>)\\s*([-+]?[0-9.]+(?:[eE][-+]?\\d+)?)");

  /** A comparison of a named number with a bound. */
  public record Term(String name, String comparison, double bound) {
    boolean holds(Map<String, Double> values) {
      double value = values.getOrDefault(name, Double.NaN);
      return switch (comparison) {
        case "<=" -> value <= bound;
        case ">=" -> value >= bound;
        case "<" -> value < bound;
        default -> value > bound;
      };
    }
  }

  public StopRule {
    terms = List.copyOf(terms);
  }

  /**
   * Reads a rule.
   *
   * @param scores names that an evaluation gives numbers for, such as {@code forget.probability}
   * @param losses names of the method's losses, known as {@code loss.NAME}
   * @param key what messages call it
   */
  public static StopRule parse(String text, Set<String> scores, Set<String> losses, String key) {
    Matcher repeated = TIMES.matcher(text.strip());
    int times = repeated.matches() ? Integer.parseInt(repeated.group(2)) : 1;
    String conditions = repeated.matches() ? repeated.group(1) : text.strip();
    if (times == 0) {
      throw new UserException(key + ": '" + text + "': 'for 0' never holds; count from 1");
    }
    List<Term> terms = new ArrayList<>();
    for (String condition : conditions.split("\\s+and\\s+", -1)) {
      terms.add(term(condition, scores, losses, key));
    }
    return new StopRule(text.strip(), terms, times);
  }

  private static Term term(String condition, Set<String> scores, Set<String> losses, String key) {
    Matcher matcher = TERM.matcher(condition.strip());
    if (!matcher.matches()) {
      throw new UserException(
          key
              + ": '"
              + condition
              + "' is no condition; write NAME <= NUMBER (or <, >, >=), joined by and, for example"
              + " forget.probability <= 0.05 and retain.probability >= 0.9 for 2");
    }
    String name = matcher.group(1);
    boolean ofLoss = name.startsWith("loss.") && losses.contains(name.substring(5));
    if (!OF_A_STEP.contains(name) && !ofLoss && !scores.contains(name)) {
      throw new UserException(
          key
              + ": "
              + name
              + " is nothing that is measured; known are "
              + String.join(", ", OF_A_STEP.stream().sorted().toList())
              + losses.stream().sorted().map(l -> ", loss." + l).reduce("", String::concat)
              + " and the scores of the evaluated sets: "
              + String.join(", ", scores.stream().sorted().toList())
              + hint(name));
    }
    try {
      return new Term(name, matcher.group(2), Double.parseDouble(matcher.group(3)));
    } catch (NumberFormatException e) {
      throw new UserException(
          String.format(
              Locale.ROOT, "%s: %s is no number in '%s'", key, matcher.group(3), condition),
          e);
    }
  }

  private static String hint(String name) {
    return name.contains("extraction_likelihood") || name.contains("memorization_accuracy")
        ? "; this one is measured on forget and holdout when evaluate.extraction_n is above 0"
        : "";
  }

  /** Whether it waits for evaluations. */
  public boolean needsEvaluation() {
    return terms.stream()
        .anyMatch(t -> !OF_A_STEP.contains(t.name()) && !t.name().startsWith("loss."));
  }

  /** Whether all terms hold for these numbers. */
  boolean holds(Map<String, Double> values) {
    return terms.stream().allMatch(t -> t.holds(values));
  }
}
