package org.lethe.bench.plots;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.lethe.report.Chart;
import org.lethe.report.Series;
import org.lethe.report.SvgChart;

/** Time against memory above the inputs, of Lethe and its peers: one picture for each shape. */
final class PeerPlots {
  /** A pass that takes no memory beside its inputs has to stand somewhere on a log scale. */
  private static final double LEAST_MEGABYTES = 0.1;

  private PeerPlots() {}

  static Map<String, String> of(Path result, JsonNode document, String source) {
    Map<String, List<JsonNode>> byShape = new LinkedHashMap<>();
    for (JsonNode entry : document.path("results")) {
      if (entry.path("family").asText().equals("head") && entry.has("ms_median")) {
        byShape.computeIfAbsent(entry.path("shape").asText(), k -> new ArrayList<>()).add(entry);
      }
    }
    Map<String, String> plots = new LinkedHashMap<>();
    byShape.forEach(
        (shape, entries) -> {
          Chart chart =
              new Chart(
                  "The head beside its peers, " + shape + ": a dot for each loss",
                  "",
                  "ms (log scale)",
                  "MB above the inputs",
                  Chart.Scale.LOG,
                  true,
                  series(entries),
                  List.of());
          List<String> notes = List.of(Plots.origin(result, document));
          String name = Plots.stem(result) + "-head-" + shape + ".svg";
          plots.put(name, SvgChart.overLog(chart, notes, source));
        });
    return plots;
  }

  private static List<Series> series(List<JsonNode> entries) {
    Map<String, TreeMap<Double, Double>> byPeer = new LinkedHashMap<>();
    for (JsonNode entry : entries) {
      byPeer
          .computeIfAbsent(entry.path("provider").asText(), k -> new TreeMap<>())
          .put(
              entry.path("ms_median").asDouble(),
              Math.max(LEAST_MEGABYTES, entry.path("peak_bytes").asDouble() / 1e6));
    }
    List<Series> series = new ArrayList<>();
    byPeer.forEach(
        (peer, values) ->
            series.add(
                new Series(peer, List.copyOf(values.keySet()), List.copyOf(values.values()))));
    return series;
  }
}
