package org.lethe.report;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.lethe.report.RunFiles.Scores;

/** Several runs side by side. */
public final class Comparison {
  private record Column(String heading, String set, String metric) {}

  private static final List<Column> COLUMNS =
      List.of(
          new Column("forget prob", "forget", "probability"),
          new Column("ROUGE-L", "forget", "rouge_l_recall"),
          new Column("refusals", "forget", "refusal_rate"),
          new Column("retain prob", "retain", "probability"),
          new Column("ROUGE-L", "retain", "rouge_l_recall"),
          new Column("general prob", "general", "probability"),
          new Column("ROUGE-L", "general", "rouge_l_recall"));

  private Comparison() {}

  /**
   * One row per run with the model as the run left it, and above them the model before; above each
   * run where those that know it did not start from the same. Columns that no run measured are left
   * out; a dash stands where a run did not.
   */
  public static Table table(List<RunFiles> runs) {
    List<Row> rows = new ArrayList<>();
    List<Scores> befores = runs.stream().flatMap(run -> run.before().stream()).toList();
    boolean oneStart = befores.stream().distinct().count() == 1;
    if (oneStart) {
      rows.add(new Row("before", "", "", Optional.of(befores.get(0))));
    }
    for (RunFiles run : runs) {
      String name = name(run.directory());
      if (!oneStart && run.before().isPresent()) {
        rows.add(new Row(name + ", before", "", "", run.before()));
      }
      rows.add(
          new Row(
              name,
              RunReport.title(run).replace("Unlearning by ", ""),
              Integer.toString(run.steps().size()),
              run.after()));
    }
    return of(rows);
  }

  private record Row(String name, String method, String updates, Optional<Scores> scores) {}

  private static Table of(List<Row> rows) {
    List<Column> measured =
        COLUMNS.stream()
            .filter(column -> rows.stream().anyMatch(row -> !Double.isNaN(score(row, column))))
            .toList();
    List<String> headings = new ArrayList<>(List.of("run", "method", "updates"));
    measured.forEach(column -> headings.add(column.heading()));
    headings.add("utility");
    List<List<Table.Cell>> cells = new ArrayList<>();
    for (Row row : rows) {
      List<Table.Cell> line = new ArrayList<>();
      line.add(Table.Cell.of(row.name()));
      line.add(Table.Cell.of(row.method()));
      line.add(new Table.Cell(row.updates(), true));
      measured.forEach(column -> line.add(BeforeAfter.number(score(row, column))));
      line.add(BeforeAfter.number(row.scores().map(Scores::utility).orElse(Double.NaN)));
      cells.add(line);
    }
    return new Table("Runs", headings, cells);
  }

  private static double score(Row row, Column column) {
    return row.scores().map(s -> s.score(column.set(), column.metric())).orElse(Double.NaN);
  }

  private static String name(Path directory) {
    return Objects.toString(directory.toAbsolutePath().normalize().getFileName(), "/");
  }
}
