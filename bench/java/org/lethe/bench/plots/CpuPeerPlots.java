package org.lethe.bench.plots;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.lethe.report.Chart;
import org.lethe.report.Series;
import org.lethe.report.SvgChart;

/** A whole step on the CPU: time against the process' peak memory, a dot for each case. */
final class CpuPeerPlots {
  private CpuPeerPlots() {}

  static Map<String, String> of(Path result, JsonNode document, String source) {
    JsonNode cases = document.path("cases");
    Chart chart =
        new Chart(
            "A step on the CPU beside its peers: a dot for each case",
            "",
            "ms (log scale)",
            "MB at most",
            Chart.Scale.LOG,
            true,
            List.of(
                series("Lethe", "lethe", cases),
                series("Hugging Face + PEFT", "peer", cases),
                series("libtorch", "libtorch", cases)),
            List.of());
    List<String> notes = new ArrayList<>();
    cases.forEach(c -> notes.add(ratios(c)));
    notes.add("bench/results/" + result.getFileName() + "; drawn by bench/plots/run");
    return Map.of(Plots.stem(result) + ".svg", SvgChart.overLog(chart, notes, source));
  }

  private static Series series(String name, String key, JsonNode cases) {
    TreeMap<Double, Double> dots = new TreeMap<>();
    for (JsonNode c : cases) {
      if (c.has(key + "_ms")) {
        dots.put(c.path(key + "_ms").asDouble(), c.path(key + "_peak_MB").asDouble());
      }
    }
    return new Series(name, List.copyOf(dots.keySet()), List.copyOf(dots.values()));
  }

  /** What a case says by itself. */
  private static String ratios(JsonNode c) {
    String libtorch =
        c.has("libtorch_ratio")
            ? String.format(Locale.ROOT, ", %.2f as libtorch", c.path("libtorch_ratio").asDouble())
            : "";
    return String.format(
        Locale.ROOT,
        "%s: %.2f times as fast as the peer%s, in %.0f %% of its memory",
        c.path("case").asText(),
        c.path("ratio").asDouble(),
        libtorch,
        100 * c.path("peak_ratio").asDouble());
  }
}
