package org.lethe.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.StringReader;
import java.util.List;
import java.util.stream.IntStream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.lethe.UserException;
import org.w3c.dom.Document;
import org.xml.sax.InputSource;

class ReportTest {
  private static Document parse(String html) throws Exception {
    return DocumentBuilderFactory.newInstance()
        .newDocumentBuilder()
        .parse(new InputSource(new StringReader(html)));
  }

  private static Series series(String name, double... y) {
    return new Series(
        name,
        IntStream.range(0, y.length).mapToObj(i -> (double) i).toList(),
        java.util.Arrays.stream(y).boxed().toList());
  }

  private static ReportData data(Series... curves) {
    return new ReportData(
        "ME+GD <script>alert(1)</script>",
        List.of(new KeyValue("seed & co", "\"7\"\u0001")),
        List.of(curves),
        List.of(new Table("Scores", List.of("m", "before"), List.of(Table.row("<b>", 0.5)))),
        List.of("a ]]> note"));
  }

  @Test
  void htmlIsWellFormedAndNeedsNothingElse() throws Exception {
    String html = Report.html(data(series("loss", 3, 2, 1.5)));
    Document page = parse(html);
    assertEquals(0, page.getElementsByTagName("script").getLength());
    assertEquals(0, page.getElementsByTagName("link").getLength());
    assertEquals(0, page.getElementsByTagName("img").getLength());
    assertFalse(html.contains("url("));
    assertEquals(
        "ME+GD <script>alert(1)</script>",
        page.getElementsByTagName("h1").item(0).getTextContent());
    assertEquals("<b>", page.getElementsByTagName("td").item(0).getTextContent());
    assertEquals("\"7\"\ufffd", page.getElementsByTagName("td").item(2).getTextContent());
    assertEquals("a ]]> note", page.getElementsByTagName("li").item(0).getTextContent());
    assertEquals(1, page.getElementsByTagName("path").getLength());
  }

  private static String svg(Series... curves) {
    return LineChart.html(chart(Chart.Scale.AUTO, false, List.of(), curves));
  }

  private static Chart chart(
      Chart.Scale scale, boolean dots, List<Chart.Marker> markers, Series... curves) {
    return new Chart("t", "", "updates", "nats", scale, dots, List.of(curves), markers);
  }

  private static int count(String text, String regex) {
    return text.split(regex, -1).length - 1;
  }

  @Test
  void theCurveSpansTheChart() {
    String svg = svg(series("loss", 2, 4));
    assertTrue(svg.contains("d=\"M44.0 254.0L542.0 30.0\""), svg);
    assertTrue(svg.contains(">2.0</text>") && svg.contains(">4.0</text>"), svg);
    assertTrue(svg.contains(">updates</text>") && svg.contains(">nats</text>"), svg);
    assertFalse(svg.contains("legend"), svg);
  }

  @Test
  void stepsAreCutAtWholeNumbers() {
    String svg = svg(new Series("loss", List.of(0.0, 1.0, 2.0), List.of(1.0, 1.0, 1.0)));
    assertTrue(svg.contains(">0</text>") && svg.contains(">2</text>"), svg);
    assertFalse(svg.contains(">0.5</text>"), svg);
  }

  @Test
  void severalCurvesHaveALegendAndDifferInMoreThanColour() {
    String svg = svg(series("forget <1>", 1, 0), series("retain", 1, 1));
    assertEquals(2, count(svg, "<li>"));
    assertTrue(svg.contains("forget &lt;1&gt;</li>"), svg);
    assertEquals(1, count(svg, "<path class=\"curve c0\""));
    assertEquals(1, count(svg, "<path class=\"curve c1\""));
    String page = Report.html(data());
    assertTrue(page.contains(".curve.c1 { stroke: var(--c1); stroke-dasharray"), page);
  }

  @Test
  void rangesFitWhatIsMeasured() {
    String unit = LineChart.html(chart(Chart.Scale.UNIT, true, List.of(), series("p", 0.4, 0.6)));
    assertTrue(unit.contains(">0.2</text>") && unit.contains(">1.0</text>"), unit);
    assertEquals(2, count(unit, "<circle"));
    assertTrue(unit.contains("<title>p 0.4000 at 0</title>"), unit);
    String amount =
        LineChart.html(chart(Chart.Scale.FROM_ZERO, false, List.of(), series("m", 900, 950)));
    assertTrue(amount.contains(">0</text>") && amount.contains(">1000</text>"), amount);
    String log = svg(series("norm", 0.02, 5, 40_000));
    assertTrue(log.contains(">nats (log scale)</text>"), log);
    for (String label : List.of("0.01", "1", "100", "10000")) {
      assertTrue(log.contains(">" + label + "</text>"), log);
    }
    String flat = svg(series("rate", 2.5e-6, 2.5e-6));
    assertTrue(flat.contains(">2.5e-6</text>") && flat.contains(">2e-6</text>"), flat);
    String small = svg(series("rate", 0, 5e-4, 1e-3));
    assertTrue(small.contains(">2e-4</text>") && small.contains(">1e-3</text>"), small);
  }

