package org.lethe.report;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * A run's report as Markdown and as one HTML page that needs nothing else: styles and charts are
 * inside, there are no scripts, and it follows the reader's light or dark setting.
 */
public final class Report {
  private Report() {}

  /**
   * The report of a run, finished or not, from its files alone.
   *
   * @throws org.lethe.UserException if this is not the directory of a run, or a file is damaged
   */
  public static ReportData of(Path runDirectory) {
    return of(RunFiles.read(runDirectory));
  }

  /** The report of a run whose files were read. */
  public static ReportData of(RunFiles files) {
    return new RunReport(files).data();
  }

  /**
   * Writes {@code report.md} and {@code report.html} into a run's directory, each whole or not at
   * all.
   *
   * @throws org.lethe.EnvironmentException if they cannot be written
   */
  public static void write(Path runDirectory, ReportData data) {
    RunDirectory.write(runDirectory, data);
  }

  /** The report in Markdown; curves as their first, lowest, highest and last values. */
  public static String markdown(ReportData data) {
    StringBuilder out = new StringBuilder();
    out.append("# ").append(Table.markdownEscape(data.title())).append("\n\n");
    data.summary().forEach(words -> out.append(Table.markdownEscape(words)).append("\n\n"));
    for (Table table : data.tables()) {
      heading(out, table.title());
      out.append(table.markdown()).append('\n');
    }
    if (!data.charts().isEmpty()) {
      heading(out, "Curves");
      out.append(curves(data.charts()).markdown()).append('\n');
    }
    if (!data.notes().isEmpty()) {
      heading(out, "Notes");
      data.notes()
          .forEach(note -> out.append("- ").append(Table.markdownEscape(note)).append('\n'));
      out.append('\n');
    }
    if (!data.glossary().isEmpty()) {
      heading(out, "What the numbers mean");
      out.append(pairs("number", "meaning", data.glossary()).markdown()).append('\n');
    }
    if (!data.facts().isEmpty()) {
      heading(out, "Facts");
      out.append(pairs("fact", "value", data.facts()).markdown());
    }
    return out.toString().stripTrailing() + "\n";
  }

  /** The report as one HTML page, which is also well-formed XML. */
  public static String html(ReportData data) {
    return HtmlPage.of(data);
  }

  /** The same with points of two measures above the tables. */
  public static String html(ReportData data, Scatter scatter) {
    return HtmlPage.of(data, Optional.of(scatter));
  }

  private static void heading(StringBuilder out, String title) {
    out.append("## ").append(Table.markdownEscape(title)).append("\n\n");
  }

  private static Table pairs(String key, String value, List<KeyValue> entries) {
    return new Table(
        key,
        List.of(key, value),
        entries.stream().map(entry -> Table.row(entry.key(), entry.value())).toList());
  }

  private static Table curves(List<Chart> charts) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    for (Chart chart : charts) {
      for (Series series : chart.series()) {
        if (!series.y().isEmpty()) {
          rows.add(summary(chart, series));
        }
      }
    }
    return new Table(
        "Curves", List.of("curve", "points", "first", "lowest", "highest", "last"), rows);
  }

  private static List<Table.Cell> summary(Chart chart, Series series) {
    List<Double> y = series.y();
    List<Double> numbers = y.stream().filter(value -> !value.isNaN()).toList();
    String unit = Objects.equals(chart.yLabel(), series.name()) ? "" : " (" + chart.yLabel() + ")";
    String name = chart.series().size() > 1 ? chart.title() + ": " + series.name() : chart.title();
    return Table.row(
        name + unit,
        y.size(),
        y.get(0),
        numbers.stream().reduce(Math::min).orElse(Double.NaN),
        numbers.stream().reduce(Math::max).orElse(Double.NaN),
        y.get(y.size() - 1));
  }
}
