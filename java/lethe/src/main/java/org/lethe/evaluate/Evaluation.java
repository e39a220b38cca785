package org.lethe.evaluate;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.stream.StreamSupport;
import org.lethe.UserException;
import org.lethe.metric.ForgetQuality;
import org.lethe.metric.ModelUtility;

/**
 * A model's scores on all sets, and what they come to together.
 *
 * @param sets scores by set and metric
 * @param utility harmonic mean of probability, ROUGE-L recall and truth ratio over the sets to be
 *     kept; NaN without any
 * @param forgetTruthRatios R of each forget example, for the forget quality of another model
 */
public record Evaluation(
    Map<String, Map<String, Double>> sets, double utility, List<Double> forgetTruthRatios) {
  private static final List<String> KEPT = List.of("retain", "general");
  private static final List<String> UTILITY =
      List.of("probability", "rouge_l_recall", "truth_ratio");

  /** The scores of observed sets. */
  public static Evaluation of(List<SetObservations> observed, Predicate<String> isRefusal) {
    Map<String, Map<String, Double>> sets = new LinkedHashMap<>();
    List<Double> ratios = new ArrayList<>();
    for (SetObservations set : observed) {
      sets.put(set.name(), set.scores(isRefusal));
      if (set.name().equals(SetObservations.FORGET)) {
        for (double ratio : set.truthRatios()) {
          ratios.add(ratio);
        }
      }
    }
    return new Evaluation(sets, utility(sets), List.copyOf(ratios));
  }

  /** A score; NaN when the set or metric was not measured. */
  public double score(String set, String metric) {
    return sets.getOrDefault(set, Map.of()).getOrDefault(metric, Double.NaN);
  }

  /** Every score by {@code set.metric}, and {@code utility}: the names that stopping rules use. */
  public Map<String, Double> byName() {
    Map<String, Double> scores = new LinkedHashMap<>();
    sets.forEach(
        (set, values) -> values.forEach((metric, score) -> scores.put(set + "." + metric, score)));
    scores.put("utility", utility);
    return scores;
  }

  /**
   * How alike this model and one that never saw the forget set are; NaN when either has no truth
   * ratios.
   */
  public double forgetQuality(Evaluation neverSaw) {
    if (forgetTruthRatios.isEmpty() || neverSaw.forgetTruthRatios.isEmpty()) {
      return Double.NaN;
    }
    return ForgetQuality.of(
        forgetTruthRatios.stream().mapToDouble(Double::doubleValue).toArray(),
        neverSaw.forgetTruthRatios.stream().mapToDouble(Double::doubleValue).toArray());
  }

  /** As JSON, every digit of every number. */
  public String json() {
    Map<String, Object> root = new LinkedHashMap<>();
    root.put("sets", sets);
    root.put("model_utility", utility);
    root.put("forget_truth_ratios", forgetTruthRatios);
    return new ObjectMapper().valueToTree(root).toPrettyString() + "\n";
  }

  /** Reads what {@link #json} wrote. */
  public static Evaluation read(Path file) {
    try {
      JsonNode root = new ObjectMapper().readTree(Files.readString(file));
      Map<String, Map<String, Double>> sets = new LinkedHashMap<>();
      for (Map.Entry<String, JsonNode> set : root.path("sets").properties()) {
        Map<String, Double> scores = new LinkedHashMap<>();
        set.getValue().properties().forEach(s -> scores.put(s.getKey(), s.getValue().asDouble()));
        sets.put(set.getKey(), scores);
      }
      if (sets.isEmpty()) {
        throw new UserException(
            file + ": holds no sets; give an evaluation.json that lethe evaluate wrote");
      }
      List<Double> ratios =
          StreamSupport.stream(root.path("forget_truth_ratios").spliterator(), false)
              .map(JsonNode::asDouble)
              .toList();
      return new Evaluation(sets, root.path("model_utility").asDouble(Double.NaN), ratios);
    } catch (IOException e) {
      throw new UserException(
          file + ": cannot be read (" + e + "); give an evaluation.json that lethe evaluate wrote",
          e);
    }
  }

  private static double utility(Map<String, Map<String, Double>> sets) {
    List<Double> scores = new ArrayList<>();
    for (String set : KEPT) {
      for (String metric : UTILITY) {
        Double score = sets.getOrDefault(set, Map.of()).get(metric);
        if (score != null) {
          scores.add(score);
        }
      }
    }
    return scores.isEmpty()
        ? Double.NaN
        : ModelUtility.of(scores.stream().mapToDouble(Double::doubleValue).toArray());
  }
}
