package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.ToDoubleFunction;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.Tofu;

/**
 * Official evaluation logs of two TOFU models as a witness, when {@code lethe.tofu} names TOFU's
 * directory and {@code tofu_eval_logs} lies beside it: from the values per example, our metrics
 * must give the values and aggregates that are printed there.
 */
@Tag("tofu")
class OfficialLogsTest {
  /** Sums of up to 2000 terms were rounded pairwise there, and exp in another library. */
  private static final double ROUNDING = 8 * 0x1p-53;

  /** Probabilities were taken in single precision there. */
  private static final double SINGLE = 2 * 0x1p-23;

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

  private static double aggregate(JsonNode log, String metric) {
    JsonNode value = log.path(metric).path("agg_value");
    assertTrue(value.isNumber(), metric);
    return value.doubleValue();
  }

  private static List<JsonNode> rows(JsonNode log, String metric) {
    List<JsonNode> rows = new ArrayList<>();
    log.path(metric).path("value_by_index").forEach(rows::add);
    assertTrue(rows.size() >= 100, metric + " has " + rows.size() + " rows");
    return rows;
  }

  private static double[] values(JsonNode log, String metric, ToDoubleFunction<JsonNode> value) {
    return rows(log, metric).stream().mapToDouble(value).toArray();
  }

  private static List<Double> list(JsonNode array) {
    List<Double> values = new ArrayList<>();
    array.forEach(value -> values.add(value.doubleValue()));
    return values;
  }

  private static void same(double printed, double ours, String what) {
    assertEquals(printed, ours, ROUNDING * Math.abs(printed), what);
  }

  private static String truthRatio(String set) {
    return set.equals("forget") ? "forget_truth_ratio" : set + "_Truth_Ratio";
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void rougeOfEveryStoredGeneration(String model) throws IOException {
    JsonNode log = log(model);
    int checked = 0;
    for (String set : SETS) {
      List<Double> recalls = new ArrayList<>();
      for (JsonNode row : rows(log, set + "_Q_A_ROUGE")) {
        RougeL.Score score =
            RougeL.score(row.get("ground_truth").textValue(), row.get("generation").textValue());
        assertEquals(row.get("rougeL_recall").doubleValue(), score.recall(), row.toString());
        assertEquals(row.get("rougeL_f1").doubleValue(), score.f1(), row.toString());
        recalls.add(score.recall());
        checked++;
      }
      same(aggregate(log, set + "_Q_A_ROUGE"), Means.of(recalls), set);
    }
    assertEquals(400 + 400 + 100 + 117, checked);
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void probabilities(String model) throws IOException {
    JsonNode log = log(model);
    for (String set : SETS) {
      String metric = set + "_Q_A_Prob";
      double[] printed = values(log, metric, row -> row.get("prob").doubleValue());
      double[] ours = values(log, metric, row -> Probability.of(row.get("avg_loss").doubleValue()));
      for (int i = 0; i < printed.length; i++) {
        assertEquals(printed[i], ours[i], SINGLE * printed[i], metric + " " + i);
      }
      same(aggregate(log, metric), Means.of(printed), metric);
    }
    for (String set : List.of("ra", "wf")) {
      String metric = set + "_Q_A_Prob_normalised";
      double[] printed = values(log, metric, row -> row.get("prob").doubleValue());
      List<JsonNode> right = rows(log, set + "_Q_A_Prob");
      List<JsonNode> wrong = rows(log, set + "_Q_A_PERT_Prob");
      for (int i = 0; i < printed.length; i++) {
        double ours =
            Probability.normalisedOpenUnlearning(
                right.get(i).get("prob").doubleValue(), list(wrong.get(i).get("prob")));
        same(printed[i], ours, metric + " " + i);
      }
      same(aggregate(log, metric), Means.of(printed), metric);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void truthRatios(String model) throws IOException {
    JsonNode log = log(model);
    for (String set : SETS) {
      boolean reworded = set.equals("forget") || set.equals("retain");
      List<JsonNode> right = rows(log, set + (reworded ? "_Q_A_PARA_Prob" : "_Q_A_Prob"));
      List<JsonNode> wrong = rows(log, set + "_Q_A_PERT_Prob");
      double[] printed = values(log, truthRatio(set), row -> row.get("score").doubleValue());
      for (int i = 0; i < printed.length; i++) {
        double ours =
            TruthRatio.openUnlearning(
                right.get(i).get("avg_loss").doubleValue(), list(wrong.get(i).get("avg_loss")));
        same(printed[i], ours, truthRatio(set) + " " + i);
      }
      double mean =
          set.equals("forget")
              ? TruthRatio.forgetOpenUnlearning(printed)
              : TruthRatio.utility(printed);
      same(aggregate(log, truthRatio(set)), mean, truthRatio(set));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void modelUtility(String model) throws IOException {
    JsonNode log = log(model);
    double ours =
        ModelUtility.of(
            aggregate(log, "retain_Q_A_Prob"),
            aggregate(log, "retain_Q_A_ROUGE"),
            aggregate(log, "retain_Truth_Ratio"),
            aggregate(log, "ra_Q_A_Prob_normalised"),
            aggregate(log, "ra_Q_A_ROUGE"),
            aggregate(log, "ra_Truth_Ratio"),
            aggregate(log, "wf_Q_A_Prob_normalised"),
            aggregate(log, "wf_Q_A_ROUGE"),
            aggregate(log, "wf_Truth_Ratio"));
    same(aggregate(log, "model_utility"), ours, model);
  }

  @Test
  void forgetQuality() throws IOException {
    JsonNode log = log("full_forget10");
    double[] unlearned = values(log, "forget_truth_ratio", row -> row.get("score").doubleValue());
    double[] neverSaw =
        values(log("retain90"), "forget_truth_ratio", row -> row.get("score").doubleValue());
    double printed = aggregate(log, "forget_quality");
    same(printed, ForgetQuality.of(unlearned, neverSaw), "forget_quality");
  }
}
