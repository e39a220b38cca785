package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.lethe.config.RunConfig;
import org.lethe.evaluate.Evaluation;
import org.lethe.evaluate.SetObservations;
import org.lethe.report.Pareto;
import org.lethe.report.RunFiles;
import org.lethe.report.Timing;

/**
 * What the runs of a sweep came to, read from their directories, the best first.
 *
 * <p>Forgetting is the mean of 1 − probability and 1 − ROUGE-L recall on the forget set; utility
 * kept is the mean share of the given model's probability and ROUGE-L recall on the retain and the
 * general set, each 1 at most. Runs are ordered by the harmonic mean of the two, equal ones by
 * their number, runs without a score last.
 *
 * @param output the sweep's directory
 * @param rows one per run
 * @param references what the runs started from, and the model that never saw the forget set
 */
public record Leaderboard(Path output, List<Row> rows, List<Reference> references) {
  private static final Path AFTER = Path.of("evaluation", "evaluation.json");
  private static final String BEFORE = "evaluation-before.json";

  public Leaderboard {
    rows = List.copyOf(rows);
    references = List.copyOf(references);
  }

  /**
   * The measures that the order is made of; NaN where the sets that they need were not measured.
   *
   * @param forgetting 0: nothing, 1: everything
   * @param utilityKept 1: all of it
   * @param score their harmonic mean
   */
  public record Measures(double forgetting, double utilityKept, double score) {
    static final Measures NONE = new Measures(Double.NaN, Double.NaN, Double.NaN);

    static Measures of(Evaluation after, Evaluation before) {
      double forgetting = Leaderboard.forgetting(after);
      double kept = Leaderboard.utilityKept(after, before);
      double sum = forgetting + kept;
      // Nothing forgotten and nothing kept: the limit, not 0/0.
      return new Measures(forgetting, kept, sum == 0 ? 0 : 2 * forgetting * kept / sum);
    }
  }

  /**
   * A run.
   *
   * @param number in the grid's order, from 1
   * @param name what sets it apart
   * @param method such as ME+GD
   * @param directory with the run's own report
   * @param values the grid's values by key
   * @param failure why it has no scores, when it has none
   * @param after the scores; empty for a run that failed
   * @param measures what it is ordered by
   * @param forgetQuality p-value against the model that never saw the forget set; NaN without one
   * @param seconds of training, over all resumptions
   * @param front whether no other run is better in forgetting or utility kept without being worse
   *     in the other
   */
  public record Row(
      int number,
      String name,
      String method,
      Path directory,
      Map<String, String> values,
      Optional<String> failure,
      Optional<Evaluation> after,
      Measures measures,
      double forgetQuality,
      double seconds,
      boolean front) {
    double score(String set, String metric) {
      return after.map(e -> e.score(set, metric)).orElse(Double.NaN);
    }

    Row onFront(boolean whether) {
      return new Row(
          number,
          name,
          method,
          directory,
          values,
          failure,
          after,
          measures,
          forgetQuality,
          seconds,
          whether);
    }
  }

  /**
   * A model that no run made.
   *
   * @param given whether runs started from it; otherwise it never saw the forget set
   */
  public record Reference(String name, boolean given, Evaluation evaluation, Measures measures) {}

  /** Reads all runs; those without an end are left out. */
  static Leaderboard of(RunConfig base, List<SweepCell> cells) {
    List<Row> rows = new ArrayList<>();
    for (SweepCell cell : cells) {
      if (SweepFiles.isDone(cell)) {
        rows.add(row(cell));
      }
    }
    boolean[] front =
        Pareto.front(
            rows.stream().mapToDouble(r -> r.measures().forgetting()).toArray(),
            rows.stream().mapToDouble(r -> r.measures().utilityKept()).toArray());
    List<Row> marked = new ArrayList<>();
    for (int i = 0; i < rows.size(); i++) {
      marked.add(rows.get(i).onFront(front[i]));
    }
    // NaN counts as larger than every number, so it is turned into what is smaller.
    marked.sort(
        Comparator.comparingDouble(
                (Row r) ->
                    Double.isNaN(r.measures().score())
                        ? Double.POSITIVE_INFINITY
                        : -r.measures().score())
            .thenComparing(r -> r.failure().isPresent())
            .thenComparingInt(Row::number));
    return new Leaderboard(base.output(), marked, references(base, cells));
  }

