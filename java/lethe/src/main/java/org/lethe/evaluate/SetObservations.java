package org.lethe.evaluate;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.lethe.data.Example;
import org.lethe.data.TokenSequence;
import org.lethe.metric.Definitions;
import org.lethe.metric.Metric;
import org.lethe.metric.Observation;

/**
 * What was observed of a model on one set.
 *
 * @param name of the set: {@code forget}, {@code retain}, {@code general}, {@code holdout}
 * @param answers the right answers as the model was given them, one per example
 * @param observations one per example
 */
public record SetObservations(
    String name,
    List<Example> examples,
    List<TokenSequence> answers,
    List<Observation> observations) {
  /** The set whose truth ratio is judged the other way round. */
  public static final String FORGET = "forget";

  /** The set that the model never saw. */
  public static final String HOLDOUT = "holdout";

  /** The sets whose prefixes are looked at: what is forgotten, and what unseen text gives. */
  public static final List<String> EXTRACTED = List.of(FORGET, HOLDOUT);

  /** Every metric that the set's examples allow, by name. */
  public Map<String, Double> scores(Scoring scoring) {
    Map<String, Double> scores = new LinkedHashMap<>();
    boolean perturbed = observations.stream().noneMatch(o -> o.perturbedNll().isEmpty());
    for (Metric metric : scoring.metrics()) {
      Set<Metric.Need> needs = metric.needs();
      boolean measured = perturbed || !needs.contains(Metric.Need.PERTURBED_NLL);
      boolean otherSets =
          metric.name().equals(name.equals(FORGET) ? "truth_ratio" : "truth_ratio_forget");
      if (measured && !otherSets) {
        double score = metric.of(observations);
        if (!(Double.isNaN(score) && needs.contains(Metric.Need.EXTRACTION))) {
          scores.put(metric.name(), score);
        }
      }
    }
    return scores;
  }

  /** The truth ratio R of each example; empty when the set has no wrong answers. */
  public double[] truthRatios(Definitions definitions) {
    if (observations.stream().anyMatch(o -> o.perturbedNll().isEmpty())) {
      return new double[0];
    }
    return observations.stream().mapToDouble(definitions::truthRatio).toArray();
  }
}
