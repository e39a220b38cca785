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

  @Test
  void theCurveSpansTheChart() {
    String svg = LineChart.svg(series("loss", 2, 4));
    assertTrue(svg.contains("d=\"M64.0 228.0L704.0 12.0\""), svg);
    assertTrue(svg.contains(">2.0</text>") && svg.contains(">4.0</text>"), svg);
  }

  @Test
  void gapsBreakTheCurveAndLonePointsShow() {
    String svg = LineChart.svg(series("loss", 1, 2, Double.NaN, 3, Double.POSITIVE_INFINITY, 4, 5));
    assertEquals(3, svg.split("M[0-9]", -1).length - 1);
    assertEquals(1, svg.split("<circle", -1).length - 1);
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
            series("<&>", 1, 2))) {
      String html = Report.html(data(curve));
      parse(html);
      assertFalse(html.matches("(?s).*d=\"[^\"]*(NaN|Infinity).*"), curve.name());
    }
  }

  @Test
  void longCurvesAreThinnedToTheirEnds() {
    double[] y = IntStream.range(0, 100_000).mapToDouble(i -> i).toArray();
    String svg = LineChart.svg(series("loss", y));
    assertTrue(svg.length() < 40_000, "length " + svg.length());
    assertTrue(svg.contains("L704.0 12.0\""));
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

        | curve | points | first | lowest | last |
        | --- | ---: | ---: | ---: | ---: |
        | loss | 3 | 3 | 1 | 2 |

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
