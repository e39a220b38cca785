package org.lethe.bench.plots;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.report.Chart;
import org.lethe.report.Series;
import org.lethe.report.SvgChart;

/**
 * SVGs of a result file, by name; the same file gives the same text. Each says in its metadata
 * which file it was drawn from, and that file's SHA-256.
 */
public final class Plots {
  /** Characters of a note's line. */
  private static final int MOST_IN_LINE = 84;

  private Plots() {}

  /**
   * Writes the pictures of result files into a directory.
   *
   * @param args the directory, then the JSON files
   */
  public static void main(String[] args) throws IOException {
    if (args.length < 2) {
      System.err.println("usage: bench/plots/run DIR RESULT.json...");
      System.exit(2);
    }
    try {
      for (int i = 1; i < args.length; i++) {
        for (Map.Entry<String, String> svg : of(Path.of(args[i])).entrySet()) {
          Path file = Path.of(args[0]).resolve(svg.getKey());
          Files.writeString(file, svg.getValue(), StandardCharsets.UTF_8);
          System.out.println("wrote " + file);
        }
      }
    } catch (UserException e) {
      System.err.println(e.getMessage());
      System.exit(2);
    }
  }

  /**
   * The pictures of a result file, by file name.
   *
   * @throws UserException when nothing is known of such results
   */
  public static Map<String, String> of(Path result) throws IOException {
    byte[] content = Files.readAllBytes(result);
    JsonNode document = JsonMapper.builder().build().readTree(content);
    String source = result.getFileName() + " sha256:" + sha256(content);
    return switch (document.path("what").asText()) {
      case "scaling" -> scaling(result, document, source);
      case "cpu-peers" -> CpuPeerPlots.of(result, document, source);
      case "gpu-peers" -> PeerPlots.of(result, document, source);
      default ->
          throw new UserException(
              result + " holds no results that are drawn; give one of bench/scaling or of peers");
    };
  }

  private static String sha256(byte[] content) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
    } catch (NoSuchAlgorithmException e) {
      throw new InternalFaultException("every JDK has SHA-256", e);
    }
  }

  /** One picture for each size that is varied, with the curves of all subjects. */
  private static Map<String, String> scaling(Path result, JsonNode document, String source) {
    Map<String, List<JsonNode>> byAxis = new LinkedHashMap<>();
    for (JsonNode curve : document.path("curves")) {
      byAxis.computeIfAbsent(curve.path("axis").asText(), k -> new ArrayList<>()).add(curve);
    }
    Map<String, String> plots = new LinkedHashMap<>();
    byAxis.forEach(
        (axis, curves) -> {
          List<Series> series = new ArrayList<>();
          List<String> notes = new ArrayList<>();
          for (JsonNode curve : curves) {
            Series s = series(curve);
            if (!s.x().isEmpty()) {
              series.add(s);
              notes.addAll(exponents(curve));
            }
          }
          if (!series.isEmpty()) {
            String label = curves.get(0).path("axis_label").asText();
            String backend = document.path("device").path("backend").asText();
            notes.add(origin(result, document));
            Chart chart =
                new Chart(
                    "Time against " + label + ", " + backend,
                    "",
                    label + " (log scale)",
                    "ms",
                    Chart.Scale.LOG,
                    true,
                    series,
                    List.of());
            String name = stem(result) + "-" + axis + ".svg";
            plots.put(name, SvgChart.overLog(chart, notes, source));
          }
        });
    return plots;
  }

  private static Series series(JsonNode curve) {
    List<Double> x = new ArrayList<>();
    List<Double> y = new ArrayList<>();
    for (JsonNode point : curve.path("points")) {
      if (point.has("ms_median")) {
        x.add(point.path("x").asDouble());
        y.add(point.path("ms_median").asDouble());
      }
    }
    return new Series(curve.path("subject").asText(), x, y);
  }

  /** Lines that fit the picture. */
  private static List<String> exponents(JsonNode curve) {
    List<String> lines = new ArrayList<>();
    StringBuilder line = new StringBuilder(curve.path("subject").asText()).append(": exponent ");
    String separator = "";
    for (JsonNode s : curve.path("stretches")) {
      String words =
          separator
              + String.format(Locale.ROOT, "%.2f", s.path("exponent").asDouble())
              + " up to "
              + brief(s.path("to").asDouble());
      if (line.length() + words.length() > MOST_IN_LINE) {
        lines.add(line + ",");
        line.setLength(0);
        words = "    " + words.substring(2);
      }
      line.append(words);
      separator = ", ";
    }
    lines.add(line.toString());
    return lines;
  }

  static String brief(double x) {
    return x >= 1e6
        ? String.format(Locale.ROOT, "%.2fe9", x / 1e9)
        : String.format(Locale.ROOT, "%.0f", x);
  }

  /** Where the values are, and whose they are. */
  static String origin(Path result, JsonNode document) {
    return "bench/results/"
        + result.getFileName()
        + ", commit "
        + document.path("commit").asText()
        + "; drawn by bench/plots/run";
  }

  static String stem(Path result) {
    return result.getFileName().toString().replaceFirst("\\.json$", "");
  }
}
