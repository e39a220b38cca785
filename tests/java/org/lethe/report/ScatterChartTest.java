package org.lethe.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.StringReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.w3c.dom.Document;
import org.xml.sax.InputSource;

class ScatterChartTest {
  private static Scatter.Point point(int number, Scatter.Kind kind, double x, double y) {
    return new Scatter.Point("" + number, "run<" + number + ">", "ME+GD", kind, x, y);
  }

  private static Scatter scatter(Scatter.Point... points) {
    return new Scatter("t & u", "m", "forgetting", "utility", Arrays.asList(points));
  }

  private static Document page(Scatter scatter) throws Exception {
    ReportData data = new ReportData("t", List.of(), List.of(), List.of(), List.of());
    return DocumentBuilderFactory.newInstance()
        .newDocumentBuilder()
        .parse(new InputSource(new StringReader(Report.html(data, scatter))));
  }

  private static int count(String text, String regex) {
    return text.split(regex, -1).length - 1;
  }

  @Test
  void thePointsSpanTheChartAndTheFrontIsStairs() {
    String svg =
        ScatterChart.html(
            scatter(
                point(1, Scatter.Kind.FRONT, 1, 0.5),
                point(2, Scatter.Kind.FRONT, 0.5, 1),
                point(3, Scatter.Kind.BEATEN, 0.2, 0.2),
                new Scatter.Point("", "before", "", Scatter.Kind.START, 0, 1)));
    // Both measures from 0 to 1; left edge 44, right edge 736, top 48, bottom 394.
    assertTrue(
        svg.contains("<path class=\"front\" d=\"M44.0 48.0L390.0 48.0L390.0 221.0L736.0 221.0"),
        svg);
    assertTrue(svg.contains("L736.0 394.0\"/>"), svg);
    assertTrue(svg.contains("<circle class=\"dot c0\" cx=\"736.0\" cy=\"221.0\""), svg);
    assertTrue(svg.contains("<circle class=\"ring c0\" cx=\"182.4\" cy=\"324.8\""), svg);
    assertTrue(svg.contains(">2 run&lt;2&gt;</text>"), svg);
    assertTrue(svg.contains("beaten by another run</li>"), svg);
    assertFalse(svg.contains("never saw"), svg);
  }

  @Test
  void theLegendNamesMethodsOnlyWhenThereAreSeveral() {
    Scatter.Point one = point(1, Scatter.Kind.FRONT, 1, 0.5);
    Scatter.Point other = new Scatter.Point("2", "x", "NPO+GD", Scatter.Kind.FRONT, 0.5, 1);
    assertFalse(ScatterChart.html(scatter(one)).contains("ME+GD</li>"));
    String svg = ScatterChart.html(scatter(one, other));
    assertTrue(svg.contains("ME+GD</li>") && svg.contains("NPO+GD</li>"), svg);
    assertTrue(svg.contains("class=\"dot c1\""), svg);
  }

  @Test
  void hardPointsStillParse() throws Exception {
    Random random = new Random(3);
    List<Scatter.Point> crowd = new ArrayList<>();
    for (int i = 0; i < 300; i++) {
      crowd.add(
          point(
              i,
              i % 2 == 0 ? Scatter.Kind.FRONT : Scatter.Kind.BEATEN,
              0.9 + random.nextDouble() / 50,
              0.9));
    }
    Scatter.Point[] hard = {
      point(1, Scatter.Kind.FRONT, Double.NaN, 1),
      point(2, Scatter.Kind.FRONT, 1, Double.POSITIVE_INFINITY),
      point(3, Scatter.Kind.FRONT, 1e-9, 1e9),
      point(4, Scatter.Kind.YARDSTICK, -2, 1e-9),
      point(5, Scatter.Kind.BEATEN, 0, 0)
    };
    for (Scatter scatter :
        List.of(
            scatter(),
            scatter(hard[0]),
            scatter(hard[4]),
            scatter(hard[2], hard[2]),
            scatter(hard),
            scatter(crowd.toArray(Scatter.Point[]::new)))) {
      Document page = page(scatter);
      String svg = ScatterChart.html(scatter);
      long finite = scatter.points().stream().filter(Scatter.Point::isFinite).count();
      assertEquals(finite, count(svg, "</title>"), svg);
      assertEquals(finite == 0 ? 0 : 1, page.getElementsByTagName("ul").getLength());
      assertFalse(svg.matches("(?s).*(d|[xy][12]?|c[xy])=\"[^\"]*(NaN|Infinity).*"), svg);
    }
  }

  @Test
  void labelsNeverLieOverEachOtherNorOverMarks() {
    Random random = new Random(7);
    LabelPlaces places = new LabelPlaces(0, 0, 500, 300, 7);
    List<double[]> marks = new ArrayList<>();
    for (int i = 0; i < 40; i++) {
      marks.add(new double[] {500 * random.nextDouble(), 300 * random.nextDouble()});
      places.occupy(marks.get(i)[0], marks.get(i)[1], 5);
    }
    places.occupy(0, 150, 500, 150);
    List<double[]> boxes = new ArrayList<>();
    for (double[] mark : marks) {
      LabelPlaces.Place place = places.place(mark[0], mark[1], 5, "words").orElse(null);
      if (place == null) {
        continue;
      }
      double share = place.anchor().equals("start") ? 0 : place.anchor().equals("end") ? 1 : 0.5;
      double left = place.x() - share * 35;
      double top = place.baseline() - 11.2;
      assertTrue(left >= 0 && left + 35 <= 500 && top >= 0 && top + 14 <= 300, place.toString());
      assertTrue(top >= 150 || top + 14 <= 150, place + " lies on the line");
      for (double[] other : marks) {
        assertTrue(apart(left, top, other[0] - 5, other[1] - 5, 10, 10), place.toString());
      }
      for (double[] other : boxes) {
        assertTrue(apart(left, top, other[0], other[1], 35, 14), place.toString());
      }
      boxes.add(new double[] {left, top});
    }
    assertTrue(boxes.size() > 30, boxes.size() + " of 40 labels found a place");
  }

  /** Whether a label of 35 by 14 and a box do not overlap; rounding may make them touch. */
  private static boolean apart(
      double left, double top, double otherLeft, double otherTop, double width, double height) {
    double touch = 1e-9;
    return left + 35 <= otherLeft + touch
        || otherLeft + width <= left + touch
        || top + 14 <= otherTop + touch
        || otherTop + height <= top + touch;
  }
}
