package org.lethe.run;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.ToDoubleFunction;
import org.lethe.evaluate.Evaluation;
import org.lethe.report.KeyValue;
import org.lethe.report.Report;
import org.lethe.report.ReportData;
import org.lethe.report.Scatter;
import org.lethe.report.Table;

/** A leaderboard as a table, as Markdown, as a page with a picture, and as facts for scripts. */
public final class LeaderboardReport {
  /** How the runs are ordered, in a sentence. */
  static final String RULE =
      "Score: the harmonic mean of forgetting and utility kept. Forgetting: the mean of 1 -"
          + " probability and 1 - ROUGE-L recall on the forget set. Utility kept: the mean of after"
          + " / before, each 1 at most, of probability and ROUGE-L recall on the retain and the"
          + " general set. Runs stand by their score, equal ones by their number, failed ones"
          + " last.";

  private static final String FRONT_RULE =
      "A run is on the Pareto front when no other run forgets at least as much and keeps at least"
          + " as much utility, and does one of both better.";

  private static final Table.Cell NOTHING = new Table.Cell("-", true);

  /** A column of scores: what the table calls it, what a script calls it, where it comes from. */
  private record Column(String heading, String key, ToDoubleFunction<Evaluation> score) {
    static Column of(String heading, String key, String set, String metric) {
      return new Column(heading, key, e -> e.score(set, metric));
    }
  }

  private static final List<Column> COLUMNS =
      List.of(
          Column.of("forget prob", "forget_probability", "forget", "probability"),
          Column.of("ROUGE-L", "forget_rouge_l_recall", "forget", "rouge_l_recall"),
          Column.of("refusals", "forget_refusal_rate", "forget", "refusal_rate"),
          Column.of("retain prob", "retain_probability", "retain", "probability"),
          Column.of("general prob", "general_probability", "general", "probability"),
          new Column("utility", "model_utility", Evaluation::utility));

  private final Leaderboard board;

  /** The report of a leaderboard. */
  public LeaderboardReport(Leaderboard board) {
    this.board = board;
  }

  /** A row per run in their order, and below them what they are compared with. */
  public Table table() {
    List<Column> columns = COLUMNS.stream().filter(this::isMeasured).toList();
    boolean quality = board.rows().stream().anyMatch(r -> !Double.isNaN(r.forgetQuality()));
    List<String> headings =
        new ArrayList<>(List.of("no.", "run", "front", "score", "forgetting", "kept"));
    columns.forEach(c -> headings.add(c.heading()));
    if (quality) {
      headings.add("KS p-value");
    }
    headings.add("seconds");
    List<List<Table.Cell>> rows = new ArrayList<>();
    for (Leaderboard.Row row : board.rows()) {
      List<Table.Cell> cells = new ArrayList<>();
      boolean failed = row.failure().isPresent();
      cells.add(new Table.Cell(Integer.toString(row.number()), true));
      cells.add(Table.Cell.of(row.name()));
      cells.add(Table.Cell.of(failed ? "failed" : row.front() ? "yes" : ""));
      scores(cells, row.measures(), row.after(), columns);
      if (quality) {
        cells.add(number(row.forgetQuality()));
      }
      cells.add(seconds(row.seconds()));
      rows.add(cells);
    }
    for (Leaderboard.Reference reference : board.references()) {
      List<Table.Cell> cells =
          new ArrayList<>(List.of(NOTHING, Table.Cell.of(reference.name()), Table.Cell.of("")));
      scores(cells, reference.measures(), Optional.of(reference.evaluation()), columns);
      if (quality) {
        cells.add(NOTHING);
      }
      cells.add(NOTHING);
      rows.add(cells);
    }
    return new Table("Leaderboard", headings, rows);
  }

  private boolean isMeasured(Column column) {
    return board.rows().stream()
        .flatMap(r -> r.after().stream())
        .anyMatch(e -> !Double.isNaN(column.score().applyAsDouble(e)));
  }

  private static void scores(
      List<Table.Cell> cells,
      Leaderboard.Measures measures,
      Optional<Evaluation> evaluation,
      List<Column> columns) {
    cells.add(number(measures.score()));
    cells.add(number(measures.forgetting()));
    cells.add(number(measures.utilityKept()));
    columns.forEach(
        c -> cells.add(number(evaluation.map(c.score()::applyAsDouble).orElse(Double.NaN))));
  }

  private static Table.Cell number(double value) {
    if (Double.isNaN(value)) {
      return NOTHING;
    }
    boolean small = value != 0 && Math.abs(value) < 1e-4;
    return new Table.Cell(String.format(Locale.ROOT, small ? "%.1e" : "%.4f", value), true);
  }

  private static Table.Cell seconds(double value) {
    return Double.isNaN(value)
        ? NOTHING
        : new Table.Cell(String.format(Locale.ROOT, "%.1f", value), true);
  }

