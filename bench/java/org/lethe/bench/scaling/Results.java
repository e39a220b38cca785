package org.lethe.bench.scaling;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.lethe.bench.Whole;

/** A run's curves as JSON, and the same as a page to read. */
final class Results {
  private Results() {}

  /** Fills {@code document}, which holds what is known of the run, with its curves. */
  static void put(ObjectNode document, List<Measurement.Measured> all) {
    long missing = all.stream().flatMap(m -> m.points().stream()).filter(p -> !p.ran()).count();
    document.put("not_run", missing);
    ArrayNode curves = document.putArray("curves");
    for (Measurement.Measured m : all) {
      ObjectNode curve = curves.addObject();
      curve.put("name", m.curve().name());
      curve.put("subject", m.curve().subject().name());
      curve.put("axis", m.curve().axis().key());
      curve.put("axis_label", m.curve().axis().label());
      curve.put("fixed", m.curve().fixed());
      Fit fit = new Fit(m.points());
      ArrayNode decades = curve.putArray("per_decade");
      for (Fit.Decade d : fit.decades()) {
        ObjectNode decade = decades.addObject();
        decade.put("from", d.from()).put("to", d.to()).put("exponent", rounded(d.exponent(), 3));
      }
      ArrayNode stretches = curve.putArray("stretches");
      for (Fit.Stretch s : fit.stretches()) {
        ObjectNode stretch = stretches.addObject();
        stretch.put("from", s.from()).put("to", s.to()).put("exponent", rounded(s.exponent(), 3));
        stretch.put("work", rounded(s.work(), 3)).put("rate", rounded(s.rate(), 3));
        stretch.put("linear", s.linear()).put("words", s.words());
      }
      points(curve.putArray("points"), m.points(), fit.local());
    }
  }

  private static void points(ArrayNode to, List<Point> points, List<Double> local) {
    int ran = 0;
    for (Point p : points) {
      ObjectNode point = to.addObject();
      point.put("x", p.x()).put("gflop", rounded(p.gflop(), 4)).put("bytes", p.bytes());
      if (!p.ran()) {
        point.put("not_run", p.why());
        continue;
      }
      point.put("ms_median", rounded(p.median(), 4)).put("ms_least", rounded(p.ms()[0], 4));
      point.put("ms_most", rounded(p.ms()[p.ms().length - 1], 4)).put("samples", p.ms().length);
      if (!local.isEmpty()) {
        point.put("local_exponent", rounded(local.get(ran), 3));
      }
      ran++;
    }
  }

  private static double rounded(double value, int decimals) {
    double scale = Math.pow(10, decimals);
    return Math.rint(value * scale) / scale;
  }

  /** Writes PREFIX.json, a line for each curve and point, and PREFIX.md. */
  static void write(Path prefix, ObjectNode document) throws IOException {
    Path directory = prefix.toAbsolutePath().getParent();
    Files.createDirectories(directory);
    Whole.write(with(prefix, ".json"), lines(document));
    Whole.write(with(prefix, ".md"), page(document));
  }

  private static Path with(Path prefix, String ending) {
    return prefix.resolveSibling(prefix.getFileName() + ending);
  }

  /** A line for each object of an array. */
  private static String lines(ObjectNode document) {
    return document.toString().replace("},{", "},\n{").replace("[{", "[\n{") + "\n";
  }

  private static String page(JsonNode document) {
    StringBuilder page = new StringBuilder();
    page.append("# How cost scales\n\n");
    page.append(
        String.format(
            "Device %s. Storage %s, %s threads. Commit %s, %s, `%s`. Other processes took %s of the"
                + " processors meanwhile.%n%n",
            document.path("device"),
            document.path("storage").asText(),
            document.path("threads").asText(),
            document.path("commit").asText(),
            document.path("date").asText(),
            document.path("command").asText(),
            percent(document.path("others").asDouble())));
    page.append(
        "An exponent e says that time grows as the size to the power e; 1 is linear. Exponents"
            + " are least-squares fits, around a point over its neighbours. Work: of the"
            + " floating-point operations; the rate, operations per second, grows with what is"
            + " left. One call warms up, then as many are timed as half a second holds.\n");
    for (JsonNode curve : document.path("curves")) {
      curve(page, curve);
    }
    return page.toString();
  }

  private static void curve(StringBuilder page, JsonNode curve) {
    page.append(
        String.format(
            "%n## %s%n%n%s.%n%n", curve.path("name").asText(), curve.path("fixed").asText()));
    for (JsonNode s : curve.path("stretches")) {
      page.append("- ").append(s.path("words").asText()).append('\n');
    }
    String decades =
        stream(curve.path("per_decade"))
            .map(
                d ->
                    String.format(
                        Locale.ROOT,
                        "%.2f (%s to %s)",
                        d.path("exponent").asDouble(),
                        Fit.whole(d.path("from").asDouble()),
                        Fit.whole(d.path("to").asDouble())))
            .collect(Collectors.joining(", "));
    page.append("- per decade: ").append(decades.isEmpty() ? "too few points" : decades);
    page.append(
        String.format(
            "%n%n| %s | ms | least to most | samples | GFLOP/s | exponent"
                + " |%n|---|---|---|---|---|---|%n",
            curve.path("axis_label").asText()));
    for (JsonNode p : curve.path("points")) {
      String x = Fit.whole(p.path("x").asDouble());
      if (p.has("not_run")) {
        page.append(String.format("| %s | NOT RUN: %s | | | | |%n", x, p.path("not_run").asText()));
        continue;
      }
      double ms = p.path("ms_median").asDouble();
      page.append(
          String.format(
              Locale.ROOT,
              "| %s | %.3f | %.3f to %.3f | %d | %.1f | %.2f |%n",
              x,
              ms,
              p.path("ms_least").asDouble(),
              p.path("ms_most").asDouble(),
              p.path("samples").asInt(),
              p.path("gflop").asDouble() / ms * 1e3,
              p.path("local_exponent").asDouble()));
    }
  }

  private static Stream<JsonNode> stream(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false);
  }

  private static String percent(double share) {
    return String.format(Locale.ROOT, "%.0f %%", 100 * share);
  }
}
