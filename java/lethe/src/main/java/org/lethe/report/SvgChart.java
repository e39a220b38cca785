package org.lethe.report;

import java.util.Formatter;
import java.util.List;
import java.util.Locale;
import org.lethe.UserException;

/**
 * A chart as an SVG file that stands alone: style sheet, title, legend and a note are in it, and it
 * is the same text for the same values.
 */
public final class SvgChart {
  private static final int TITLE = 28;
  private static final int LINE = 18;
  private static final int MARGIN = 10;
  private static final int PER_ROW = 2;

  private static final String STYLE =
      """
      text { font: 13px system-ui, sans-serif; fill: #56606b; }
      text.title { font-size: 15px; font-weight: 600; fill: #1c2024; }
      text.note { font-size: 11px; }
      .paper { fill: #ffffff; }
      .grid { stroke: #d9dde1; } .axis, .tick { stroke: #56606b; }
      .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
      .curve.c0 { stroke: #0b63c5; } .dot.c0 { fill: #0b63c5; }
      .curve.c1 { stroke: #c2410c; stroke-dasharray: 7 3; } .dot.c1 { fill: #c2410c; }
      .curve.c2 { stroke: #0f766e; stroke-dasharray: 2 3; } .dot.c2 { fill: #0f766e; }
      .curve.c3 { stroke: #8b3fb5; stroke-dasharray: 9 3 2 3; } .dot.c3 { fill: #8b3fb5; }
      .curve.c4 { stroke: #8a6d00; } .dot.c4 { fill: #8a6d00; }
      .curve.c5 { stroke: #b0214e; stroke-dasharray: 4 4; } .dot.c5 { fill: #b0214e; }
      .curve.c6 { stroke: #3f6212; stroke-dasharray: 1 3; } .dot.c6 { fill: #3f6212; }
      .curve.c7 { stroke: #475569; stroke-dasharray: 12 4; } .dot.c7 { fill: #475569; }
      """;

  private SvgChart() {}

  /**
   * Draws over a logarithmic abscissa.
   *
   * @param chart without markers; all x are positive, and so are all y with {@link Chart.Scale#LOG}
   * @param notes lines below the chart, such as where the values come from
   * @param metadata for programs: goes unseen into the file
   * @throws UserException when no value is finite
   */
  public static String overLog(Chart chart, List<String> notes, String metadata) {
    if (!LineChart.hasValues(chart)) {
      throw new UserException(
          "the chart '" + chart.title() + "' has no finite value; measure something first");
    }
    int legendRows = (chart.series().size() + PER_ROW - 1) / PER_ROW;
    int chartTop = TITLE + LINE * legendRows + MARGIN;
    int height = chartTop + LineChart.HEIGHT + LINE * notes.size() + MARGIN;
    Formatter out = new Formatter(Locale.ROOT);
    out.format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\""
            + " height=\"%d\">\n<title>%s</title>\n<metadata>%s</metadata>\n<style>\n%s</style>\n",
        LineChart.WIDTH,
        height,
        LineChart.WIDTH,
        height,
        Html.escape(chart.title()),
        Html.escape(metadata),
        STYLE);
    out.format("<rect class=\"paper\" width=\"%d\" height=\"%d\"/>\n", LineChart.WIDTH, height);
    out.format(
        "<text class=\"title\" x=\"%d\" y=\"20\">%s</text>\n", MARGIN, Html.escape(chart.title()));
    for (int i = 0; i < chart.series().size(); i++) {
      legendEntry(out, i, chart.series().get(i).name());
    }
    out.format("<g transform=\"translate(0 %d)\">\n%s</g>\n", chartTop, body(chart));
    for (int i = 0; i < notes.size(); i++) {
      out.format(
          "<text class=\"note\" x=\"%d\" y=\"%d\">%s</text>\n",
          MARGIN, chartTop + LineChart.HEIGHT + LINE * (i + 1) - 4, Html.escape(notes.get(i)));
    }
    return out.format("</svg>\n").toString();
  }

  /** The inner chart keeps its coordinates when it has a size of its own. */
  private static String body(Chart chart) {
    return LineChart.overLog(chart)
        .replaceFirst(
            "<svg class=\"chart\"",
            "<svg class=\"chart\" width=\""
                + LineChart.WIDTH
                + "\" height=\""
                + LineChart.HEIGHT
                + "\"");
  }

  private static void legendEntry(Formatter out, int index, String name) {
    int x = MARGIN + index % PER_ROW * (LineChart.WIDTH / PER_ROW);
    int y = TITLE + LINE * (index / PER_ROW) + 10;
    out.format(
        "<line class=\"curve c%d\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n",
        index % LineChart.COLOURS, x, y, x + 26, y);
    out.format("<text x=\"%d\" y=\"%d\">%s</text>\n", x + 32, y + 4, Html.escape(name));
  }
}