  private static Row row(SweepCell cell) {
    Path directory = cell.config().output();
    Optional<String> failure = SweepFiles.failure(cell);
    Optional<Evaluation> after = Optional.empty();
    Measures measures = Measures.NONE;
    double quality = Double.NaN;
    if (failure.isEmpty()) {
      Evaluation judged = Evaluation.read(directory.resolve(AFTER));
      after = Optional.of(judged);
      measures = Measures.of(judged, Evaluation.read(directory.resolve(BEFORE)));
      quality =
          cell.config()
              .evaluate()
              .neverSaw()
              .map(file -> judged.forgetQuality(Evaluation.read(file)))
              .orElse(Double.NaN);
    }
    return new Row(
        cell.number(),
        cell.name(),
        cell.method(),
        directory,
        cell.values(),
        failure,
        after,
        measures,
        quality,
        seconds(directory),
        false);
  }

  private static List<Reference> references(RunConfig base, List<SweepCell> cells) {
    Map<SweepStart, Evaluation> before = new SweepFiles(base.output()).before(cells);
    Set<Reference> references = new LinkedHashSet<>();
    before.forEach(
        (start, e) -> {
          String model = before.size() == 1 ? "" : ", " + start.model().orElseThrow().getFileName();
          references.add(new Reference("before" + model, true, e, Measures.of(e, e)));
        });
    Evaluation first = before.values().iterator().next();
    for (SweepCell cell : cells) {
      cell.config()
          .evaluate()
          .neverSaw()
          .map(Evaluation::read)
          .map(e -> new Reference("never saw", false, e, Measures.of(e, first)))
          .ifPresent(references::add);
    }
    return List.copyOf(references);
  }

  /** Mean of 1 − probability and 1 − ROUGE-L recall on the forget set. */
  private static double forgetting(Evaluation e) {
    return 1
        - (e.score(SetObservations.FORGET, "probability")
                + e.score(SetObservations.FORGET, "rouge_l_recall"))
            / 2;
  }

  /**
   * Mean share of what the model scored before on the sets to be kept: probability and ROUGE-L
   * recall on retain and general. A share counts 1 at most, so that no gain hides a loss; a score
   * that was 0 before has none.
   */
  private static double utilityKept(Evaluation after, Evaluation before) {
    double sum = 0;
    int count = 0;
    for (String set : List.of("retain", "general")) {
      for (String metric : List.of("probability", "rouge_l_recall")) {
        if (before.score(set, metric) > 0) {
          sum += Math.min(1, after.score(set, metric) / before.score(set, metric));
          count++;
        }
      }
    }
    return count == 0 ? Double.NaN : sum / count;
  }

  /** The clock begins anew where a run was resumed. */
  private static double seconds(Path directory) {
    if (!RunFiles.isRun(directory)) {
      return Double.NaN;
    }
    double sum = 0;
    double last = 0;
    for (Timing timing : RunFiles.read(directory).timings().values()) {
      sum += timing.seconds() >= last ? timing.seconds() - last : timing.seconds();
      last = timing.seconds();
    }
    return sum;
  }

  /** The first row that has a score. */
  public Optional<Row> best() {
    return rows.stream().filter(r -> !Double.isNaN(r.measures().score())).findFirst();
  }

  /** How many runs failed. */
  public long failures() {
    return rows.stream().filter(r -> r.failure().isPresent()).count();
  }

  /** What failures come to, with the first of them. */
  public String failureMessage() {
    Row first = rows.stream().filter(r -> r.failure().isPresent()).findFirst().orElseThrow();
    return failures()
        + " of "
        + rows.size()
        + " runs failed, the leaderboard holds the others; the first, "
        + first.directory()
        + ": "
        + first.failure().orElseThrow();
  }

  /** The command that makes a run again. */
  public static String command(Row row) {
    return "lethe unlearn --config "
        + quote(row.directory().resolve("config.yaml").toString())
        + " output=runs/"
        + row.directory().getFileName();
  }

  /** As a shell takes it. */
  private static String quote(String text) {
    return text.matches("[\\w@%+=:,./-]+") ? text : "'" + text.replace("'", "'\\''") + "'";
  }
}