  /** What came out best, and how to make it again; then how the order is made. */
  public List<String> summary() {
    List<String> words = new ArrayList<>();
    board
        .best()
        .ifPresentOrElse(
            best -> {
              words.add(
                  String.format(
                      Locale.ROOT,
                      "Best by score: run %d, %s, with a score of %.4f: forgetting %.4f, utility"
                          + " kept %.4f.",
                      best.number(),
                      best.name(),
                      best.measures().score(),
                      best.measures().forgetting(),
                      best.measures().utilityKept()));
              words.add("To make it again: " + Leaderboard.command(best));
            },
            () ->
                words.add(
                    "No run has a score: it needs a forget set, and a retain or general set."));
    return words;
  }

  private ReportData data() {
    long front = board.rows().stream().filter(Leaderboard.Row::front).count();
    List<String> summary = new ArrayList<>(summary());
    summary.add(
        front
            + " of "
            + board.rows().size()
            + " runs "
            + (front == 1 ? "is" : "are")
            + " on the Pareto front.");
    List<String> notes = new ArrayList<>();
    for (Leaderboard.Row row : board.rows()) {
      row.failure()
          .ifPresent(why -> notes.add("Run " + row.number() + ", " + row.name() + ": " + why));
    }
    return new ReportData(
        "Leaderboard of " + board.rows().size() + " runs",
        summary,
        List.of(table()),
        List.of(),
        notes,
        List.of(
            new KeyValue("score, forgetting, kept", RULE),
            new KeyValue("front", FRONT_RULE),
            new KeyValue(
                "KS p-value",
                "How alike this model and one that never saw the forget set answer its questions:"
                    + " below 0.05 they can be told apart. Forgetting more than the model that"
                    + " never saw the set is no merit."),
            new KeyValue("seconds", "Of training, evaluations in its midst included.")),
        List.of());
  }

  /** The picture of both measures. */
  private Scatter scatter() {
    List<Scatter.Point> points = new ArrayList<>();
    for (Leaderboard.Reference r : board.references()) {
      points.add(
          new Scatter.Point(
              "",
              r.name(),
              "",
              r.given() ? Scatter.Kind.START : Scatter.Kind.YARDSTICK,
              r.measures().forgetting(),
              r.measures().utilityKept()));
    }
    for (Leaderboard.Row r : board.rows()) {
      points.add(
          new Scatter.Point(
              Integer.toString(r.number()),
              String.join(" ", r.values().values()),
              r.method(),
              r.front() ? Scatter.Kind.FRONT : Scatter.Kind.BEATEN,
              r.measures().forgetting(),
              r.measures().utilityKept()));
    }
    return new Scatter(
        "Forgetting against utility",
        "Each point is a run, numbered as in the table; up and to the right is better. The stairs"
            + " join the runs that no other beats: which of them is wanted is a choice.",
        "forgetting",
        "utility kept",
        points);
  }

  /** As {@code leaderboard.md}. */
  public String markdown() {
    return Report.markdown(data());
  }

  /** As {@code leaderboard.html}, a page that needs nothing beside it. */
  public String html() {
    return Report.html(data(), scatter());
  }

  /** For scripts: names are stable; what was not measured is NaN. */
  public Map<String, Object> facts() {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("output", board.output().toString());
    facts.put("rule", RULE);
    List<Map<String, Object>> runs = new ArrayList<>();
    for (Leaderboard.Row row : board.rows()) {
      Map<String, Object> run = new LinkedHashMap<>();
      run.put("rank", row.failure().isPresent() ? null : runs.size() + 1);
      run.put("number", row.number());
      run.put("name", row.name());
      run.put("method", row.method());
      run.put("values", row.values());
      run.put("directory", row.directory().toString());
      run.put("error", row.failure().orElse(null));
      run.put("pareto", row.front());
      scores(run, row.measures(), row.after());
      run.put("forget_quality", row.forgetQuality());
      run.put("seconds", row.seconds());
      runs.add(run);
    }
    facts.put("runs", runs);
    List<Map<String, Object>> references = new ArrayList<>();
    for (Leaderboard.Reference reference : board.references()) {
      Map<String, Object> model = new LinkedHashMap<>();
      model.put("name", reference.name());
      scores(model, reference.measures(), Optional.of(reference.evaluation()));
      references.add(model);
    }
    facts.put("references", references);
    facts.put("best", board.best().map(r -> r.directory().toString()).orElse(null));
    facts.put("command", board.best().map(Leaderboard::command).orElse(null));
    facts.put("failures", board.failures());
    return facts;
  }

  private static void scores(
      Map<String, Object> facts, Leaderboard.Measures measures, Optional<Evaluation> evaluation) {
    facts.put("score", measures.score());
    facts.put("forgetting", measures.forgetting());
    facts.put("utility_kept", measures.utilityKept());
    COLUMNS.forEach(
        c -> facts.put(c.key(), evaluation.map(c.score()::applyAsDouble).orElse(Double.NaN)));
  }
}
