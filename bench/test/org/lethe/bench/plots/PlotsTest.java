package org.lethe.bench.plots;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.w3c.dom.Document;
import org.xml.sax.InputSource;

class PlotsTest {
  private static final Path ROOT = Path.of(System.getProperty("lethe.root"));

  @TempDir Path directory;

  private static Document parsed(String svg) throws Exception {
    DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
    factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
    return factory.newDocumentBuilder().parse(new InputSource(new StringReader(svg)));
  }

  /** What is committed is what the committed results give. */
  @Test
  void committedPlotsComeFromCommittedResults() throws Exception {
    List<Path> plots;
    try (Stream<Path> files = Files.list(ROOT.resolve("docs/performance"))) {
      plots = files.filter(f -> f.toString().endsWith(".svg")).sorted().toList();
    }
    assertFalse(plots.isEmpty());
    for (Path plot : plots) {
      String svg = Files.readString(plot, StandardCharsets.UTF_8);
      String source =
          parsed(svg).getElementsByTagName("metadata").item(0).getTextContent().split(" ", -1)[0];
      Path result = ROOT.resolve("bench/results").resolve(source);
      assertEquals(Plots.of(result).get(plot.getFileName().toString()), svg, plot + " is stale");
    }
  }

  @Test
  void everyPointIsDrawnAndTheSourceIsNamed() throws Exception {
    String json =
        """
        {"what":"scaling","device":{"backend":"cpu"},"commit":"c","curves":[
        {"name":"head-tokens","subject":"head","axis":"tokens","axis_label":"tokens",
        "stretches":[{"to":1000,"exponent":1}],
        "points":[{"x":10,"ms_median":1},{"x":100,"ms_median":10},{"x":1000,"not_run":"<no>"}]}]}
        """;
    String svg = draw(json);
    Document document = parsed(svg);
    assertEquals(2, document.getElementsByTagName("circle").getLength());
    assertTrue(svg.contains("r.json sha256:"));
    assertTrue(svg.contains("head: exponent 1.00 up to 1000"));
    assertNotEquals(svg, draw(json.replace("\"ms_median\":10", "\"ms_median\":11")));
  }

  private String draw(String json) throws IOException {
    Path file = directory.resolve("r.json");
    Files.writeString(file, json, StandardCharsets.UTF_8);
    return Plots.of(file).get("r-tokens.svg");
  }

  @Test
  void everyCaseOfThePeersOnTheCpuIsDrawn() throws Exception {
    String json =
        """
        {"what":"cpu-peers","cases":[
        {"case":"a","lethe_ms":10,"lethe_peak_MB":100,"peer_ms":30,"peer_peak_MB":500,"ratio":3,
        "libtorch_ms":20,"libtorch_peak_MB":400,"libtorch_ratio":2,"peak_ratio":0.2},
        {"case":"b","lethe_ms":5,"lethe_peak_MB":90,"peer_ms":200,"peer_peak_MB":900,"ratio":40,
        "peak_ratio":0.1}]}
        """;
    Path file = directory.resolve("2026-cpu-peers.json");
    Files.writeString(file, json, StandardCharsets.UTF_8);
    String svg = Plots.of(file).get("2026-cpu-peers.svg");
    assertEquals(5, parsed(svg).getElementsByTagName("circle").getLength());
    assertTrue(svg.contains("a: 3.00 times as fast as the peer, 2.00 as libtorch, in 20 %"), svg);
    assertTrue(svg.contains("b: 40.00 times as fast as the peer, in 10 %"), svg);
  }

  @Test
  void otherResultsAreRefused() throws IOException {
    Path file = directory.resolve("other.json");
    Files.writeString(file, "{\"what\":\"check\"}", StandardCharsets.UTF_8);
    assertThrows(UserException.class, () -> Plots.of(file));
  }
}
