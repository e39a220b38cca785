package org.lethe.report;

import java.util.List;
import java.util.Locale;

/**
 * A run's report as Markdown and as one HTML page that needs nothing else: styles and charts are
 * inside, there are no scripts, and it follows the reader's light or dark setting.
 */
public final class Report {
  private static final String STYLE =
      """
      :root { color-scheme: light dark; --ink: #1c2024; --paper: #ffffff; --faint: #d9dde1;
        --soft: #5b6570; --curve: #1f6feb; }
      @media (prefers-color-scheme: dark) {
        :root { --ink: #e4e8ec; --paper: #15181b; --faint: #363c42; --soft: #9aa4ae;
          --curve: #6cb0ff; } }
      body { margin: 2rem auto; max-width: 48rem; padding: 0 1rem; color: var(--ink);
        background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
      h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
      .wide { overflow-x: auto; }
      table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
      th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--faint); text-align: left;
        vertical-align: top; }
      th.number, td.number { text-align: right; }
      .facts th { font-weight: normal; color: var(--soft); }
      .chart { width: 100%; height: auto; }
      .chart text { font-size: 12px; fill: var(--soft); }
      .grid { stroke: var(--faint); } .axis, .tick { stroke: var(--soft); }
      .curve { fill: none; stroke: var(--curve); stroke-width: 1.8; stroke-linejoin: round; }
      .dot { fill: var(--curve); }
      """;

  private Report() {}

  /** The report in Markdown; curves as their first, lowest and last values. */
  public static String markdown(ReportData data) {
    StringBuilder out = new StringBuilder();
    out.append("# ").append(Table.markdownEscape(data.title())).append("\n\n");
    for (Table table : data.tables()) {
      heading(out, table.title());
      out.append(table.markdown()).append('\n');
    }
    if (!data.curves().isEmpty()) {
      heading(out, "Curves");
      out.append(curves(data.curves()).markdown()).append('\n');
    }
    if (!data.notes().isEmpty()) {
      heading(out, "Notes");
      data.notes()
          .forEach(note -> out.append("- ").append(Table.markdownEscape(note)).append('\n'));
      out.append('\n');
    }
    if (!data.facts().isEmpty()) {
      heading(out, "Facts");
      out.append(facts(data).markdown());
    }
    return out.toString().stripTrailing() + "\n";
  }

  private static void heading(StringBuilder out, String title) {
    out.append("## ").append(Table.markdownEscape(title)).append("\n\n");
  }

  private static Table facts(ReportData data) {
    return new Table(
        "Facts",
        List.of("fact", "value"),
        data.facts().stream().map(fact -> Table.row(fact.key(), fact.value())).toList());
  }

  private static Table curves(List<Series> curves) {
    return new Table(
        "Curves",
        List.of("curve", "points", "first", "lowest", "last"),
        curves.stream().filter(series -> !series.y().isEmpty()).map(Report::summary).toList());
  }

  private static List<Table.Cell> summary(Series series) {
    List<Double> y = series.y();
    double lowest = y.stream().filter(value -> !value.isNaN()).reduce(Math::min).orElse(Double.NaN);
    return Table.row(series.name(), y.size(), y.get(0), lowest, y.get(y.size() - 1));
  }

  /** The report as one HTML page, which is also well-formed XML. */
  public static String html(ReportData data) {
    StringBuilder out = new StringBuilder();
    String title = Html.escape(data.title());
    out.append(
            "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n")
        .append("<meta charset=\"utf-8\"/>\n")
        .append("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n")
        .append("<title>" + title + "</title>\n<style>\n" + STYLE + "</style>\n</head>\n<body>\n")
        .append("<h1>" + title + "</h1>\n");
    for (Table table : data.tables()) {
      section(out, table.title(), table(table));
    }
    for (Series series : data.curves()) {
      section(out, series.name(), LineChart.svg(series));
    }
    if (!data.notes().isEmpty()) {
      StringBuilder notes = new StringBuilder("<ul>\n");
      data.notes().forEach(note -> notes.append("<li>" + Html.escape(note) + "</li>\n"));
      section(out, "Notes", notes.append("</ul>\n").toString());
    }
    if (!data.facts().isEmpty()) {
      StringBuilder facts = new StringBuilder("<div class=\"wide\"><table class=\"facts\">\n");
      for (KeyValue fact : data.facts()) {
        facts.append(
            String.format(
                Locale.ROOT,
                "<tr><th scope=\"row\">%s</th><td>%s</td></tr>\n",
                Html.escape(fact.key()),
                Html.escape(fact.value())));
      }
      section(out, "Facts", facts.append("</table></div>\n").toString());
    }
    return out.append("</body>\n</html>\n").toString();
  }

  private static void section(StringBuilder out, String title, String body) {
    out.append("<section>\n<h2>" + Html.escape(title) + "</h2>\n" + body + "</section>\n");
  }

  private static String table(Table table) {
    StringBuilder out = new StringBuilder("<div class=\"wide\"><table>\n<thead><tr>");
    for (int i = 0; i < table.columns().size(); i++) {
      out.append(cell("th", table.isNumeric(i), table.columns().get(i)));
    }
    out.append("</tr></thead>\n<tbody>\n");
    for (var row : table.rows()) {
      out.append("<tr>");
      row.forEach(cell -> out.append(cell("td", cell.number(), cell.text())));
      out.append("</tr>\n");
    }
    return out.append("</tbody></table></div>\n").toString();
  }

  private static String cell(String tag, boolean number, String text) {
    return "<" + tag + (number ? " class=\"number\">" : ">") + Html.escape(text) + "</" + tag + ">";
  }
}
