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
import java.util.stream.StreamSupport;
import org.lethe.UserException;
import org.lethe.metric.Definitions;
import org.lethe.metric.ForgetQuality;
import org.lethe.metric.MembershipAttack;
import org.lethe.metric.ModelUtility;
import org.lethe.metric.Observation;
import org.lethe.metric.PrivacyLeakage;

/**
 * A model's scores on all sets, and what they come to together.
 *
 * @param sets scores by set and metric
 * @param utility harmonic mean of probability, ROUGE-L recall and truth ratio over the sets to be
 *     kept; NaN without any
 * @param membership area under the curve of each {@link MembershipAttack} between the forget and
 *     the holdout set; empty without one of them
 * @param forgetTruthRatios R of each forget example, for the forget quality of another model
 * @param answerNll mean nll of each answer of the forget and the holdout set, for the reference
 *     attack on another model
 */
public record Evaluation(
    Map<String, Map<String, Double>> sets,
    double utility,
    Map<String, Double> membership,
    List<Double> forgetTruthRatios,
    Map<String, List<Double>> answerNll) {
  /** The sets that a model is to keep: its utility is their mean. */
  public static final List<String> KEPT = List.of("retain", "general");

  private static final List<String> UTILITY =
      List.of("probability", "rouge_l_recall", "truth_ratio");
  private static final List<String> ATTACKED =
      List.of(SetObservations.FORGET, SetObservations.HOLDOUT);

  /** Scores alone, which no other model's can be compared with. */
  public Evaluation(Map<String, Map<String, Double>> sets, double utility) {
    this(sets, utility, Map.of(), List.of(), Map.of());
  }

  /** The scores of observed sets. */
  public static Evaluation of(List<SetObservations> observed, Scoring scoring) {
    Map<String, Map<String, Double>> sets = new LinkedHashMap<>();
    Map<String, List<Observation>> attacked = new LinkedHashMap<>();
    Map<String, List<Double>> nll = new LinkedHashMap<>();
    List<Double> ratios = new ArrayList<>();
    for (SetObservations set : observed) {
      sets.put(set.name(), set.scores(scoring));
      if (ATTACKED.contains(set.name())) {
        attacked.put(set.name(), set.observations());
        nll.put(set.name(), set.observations().stream().map(Observation::answerNll).toList());
      }
      if (set.name().equals(SetObservations.FORGET)) {
        for (double ratio : set.truthRatios(scoring.definitions())) {
          ratios.add(ratio);
        }
      }
    }
    return new Evaluation(
        sets,
        utility(sets, scoring.definitions()),
        membership(attacked, scoring),
        List.copyOf(ratios),
        nll);
  }

  private static Map<String, Double> membership(
      Map<String, List<Observation>> attacked, Scoring scoring) {
    Map<String, Double> areas = new LinkedHashMap<>();
    if (attacked.size() == ATTACKED.size()) {
      for (MembershipAttack attack : scoring.attacks()) {
        double[][] scores = new double[ATTACKED.size()][];
        for (int i = 0; i < scores.length; i++) {
          List<Observation> rows = attacked.get(ATTACKED.get(i));
          scores[i] = rows.stream().mapToDouble(attack.score()).toArray();
        }
        areas.put(
            attack.name(), MembershipAttack.area(scoring.definitions(), scores[0], scores[1]));
      }
    }
    return areas;
  }

  /** A score; NaN when the set or metric was not measured. */
  public double score(String set, String metric) {
    return sets.getOrDefault(set, Map.of()).getOrDefault(metric, Double.NaN);
  }

  /**
   * Every score by {@code set.metric} or {@code membership.attack}, and {@code utility}: the names
   * that stopping rules use.
   */
  public Map<String, Double> byName() {
    Map<String, Double> scores = new LinkedHashMap<>();
    sets.forEach(
        (set, values) -> values.forEach((metric, score) -> scores.put(set + "." + metric, score)));
    membership.forEach((attack, area) -> scores.put("membership." + attack, area));
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
    return ForgetQuality.of(array(forgetTruthRatios), array(neverSaw.forgetTruthRatios));
  }

  /**
   * What the comparison with a model that never saw the forget set says: {@code forget_quality};
   * {@code privacy_leakage} and {@code mia_relative_difference} of Min-K%; the area of the attack
   * that compares with that model's likelihoods. What the two evaluations do not hold is left out.
   */
  public Map<String, Double> against(Evaluation neverSaw, Definitions definitions) {
    Map<String, Double> scores = new LinkedHashMap<>();
    if (!forgetTruthRatios.isEmpty() && !neverSaw.forgetTruthRatios.isEmpty()) {
      scores.put("forget_quality", forgetQuality(neverSaw));
    }
    Double area = membership.get(MembershipAttack.MIN_K);
    Double reference = neverSaw.membership.get(MembershipAttack.MIN_K);
    if (area != null && reference != null) {
      double floor = definitions.floor();
      scores.put("privacy_leakage", PrivacyLeakage.of(area, reference, floor));
      scores.put(
          "mia_relative_difference", PrivacyLeakage.relativeDifference(area, reference, floor));
    }
    if (answerNll.size() == ATTACKED.size() && neverSaw.answerNll.size() == ATTACKED.size()) {
      double[][] differences = new double[ATTACKED.size()][];
      for (int i = 0; i < differences.length; i++) {
        differences[i] = difference(neverSaw, ATTACKED.get(i));
      }
      scores.put(
          "membership." + MembershipAttack.REFERENCE,
          MembershipAttack.area(definitions, differences[0], differences[1]));
    }
    return scores;
  }

  private double[] difference(Evaluation other, String set) {
    List<Double> own = answerNll.get(set);
    List<Double> others = other.answerNll.get(set);
    if (own.size() != others.size()) {
      throw new UserException(
          "the "
              + set
              + " set has "
              + own.size()
              + " rows here and "
              + others.size()
              + " in evaluate.never_saw; evaluate both models on the same rows");
    }
    return MembershipAttack.reference(array(own), array(others));
  }

  private static double[] array(List<Double> values) {
    return values.stream().mapToDouble(Double::doubleValue).toArray();
  }

  /** As JSON, every digit of every number. */
  public String json() {
    Map<String, Object> root = new LinkedHashMap<>();
    root.put("sets", sets);
    root.put("model_utility", utility);
    root.put("membership", membership);
    root.put("forget_truth_ratios", forgetTruthRatios);
    root.put("answer_nll", answerNll);
    return new ObjectMapper().valueToTree(root).toPrettyString() + "\n";
  }

  /** Reads what {@link #json} wrote. */
  public static Evaluation read(Path file) {
    try {
      JsonNode root = new ObjectMapper().readTree(Files.readString(file));
      Map<String, Map<String, Double>> sets = new LinkedHashMap<>();
      for (Map.Entry<String, JsonNode> set : root.path("sets").properties()) {
        sets.put(set.getKey(), numbers(set.getValue()));
      }
      if (sets.isEmpty()) {
        throw new UserException(
            file + ": holds no sets; give an evaluation.json that lethe evaluate wrote");
      }
      Map<String, List<Double>> nll = new LinkedHashMap<>();
      for (Map.Entry<String, JsonNode> set : root.path("answer_nll").properties()) {
        nll.put(set.getKey(), list(set.getValue()));
      }
      return new Evaluation(
          sets,
          root.path("model_utility").asDouble(Double.NaN),
          numbers(root.path("membership")),
          list(root.path("forget_truth_ratios")),
          nll);
    } catch (IOException e) {
      throw new UserException(
          file + ": cannot be read (" + e + "); give an evaluation.json that lethe evaluate wrote",
          e);
    }
  }

  private static Map<String, Double> numbers(JsonNode object) {
    Map<String, Double> numbers = new LinkedHashMap<>();
    object.properties().forEach(e -> numbers.put(e.getKey(), e.getValue().asDouble()));
    return numbers;
  }

  private static List<Double> list(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).map(JsonNode::asDouble).toList();
  }

  private static double utility(Map<String, Map<String, Double>> sets, Definitions definitions) {
    List<Double> scores = new ArrayList<>();
    for (String set : KEPT) {
      for (String metric : UTILITY) {
        Double score = sets.getOrDefault(set, Map.of()).get(metric);
        if (score != null) {
          scores.add(score);
        }
      }
    }
    return scores.isEmpty() ? Double.NaN : ModelUtility.of(definitions.averaging(), array(scores));
  }
}
