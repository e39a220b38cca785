package org.lethe.bench.jmh;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.bench.Machine;
import org.lethe.kernels.Backend;
import org.lethe.report.Table;

/**
 * The results of a day, as JSON and as a table. What was run again replaces what it was; the rest
 * stays, with its own commit and command.
 */
public final class ResultFile {
  private static final JsonMapper MAPPER =
      JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();

  private final Path json;
  private final Path table;
  private final ObjectNode document;

  private ResultFile(Path json, Path table, ObjectNode document) {
    this.json = json;
    this.table = table;
    this.document = document;
  }

  /** Today's results, begun or added to. */
  public static ResultFile open(Path directory) {
    String date = LocalDate.now(ZoneOffset.UTC).toString();
    Path json = directory.resolve(date + "-jmh.json");
    try {
      ObjectNode document =
          Files.exists(json)
              ? (ObjectNode) MAPPER.readTree(Files.readString(json, StandardCharsets.UTF_8))
              : MAPPER.createObjectNode();
      document.put("date", date);
      document.put("processor", Machine.processor());
      try (Backend backend = Backend.open("cpu")) {
        document.set("backend", MAPPER.readTree(backend.description()));
      }
      document.put("java", Runtime.version().toString());
      return new ResultFile(json, directory.resolve(date + "-jmh.md"), document);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Replaces what has the same name and parameters. */
  public void put(String section, ObjectNode entry) {
    ArrayNode entries = document.withArray(section);
    String key = key(entry);
    for (int i = 0; i < entries.size(); i++) {
      if (key(entries.get(i)).equals(key)) {
        entries.set(i, entry);
        return;
      }
    }
    entries.add(entry);
  }

  /** An entry to be filled. */
  public static ObjectNode entry() {
    return MAPPER.createObjectNode();
  }

  private static String key(JsonNode entry) {
    return entry.path("benchmark").asText() + entry.path("parameters");
  }

  /** Writes both files. */
  public void write() {
    try {
      Files.createDirectories(json.toAbsolutePath().getParent());
      Files.writeString(json, MAPPER.writeValueAsString(document) + "\n", StandardCharsets.UTF_8);
      Files.writeString(table, markdown(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The table. */
  public String markdown() {
    StringBuilder out = new StringBuilder();
    JsonNode backend = document.path("backend");
    out.append("# The Java side, timed by JMH (")
        .append(document.path("date").asText())
        .append(")\n\n");
    out.append(document.path("processor").asText())
        .append(", ")
        .append(backend.path("threads").asText())
        .append(" threads, ")
        .append(backend.path("isa").asText())
        .append("; Java ")
        .append(document.path("java").asText())
        .append(", oneDNN ")
        .append(backend.path("onednn").asText())
        .append(".\n\n");
    out.append(
        "Every result was checked before it was timed. ±: half of JMH's 99.9 % confidence interval."
            + " Others: the share of\nthe processors that foreign processes took meanwhile; beside"
            + " them times are too long.\n");
    groups().forEach((name, entries) -> group(out, name, entries));
    beside(out);
    share(out);
    return out.toString();
  }

  private Map<String, List<JsonNode>> groups() {
    Map<String, List<JsonNode>> groups = new LinkedHashMap<>();
    for (JsonNode entry : document.path("results")) {
      String name = entry.path("benchmark").asText();
      groups
          .computeIfAbsent(name.substring(0, name.indexOf('.')), k -> new ArrayList<>())
          .add(entry);
    }
    return groups;
  }

  private static void group(StringBuilder out, String name, List<JsonNode> entries) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    for (JsonNode e : entries) {
      List<String> parameters = new ArrayList<>();
      e.path("parameters")
          .properties()
          .forEach(p -> parameters.add(p.getKey() + " " + p.getValue().asText()));
      List<String> counters = new ArrayList<>();
      e.path("counters")
          .properties()
          .forEach(
              c ->
                  counters.add(
                      counter(
                          c.getKey(),
                          c.getValue().path("score").asDouble(),
                          c.getValue().path("unit").asText())));
      rows.add(
          Table.row(
              e.path("benchmark").asText().substring(name.length() + 1),
              String.join(", ", parameters),
              quantity(e.path("score").asDouble()),
              quantity(e.path("error").asDouble()),
              e.path("unit").asText(),
              String.join(", ", counters),
              percent(e.path("others").asDouble()),
              e.path("shape").asText()));
    }
    out.append("\n## ").append(name).append("\n\n");
    List<String> columns =
        List.of("benchmark", "parameters", "score", "±", "unit", "that is", "others", "a call");
    out.append(new Table(name, columns, rows).markdown());
    origin(out, entries);
  }

  /** Lethe's step and libtorch's of the same parameters. */
  private void beside(StringBuilder out) {
    List<List<Table.Cell>> rows = new ArrayList<>();
    for (JsonNode torch : document.path("results")) {
      for (JsonNode lethe : document.path("results")) {
        if (torch.path("benchmark").asText().equals("TorchStepBench.step")
            && lethe.path("benchmark").asText().equals("WholeStepBench.step")
            && torch.path("parameters").equals(lethe.path("parameters"))) {
          double theirs = torch.path("score").asDouble();
          double ours = lethe.path("score").asDouble();
          JsonNode p = torch.path("parameters");
          rows.add(
              Table.row(
                  p.path("size").asText() + " " + p.path("storage").asText(),
                  p.path("method").asText(),
                  quantity(theirs),
                  quantity(ours),
                  String.format(Locale.ROOT, "%.2f×", theirs / ours)));
        }
      }
    }
    if (!rows.isEmpty()) {
      out.append("\n## Whole steps beside libtorch\n\n");
      List<String> columns = List.of("model", "method", "libtorch ms", "Lethe ms", "speed");
      out.append(new Table("beside", columns, rows).markdown());
      out.append(
          "\nSame weights, adapters and sequences in the JavaCPP presets' libtorch, which does"
              + " without Lethe's packing and fused\nhead; losses of three steps agree (fp32: 1e-4)"
              + " before either is timed.\n");
    }
  }

  private void share(StringBuilder out) {
    List<JsonNode> entries = new ArrayList<>();
    document.path("java_share").forEach(entries::add);
    if (entries.isEmpty()) {
      return;
    }
    List<List<Table.Cell>> rows = new ArrayList<>();
    for (JsonNode e : entries) {
      JsonNode p = e.path("parameters");
      rows.add(
          Table.row(
              p.path("size").asText()
                  + " "
                  + p.path("storage").asText()
                  + " "
                  + p.path("method").asText(),
              quantity(e.path("step_ms").asDouble()),
              quantity(e.path("java_ms").asDouble()),
              String.format(
                  Locale.ROOT,
                  "%.3f %% ± %.3f",
                  100 * e.path("java_share").asDouble(),
                  100 * e.path("java_share_error").asDouble()),
              e.path("tokens").asText(),
              e.path("native_calls").asText(),
              quantity(e.path("clock_ms").asDouble()),
              percent(e.path("others").asDouble())));
    }
    out.append("\n## Java's share of a step\n\n");
    List<String> columns =
        List.of(
            "step",
            "ms",
            "in Java ms",
            "share",
            "tokens",
            "native calls",
            "of it clocks ms",
            "others");
    out.append(new Table("share", columns, rows).markdown());
    out.append(
        "\n"
            + "Means over steps, ± the 95 % interval; clocks around every native call of the"
            + " training thread, their own\n"
            + "cost counted as Java's. A step, by Trainer.next: 8 + 8 rows through chat template"
            + " and tokenizer, packing,\n"
            + "forward, head, method, backward, update of LoRA r=8 on all linears. Tokens: with the"
            + " reference's.\n");
    origin(out, entries);
  }

  private static void origin(StringBuilder out, List<JsonNode> entries) {
    Map<String, Long> origins = new LinkedHashMap<>();
    for (JsonNode e : entries) {
      String origin =
          "commit " + e.path("commit").asText() + ", `" + e.path("command").asText() + "`";
      origins.merge(origin, 1L, Long::sum);
    }
    out.append('\n');
    origins.forEach(
        (origin, n) -> out.append("- ").append(n).append(" by ").append(origin).append('\n'));
  }

  /** JMH counts everything in ops: ops/s, ns/op. */
  private static String counter(String counted, double score, String unit) {
    String singular = counted.substring(0, counted.length() - 1);
    String own =
        unit.startsWith("ops/") ? counted + unit.substring(3) : unit.replace("op", singular);
    return (score >= 1e9
            ? quantity(score / 1e9) + " G"
            : score >= 1e6 ? quantity(score / 1e6) + " M" : quantity(score) + " ")
        + own;
  }

  private static String percent(double share) {
    return String.format(Locale.ROOT, "%.0f %%", 100 * share);
  }

  /** Four significant digits, thousands in groups. */
  private static String quantity(double value) {
    if (!Double.isFinite(value)) {
      return "";
    }
    double magnitude = Math.abs(value);
    int whole = magnitude < 1 ? 1 : (int) Math.floor(Math.log10(magnitude)) + 1;
    return String.format(Locale.ROOT, "%,." + Math.max(0, 4 - whole) + "f", value);
  }
}
