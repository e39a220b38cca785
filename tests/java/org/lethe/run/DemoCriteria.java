package org.lethe.run;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.evaluate.Evaluation;

/** What every demo's table must show, whatever its seed. */
final class DemoCriteria {
  /** One criterion: {@code value} must lie in [least, most]; NaN never does. */
  record Check(String name, double value, double least, double most) {
    boolean holds() {
      return value >= least && value <= most;
    }

    /** How far the value is from the nearer limit; negative beyond it. */
    double margin() {
      double below = least == Double.NEGATIVE_INFINITY ? Double.POSITIVE_INFINITY : value - least;
      double above = most == Double.POSITIVE_INFINITY ? Double.POSITIVE_INFINITY : most - value;
      return Math.min(below, above);
    }

    @Override
    public String toString() {
      String limits =
          least == Double.NEGATIVE_INFINITY
              ? String.format(Locale.ROOT, "at most %.4f", most)
              : most == Double.POSITIVE_INFINITY
                  ? String.format(Locale.ROOT, "at least %.4f", least)
                  : String.format(Locale.ROOT, "in [%.4f, %.4f]", least, most);
      return String.format(
          Locale.ROOT,
          "%s %s: %.4f, wanted %s (room %.4f)",
          holds() ? "ok    " : "FAILED",
          name,
          value,
          limits,
          margin());
    }
  }

  private static final double INFINITY = Double.POSITIVE_INFINITY;

  private DemoCriteria() {}

  /**
   * The checks of one demo.
   *
   * @param all evaluations under the names of {@link Demo.Result}; all three methods must be there
   */
  static List<Check> of(Map<String, Evaluation> all) {
    Evaluation tuned = get(all, "fine-tuned");
    Evaluation neverSaw = get(all, "never saw them");
    List<Check> checks = new ArrayList<>();
    double known = tuned.score("forget", "probability");
    checks.add(new Check("fine-tuned forget probability", known, 0.9, INFINITY));
    double rouge = neverSaw.score("forget", "rouge_l_recall") + 0.05;
    for (String method : List.of("ME+GD", "NPO+GD")) {
      Evaluation after = get(all, method);
      checks.add(atMost(method, after, "probability", 0.05));
      checks.add(atMost(method, after, "rouge_l_recall", rouge));
      keeps(method, tuned, after, 0.95, 1.05, checks);
    }
    Evaluation refusing = get(all, "IDK+AP");
    double refusals = refusing.score("forget", "refusal_rate");
    checks.add(new Check("IDK+AP forget refusal_rate", refusals, 0.9, INFINITY));
    keeps("IDK+AP", tuned, refusing, 0.9, INFINITY, checks);
    return checks;
  }

  private static Evaluation get(Map<String, Evaluation> all, String name) {
    Evaluation evaluation = all.get(name);
    if (evaluation == null) {
      throw new AssertionError("the demo has no " + name + ", only " + all.keySet());
    }
    return evaluation;
  }

  private static Check atMost(String method, Evaluation after, String metric, double most) {
    double value = after.score("forget", metric);
    return new Check(method + " forget " + metric, value, Double.NEGATIVE_INFINITY, most);
  }

  /** What is to be kept, as a part of the fine-tuned model's. */
  private static void keeps(
      String method,
      Evaluation tuned,
      Evaluation after,
      double least,
      double most,
      List<Check> checks) {
    for (String set : List.of("retain", "general")) {
      for (String metric : List.of("probability", "rouge_l_recall")) {
        double part = after.score(set, metric) / tuned.score(set, metric);
        checks.add(new Check(method + " keeps of " + set + " " + metric, part, least, most));
      }
    }
  }
}
