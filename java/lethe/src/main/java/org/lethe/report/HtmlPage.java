package org.lethe.report;

import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** The report as one HTML page, which is also well-formed XML and needs nothing beside it. */
final class HtmlPage {
  private static final String STYLE =
      """
      :root { color-scheme: light dark; --ink: #1c2024; --paper: #ffffff; --faint: #d9dde1;
        --soft: #56606b; --panel: #f4f6f8; --c0: #0b63c5; --c1: #c2410c; --c2: #0f766e;
        --c3: #8b3fb5; --c4: #8a6d00; --c5: #b0214e; --c6: #3f6212; --c7: #475569;
        --skipped: #b42318; --resumed: #56606b; }
      @media (prefers-color-scheme: dark) {
        :root { --ink: #e4e8ec; --paper: #15181b; --faint: #363c42; --soft: #a3adb7;
          --panel: #1e2226; --c0: #6cb0ff; --c1: #ff9a5c; --c2: #4fd1a1; --c3: #cf9bf0;
          --c4: #e3c34a; --c5: #ff86a8; --c6: #b5d67b; --c7: #b6c2d1;
          --skipped: #ff7a6e; --resumed: #a3adb7; } }
      body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink);
        background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
      h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
      h3 { font-size: 1rem; margin: 0; }
      p, li, dd { max-width: 48rem; }
      .summary { background: var(--panel); border-radius: .5rem; padding: .2rem 1.2rem;
        max-width: 50rem; }
      .summary p { margin: .6rem 0; }
      a { color: var(--c0); }
      .wide { overflow-x: auto; }
      table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
      th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--faint); text-align: left;
        vertical-align: top; }
      th.number, td.number { text-align: right; white-space: nowrap; }
      .many { font-size: .875rem; } .many th, .many td { padding: .3rem .45rem; }
      .many th.number { white-space: normal; }
      .facts th { font-weight: normal; color: var(--soft); }
      .facts td { overflow-wrap: anywhere; }
      dt { font-weight: 600; } dd { margin: 0 0 .6rem 0; }
      .charts { display: grid; gap: 2rem;
        grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
      figure { margin: 0; max-width: 46rem; }
      figcaption { color: var(--soft); font-size: .875rem; margin-top: .3rem; }
      .chart { width: 100%; height: auto; display: block; }
      .chart text { font-size: 13px; fill: var(--soft); }
      .legend { list-style: none; padding: 0; margin: .3rem 0 0 0; display: flex;
        flex-wrap: wrap; gap: 0 1.2rem; font-size: .875rem; }
      .swatch { width: 28px; height: 10px; margin-right: .4rem; }
      .grid { stroke: var(--faint); } .axis, .tick { stroke: var(--soft); }
      .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
      .curve.c0 { stroke: var(--c0); } .dot.c0 { fill: var(--c0); }
      .curve.c1 { stroke: var(--c1); stroke-dasharray: 7 3; } .dot.c1 { fill: var(--c1); }
      .curve.c2 { stroke: var(--c2); stroke-dasharray: 2 3; } .dot.c2 { fill: var(--c2); }
      .curve.c3 { stroke: var(--c3); stroke-dasharray: 9 3 2 3; } .dot.c3 { fill: var(--c3); }
      .curve.c4 { stroke: var(--c4); } .dot.c4 { fill: var(--c4); }
      .curve.c5 { stroke: var(--c5); stroke-dasharray: 4 4; } .dot.c5 { fill: var(--c5); }
      .curve.c6 { stroke: var(--c6); stroke-dasharray: 1 3; } .dot.c6 { fill: var(--c6); }
      .curve.c7 { stroke: var(--c7); stroke-dasharray: 12 4; } .dot.c7 { fill: var(--c7); }
      .marker { stroke-width: 1.2; }
      .ring { fill: var(--paper); stroke-width: 2; }
      .ring.c0 { stroke: var(--c0); } .ring.c1 { stroke: var(--c1); }
      .ring.c2 { stroke: var(--c2); } .ring.c3 { stroke: var(--c3); }
      .ring.c4 { stroke: var(--c4); } .ring.c5 { stroke: var(--c5); }
      .ring.c6 { stroke: var(--c6); } .ring.c7 { stroke: var(--c7); }
      .given { fill: var(--ink); }
      .front { fill: none; stroke: var(--soft); stroke-width: 1.4; stroke-dasharray: 5 4; }
      .chart text.strong { fill: var(--ink); }
      figure.scatter { max-width: 60rem; }
      .scatter .swatch { height: 16px; vertical-align: -3px; }
      .skipped { stroke: var(--skipped); }
      .resumed { stroke: var(--resumed); stroke-dasharray: 3 4; }
      @media print { body { margin: 0; } figure { break-inside: avoid; } }
      """;

