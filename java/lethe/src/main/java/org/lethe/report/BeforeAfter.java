package org.lethe.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Stream;
import org.lethe.report.RunFiles.Scores;

/** The table of scores before and after a run. */
final class BeforeAfter {
  private static final Table.Cell NOTHING = new Table.Cell("-", true);

  private BeforeAfter() {}

  /** One row per set and metric; empty without any score. */
  static Optional<Table> table(Optional<Scores> before, Optional<Scores> after) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    names(before, after)
        .forEach(
            (set, metrics) ->
                metrics.forEach(
                    metric ->
                        rows.add(
                            row(
                                set,
                                metric,
                                score(before, set, metric),
                                score(after, set, metric),
                                Glossary.wanted(set, metric)))));
    double was = before.map(Scores::utility).orElse(Double.NaN);
    double is = after.map(Scores::utility).orElse(Double.NaN);
    if (!Double.isNaN(was) || !Double.isNaN(is)) {
      rows.add(
          row("retain, general", Glossary.UTILITY, was, is, Glossary.wanted("", Glossary.UTILITY)));
    }
    return rows.isEmpty()
        ? Optional.empty()
        : Optional.of(
            new Table(
                "Before and after",
                List.of("set", "metric", "before", "after", "change", "better"),
                rows));
  }

  private static Map<String, Set<String>> names(Optional<Scores> before, Optional<Scores> after) {
    Map<String, Set<String>> names = new LinkedHashMap<>();
    Stream.concat(after.stream(), before.stream())
        .forEach(
            scores ->
                scores
                    .sets()
                    .forEach(
                        (set, all) ->
                            names
                                .computeIfAbsent(set, key -> new LinkedHashSet<>())
                                .addAll(all.keySet())));
    return names;
  }

  private static double score(Optional<Scores> scores, String set, String metric) {
    return scores.map(all -> all.score(set, metric)).orElse(Double.NaN);
  }

  private static List<Table.Cell> row(
      String set, String metric, double before, double after, String better) {
    return List.of(
        Table.Cell.of(set),
        Table.Cell.of(metric),
        number(before),
        number(after),
        change(before, after),
        Table.Cell.of(better));
  }

  /** A score that was not measured, or is not a number, is a dash. */
  static Table.Cell number(double value) {
    return Double.isNaN(value) ? NOTHING : new Table.Cell(Numbers.score(value), true);
  }

  private static Table.Cell change(double before, double after) {
    // What rounding hides in both columns is no change to speak of.
    boolean same = Numbers.score(before).equals(Numbers.score(after)) && !Double.isNaN(before);
    double change = same ? 0 : after - before;
    return change > 0 ? new Table.Cell("+" + Numbers.score(change), true) : number(change);
  }
}
