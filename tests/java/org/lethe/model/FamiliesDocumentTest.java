package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.kernels.NormKind;
import org.lethe.model.families.Families;

/** The table of docs/families.md is what the records of the families say. */
class FamiliesDocumentTest {
  private static final Path DOCUMENT =
      Path.of(System.getProperty("lethe.root"), "docs", "families.md");

  @Test
  void theTableSaysWhatTheRecordsSay() throws IOException {
    String document = Files.readString(DOCUMENT);
    String table = table();
    assertTrue(document.contains(table), "docs/families.md lacks this table:\n" + table);
  }

  @Test
  void everyFamilyHasAGolden() {
    Set<String> tested = new TreeSet<>();
    for (String golden : FamilyGoldenTest.families()) {
      tested.add(config(golden).family());
    }
    assertEquals(new TreeSet<>(Families.names()), tested);
  }

  private static ModelConfig config(String golden) {
    return ModelDirectory.config(Goldens.path("families/" + golden)).model();
  }

  private static String table() {
    List<Map<String, String>> rows = new ArrayList<>();
    FamilyGoldenTest.families().forEach(name -> rows.add(row(name, config(name))));
    StringBuilder table = new StringBuilder();
    Set<String> columns = rows.get(0).keySet();
    table.append("| ").append(String.join(" | ", columns)).append(" |\n");
    table.append("|").append("---|".repeat(columns.size())).append("\n");
    for (Map<String, String> row : rows) {
      table.append("| ").append(String.join(" | ", row.values())).append(" |\n");
    }
    return table.toString();
  }

  private static Map<String, String> row(String golden, ModelConfig c) {
    Map<String, String> row = new LinkedHashMap<>();
    row.put("golden", "`" + golden + "`");
    row.put("`model_type`", "`" + c.family() + "`");
    row.put("norms", norms(c));
    row.put("feed-forward", feedForward(c));
    row.put("biases", biases(c));
    row.put("rotary", rotary(c));
    row.put("windows", c.attention().windows().toString());
    row.put("attention", attention(c));
    row.put("ends", ends(c));
    row.put("linears of a layer", linears(c));
    return row;
  }

  private static String norms(ModelConfig c) {
    String kind = c.norms().kind() == NormKind.LAYER ? "layer" : "RMS";
    String shift = c.norms().weightShift() == 1 ? " × (1 + w)" : "";
    int count = c.norms().after() ? 4 : c.feedForward().parallel() ? 1 : 2;
    return kind + shift + ", " + count + " a layer";
  }

  private static String feedForward(ModelConfig c) {
    return (c.feedForward().gated() ? "gated " : "")
        + c.feedForward().activation()
        + (c.feedForward().parallel() ? ", parallel" : "");
  }

  private static String biases(ModelConfig c) {
    List<String> biases = new ArrayList<>();
    if (c.attention().inputBias()) {
      biases.add("q, k, v");
    }
    if (c.attention().outputBias()) {
      biases.add("attention out");
    }
    if (c.feedForward().bias()) {
      biases.add("feed-forward");
    }
    if (c.ends().headBias()) {
      biases.add("head");
    }
    return biases.isEmpty() ? "none" : String.join(", ", biases);
  }

  private static String rotary(ModelConfig c) {
    return c.rotary().width() + " of " + c.headDim() + ", " + c.rotary().name();
  }

  private static String attention(ModelConfig c) {
    List<String> flags = new ArrayList<>();
    flags.add(c.heads() + "/" + c.kvHeads() + " heads");
    if (c.attention().queryKeyNorm()) {
      flags.add("q/k norm");
    }
    if (c.attention().softCap() > 0) {
      flags.add("soft cap " + c.attention().softCap());
    }
    if (c.attention().scale() != ModelConfig.Attention.scale(c.headDim())) {
      flags.add("own scale");
    }
    return String.join(", ", flags);
  }

  private static String ends(ModelConfig c) {
    List<String> flags = new ArrayList<>();
    flags.add(c.tiedHead() ? "tied" : "untied");
    if (c.ends().embeddingScale() != 1) {
      flags.add("embedding × √d");
    }
    if (c.ends().logitSoftCap() > 0) {
      flags.add("soft cap " + c.ends().logitSoftCap());
    }
    return String.join(", ", flags);
  }

  private static String linears(ModelConfig c) {
    return ModelLayout.groups(c).stream()
        .flatMap(g -> g.parts().stream())
        .map(Projection.Part::name)
        .collect(Collectors.joining(", "));
  }
}