  /** Tables of more columns than this are set smaller, so that they fit the page. */
  private static final int MANY = 11;

  private final StringBuilder out = new StringBuilder();

  private HtmlPage() {}

  static String of(ReportData data) {
    return of(data, Optional.empty());
  }

  /**
   * @param scatter stands above the tables
   */
  static String of(ReportData data, Optional<Scatter> scatter) {
    return new HtmlPage().page(data, scatter);
  }

  private String page(ReportData data, Optional<Scatter> scatter) {
    String title = Html.escape(data.title());
    out.append(
            "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n")
        .append("<meta charset=\"utf-8\"/>\n")
        .append("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n")
        .append("<title>" + title + "</title>\n<style>\n" + STYLE + "</style>\n</head>\n<body>\n")
        .append("<h1>" + title + "</h1>\n");
    if (!data.summary().isEmpty()) {
      out.append("<div class=\"summary\">\n");
      data.summary().forEach(words -> out.append("<p>" + Html.escape(words) + "</p>\n"));
      out.append("</div>\n");
    }
    scatter.ifPresent(s -> section(s.title(), figure(s)));
    for (Table table : data.tables()) {
      section(table.title(), table(table));
    }
    if (!data.tables().isEmpty() && !data.glossary().isEmpty()) {
      out.append("<p><a href=\"#meaning\">What these numbers mean</a></p>\n");
    }
    if (!data.charts().isEmpty()) {
      StringBuilder charts = new StringBuilder("<div class=\"charts\">\n");
      data.charts().forEach(chart -> charts.append(figure(chart)));
      section("Curves", charts.append("</div>\n").toString());
    }
    if (!data.notes().isEmpty()) {
      StringBuilder notes = new StringBuilder("<ul>\n");
      data.notes().forEach(note -> notes.append("<li>" + Html.escape(note) + "</li>\n"));
      section("Notes", notes.append("</ul>\n").toString());
    }
    if (!data.glossary().isEmpty()) {
      section("What the numbers mean", glossary(data.glossary()));
    }
    if (!data.facts().isEmpty()) {
      section("Facts", facts(data.facts()));
    }
    return out.append("</body>\n</html>\n").toString();
  }

  private void section(String title, String body) {
    out.append("<section>\n<h2>" + Html.escape(title) + "</h2>\n" + body + "</section>\n");
  }

  private static String figure(Scatter scatter) {
    return "<figure class=\"scatter\">\n"
        + ScatterChart.html(scatter)
        + "<figcaption>"
        + Html.escape(scatter.meaning())
        + "</figcaption>\n</figure>\n";
  }

  private static String figure(Chart chart) {
    String meaning =
        chart.meaning().isEmpty()
            ? ""
            : "<figcaption>" + Html.escape(chart.meaning()) + "</figcaption>\n";
    // The caption comes last, so that charts side by side stand at one height.
    return "<figure>\n<h3>"
        + Html.escape(chart.title())
        + "</h3>\n"
        + LineChart.html(chart)
        + meaning
        + "</figure>\n";
  }

  private static String glossary(List<KeyValue> entries) {
    StringBuilder list = new StringBuilder("<dl id=\"meaning\">\n");
    for (KeyValue entry : entries) {
      list.append("<dt>" + Html.escape(entry.key()) + "</dt>");
      list.append("<dd>" + Html.escape(entry.value()) + "</dd>\n");
    }
    return list.append("</dl>\n").toString();
  }

  private static String facts(List<KeyValue> entries) {
    StringBuilder facts = new StringBuilder("<div class=\"wide\"><table class=\"facts\">\n");
    for (KeyValue fact : entries) {
      facts.append(
          String.format(
              Locale.ROOT,
              "<tr><th scope=\"row\">%s</th><td>%s</td></tr>\n",
              Html.escape(fact.key()),
              Html.escape(fact.value())));
    }
    return facts.append("</table></div>\n").toString();
  }

  private static String table(Table table) {
    StringBuilder text =
        new StringBuilder(
            "<div class=\"wide\"><table"
                + (table.columns().size() > MANY ? " class=\"many\"" : "")
                + ">\n<thead><tr>");
    for (int i = 0; i < table.columns().size(); i++) {
      text.append(cell("th", table.isNumeric(i), table.columns().get(i)));
    }
    text.append("</tr></thead>\n<tbody>\n");
    for (var row : table.rows()) {
      text.append("<tr>");
      row.forEach(cell -> text.append(cell("td", cell.number(), cell.text())));
      text.append("</tr>\n");
    }
    return text.append("</tbody></table></div>\n").toString();
  }

  private static String cell(String tag, boolean number, String text) {
    return "<" + tag + (number ? " class=\"number\">" : ">") + Html.escape(text) + "</" + tag + ">";
  }
}
