package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.Tofu;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;

/**
 * Official evaluation logs of two TOFU models as a witness, when {@code lethe.tofu} names TOFU's
 * directory and {@code tofu_eval_logs} lies beside it: from the texts there, our metrics must give
 * the values that are printed there. What needs no text is in {@link PublishedLogsTest}.
 */
@Tag("tofu")
class OfficialLogsTest {
  private static final List<String> SETS = List.of("forget", "retain", "ra", "wf");

  private Path logs;

  @BeforeEach
  void findLogs() {
    logs = Tofu.directory().resolveSibling("tofu_eval_logs");
    if (!logs.toFile().isDirectory()) {
      Tofu.skip("no official evaluation logs beside the TOFU data");
    }
  }

  private JsonNode log(String model) throws IOException {
    return new ObjectMapper().readTree(logs.resolve(model).resolve("TOFU_EVAL.json").toFile());
  }

  private static List<JsonNode> rows(JsonNode metric) {
    List<JsonNode> rows = new ArrayList<>();
    metric.path("value_by_index").forEach(rows::add);
    assertTrue(rows.size() >= 100, rows.size() + " rows");
    return rows;
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void rougeOfEveryStoredGeneration(String model) throws IOException {
    JsonNode log = log(model);
    int checked = 0;
    for (String set : SETS) {
      JsonNode metric = log.path(set + "_Q_A_ROUGE");
      List<Double> recalls = new ArrayList<>();
      for (JsonNode row : rows(metric)) {
        String wanted = row.get("ground_truth").textValue();
        String said = row.get("generation").textValue();
        RougeL.Score longest = RougeL.score(wanted, said);
        assertEquals(row.get("rougeL_recall").doubleValue(), longest.recall(), row.toString());
        assertEquals(row.get("rougeL_f1").doubleValue(), longest.f1(), row.toString());
        double words = Rouge1.score(wanted, said).recall();
        assertEquals(row.get("rouge1_recall").doubleValue(), words, row.toString());
        recalls.add(longest.recall());
        checked++;
      }
      double[] ours = recalls.stream().mapToDouble(Double::doubleValue).toArray();
      assertEquals(metric.get("agg_value").doubleValue(), Averaging.NUMPY.mean(ours), set);
    }
    assertEquals(400 + 400 + 100 + 117, checked);
  }

  /** The zlib attack from the texts: loss over the compressed length, to the last bit. */
  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void compressedLengths(String model) throws IOException {
    JsonNode log = log(model);
    // Forget answers went through the tokenizer and back, which removes the space before a comma
    // in one of them, so the log's own text is taken.
    List<String> forget = new ArrayList<>();
    rows(log.path("forget_Q_A_ROUGE"))
        .forEach(row -> forget.add(row.get("ground_truth").textValue()));
    List<String> holdout =
        Jsonl.read(Tofu.directory().resolve("holdout10.json")).stream()
            .map(Example::answer)
            .toList();
    for (String part : List.of("forget", "holdout")) {
      List<String> texts = part.equals("forget") ? forget : holdout;
      List<JsonNode> losses = rows(log.path("mia_loss").path(part));
      List<JsonNode> printed = rows(log.path("mia_zlib").path(part));
      assertEquals(400, texts.size());
      for (int i = 0; i < texts.size(); i++) {
        double ours = losses.get(i).get("score").doubleValue() / CompressedLength.of(texts.get(i));
        assertEquals(printed.get(i).get("score").doubleValue(), ours, part + " " + i);
      }
    }
  }

  /** The committed numbers are those of the logs. */
  @Test
  void theGoldensAreTheLogs() throws IOException {
    for (String model : List.of("full_forget10", "retain90")) {
      JsonNode log = log(model);
      PublishedLog golden = PublishedLog.read(model);
      assertEquals(log.size(), golden.root().size());
      for (String metric : List.of("extraction_strength", "forget_truth_ratio")) {
        double[] column = golden.column(metric, "score");
        List<JsonNode> rows = rows(log.path(metric));
        for (int i = 0; i < column.length; i++) {
          assertEquals(rows.get(i).get("score").doubleValue(), column[i], metric);
        }
      }
    }
  }
}