  @Test
  void manyMeasurementsHaveNoDots() {
    double[] many = new double[61];
    String svg = LineChart.html(chart(Chart.Scale.UNIT, true, List.of(), series("p", many)));
    assertEquals(0, count(svg, "<circle"));
  }

  @Test
  void eventsAreLinesWithALegendAndShareAPixel() {
    List<Chart.Marker> markers =
        List.of(
            new Chart.Marker(Chart.Kind.SKIPPED, 1),
            new Chart.Marker(Chart.Kind.SKIPPED, 1.0001),
            new Chart.Marker(Chart.Kind.RESUMED, 2));
    String svg = LineChart.html(chart(Chart.Scale.AUTO, false, markers, series("loss", 3, 2, 1)));
    assertEquals(2, count(svg, "<li>"));
    assertTrue(svg.contains("skipped step</li>") && svg.contains("resumed here</li>"), svg);
    // One in the legend and one in the chart, each.
    assertEquals(2, count(svg, "class=\"marker skipped\""));
    assertEquals(2, count(svg, "class=\"marker resumed\""));
  }

  @Test
  void gapsBreakTheCurveAndLonePointsShow() {
    String svg = svg(series("loss", 1, 2, Double.NaN, 3, Double.POSITIVE_INFINITY, 4, 5));
    assertEquals(3, count(svg, "M[0-9]"));
    assertEquals(1, count(svg, "<circle"));
    assertFalse(svg.contains("NaN") || svg.contains("Infinity"), svg);
  }

  @Test
  void hardCurvesStillParse() throws Exception {
    for (Series curve :
        List.of(
            series("empty"),
            series("one", 7),
            series("flat", 0, 0, 0),
            series("nothing", Double.NaN, Double.NEGATIVE_INFINITY),
            series("huge", -Double.MAX_VALUE, Double.MAX_VALUE),
            series("tiny", 0, Double.MIN_VALUE),
            series("close", 1, Math.nextUp(1.0)),
            series("largest", Double.MAX_VALUE, Double.MAX_VALUE),
            series("all decades", Double.MIN_VALUE, Double.MAX_VALUE),
            series("<&>", 1, 2))) {
      String html = Report.html(data(curve));
      parse(html);
      assertFalse(
          html.matches("(?s).*(d|[xy][12]?)=\"[^\"]*(NaN|Infinity).*"), curve.name() + html);
    }
  }

  @Test
  void longCurvesAreThinnedButKeepEndsAndSpikes() {
    double[] y = IntStream.range(0, 100_000).mapToDouble(i -> i / 1e5).toArray();
    y[54_321] = 5;
    String svg = svg(series("loss", y));
    assertTrue(svg.length() < 40_000, "length " + svg.length());
    assertTrue(svg.contains("M44.0 254.0"), svg.substring(0, 3000));
    assertEquals(1, count(svg, "L[0-9.]+ 30\\.0"));
    assertTrue(svg.matches("(?s).*L542\\.0 [0-9.]+\".*"));
  }

  @Test
  void markdownHasTheSameContent() {
    assertEquals(
        """
        # ME+GD \\<script\\>alert(1)\\</script\\>

        ## Scores

        | m | before |
        | --- | ---: |
        | \\<b\\> | 0.5000 |

        ## Curves

        | curve | points | first | lowest | highest | last |
        | --- | ---: | ---: | ---: | ---: | ---: |
        | loss | 3 | 3 | 1 | 3 | 2 |

        ## Notes

        - a \\]\\]\\> note

        ## Facts

        | fact | value |
        | --- | --- |
        | seed & co | "7"\u0001 |
        """,
        Report.markdown(data(series("loss", 3, 1, 2))));
  }

  @Test
  void refusesSeriesOfUnequalLength() {
    assertThrows(UserException.class, () -> new Series("s", List.of(1.0), List.of()));
  }
}
