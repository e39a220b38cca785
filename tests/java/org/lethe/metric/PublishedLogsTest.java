package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.model.Goldens;

/**
 * open-unlearning's published evaluations of two Llama-3.2-1B (fine-tuned on all of TOFU, and on
 * retain90 only) and its summaries of 28 models as witnesses: from the values per example, our
 * metrics under {@link Definitions#OPEN_UNLEARNING} give the printed aggregates to the last bit of
 * a double, and so to every printed digit.
 */
class PublishedLogsTest {
  private static final Definitions PUBLISHED = Definitions.OPEN_UNLEARNING;
  private static final Averaging NUMPY = PUBLISHED.averaging();

  /** Values per example went through another exponential function; a double's last bits. */
  private static final double EXPONENTIAL = 4 * 0x1p-53;

  /** Probabilities per example were taken in single precision there. */
  private static final double SINGLE = 2 * 0x1p-23;

  /** Shares of tokens were taken in single precision, by a reciprocal. */
  private static final double DIVISION = 0x1p-23;

  /** What a mean of a few hundred numbers may differ by when it is summed in another order. */
  private static final double ORDER = 8 * 0x1p-53;

  private static final List<String> SETS = List.of("forget", "retain", "ra", "wf");
  private static final List<String> ATTACKS =
      List.of("loss", "zlib", "min_k", "min_k_plus_plus", "reference", "gradnorm");

  private static String truthRatio(String set) {
    return set.equals("forget") ? "forget_truth_ratio" : set + "_Truth_Ratio";
  }

  /** The printed digits exactly; our own rounding within a few last bits of them. */
  private static void mean(double printed, double[] values, String what) {
    assertEquals(printed, NUMPY.mean(values), what);
    assertEquals(printed, Averaging.EXACT.mean(values), ORDER * Math.abs(printed), what);
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void probabilities(String model) {
    PublishedLog log = PublishedLog.read(model);
    for (String set : SETS) {
      String metric = set + "_Q_A_Prob";
      double[] printed = log.column(metric, "prob");
      double[] nll = log.column(metric, "avg_loss");
      for (int i = 0; i < printed.length; i++) {
        assertEquals(printed[i], Probability.of(nll[i]), SINGLE * printed[i], metric + " " + i);
      }
      mean(log.printed(metric), printed, metric);
    }
  }

  /** Rows with several answers count with the mean of their probabilities. */
  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void probabilitiesOfSeveralAnswers(String model) {
    PublishedLog log = PublishedLog.read(model);
    for (String set : SETS) {
      String metric = set + "_Q_A_PERT_Prob";
      List<List<Double>> rows = log.lists(metric, "prob");
      List<List<Double>> nll = log.lists(metric, "avg_loss");
      double[] means = new double[rows.size()];
      for (int i = 0; i < means.length; i++) {
        means[i] = NUMPY.mean(rows.get(i).stream().mapToDouble(Double::doubleValue).toArray());
        assertEquals(means[i], Probability.ofSeveral(NUMPY, nll.get(i)), SINGLE * means[i], metric);
      }
      mean(log.printed(metric), means, metric);
    }
    for (String set : List.of("forget", "retain")) {
      String metric = set + "_Q_A_PARA_Prob";
      mean(log.printed(metric), log.column(metric, "prob"), metric);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void probabilitiesAmongOptions(String model) {
    PublishedLog log = PublishedLog.read(model);
    for (String set : List.of("ra", "wf")) {
      String metric = set + "_Q_A_Prob_normalised";
      double[] printed = log.column(metric, "prob");
      double[] right = log.column(set + "_Q_A_Prob", "prob");
      List<List<Double>> wrong = log.lists(set + "_Q_A_PERT_Prob", "prob");
      for (int i = 0; i < printed.length; i++) {
        double ours = Probability.normalisedOpenUnlearning(right[i], wrong.get(i));
        assertEquals(printed[i], ours, metric + " " + i);
      }
      mean(log.printed(metric), printed, metric);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void truthRatios(String model) {
    PublishedLog log = PublishedLog.read(model);
    for (String set : SETS) {
      boolean reworded = set.equals("forget") || set.equals("retain");
      double[] right = log.column(set + (reworded ? "_Q_A_PARA_Prob" : "_Q_A_Prob"), "avg_loss");
      List<List<Double>> wrong = log.lists(set + "_Q_A_PERT_Prob", "avg_loss");
      double[] printed = log.column(truthRatio(set), "score");
      double[] shares = new double[printed.length];
      for (int i = 0; i < printed.length; i++) {
        double ours = TruthRatio.of(PUBLISHED, List.of(right[i]), wrong.get(i));
        assertEquals(printed[i], ours, EXPONENTIAL * printed[i], truthRatio(set) + " " + i);
        shares[i] = TruthRatio.share(PUBLISHED, List.of(right[i]), wrong.get(i));
        // c/(c + w) = 1/(1 + w/c), but for the 1e-10 that each form adds to its divisor.
        double floor = 2e-10 * (1 + ours) / StrictMath.exp(-right[i]);
        assertEquals(1 / (1 + ours), shares[i], floor, truthRatio(set) + " " + i);
      }
      double ours =
          set.equals("forget")
              ? PUBLISHED.forgetTruthRatio(printed)
              : TruthRatio.utility(NUMPY, printed);
      assertEquals(log.printed(truthRatio(set)), ours, truthRatio(set));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void rougeExtractionAndMemorization(String model) {
    PublishedLog log = PublishedLog.read(model);
    for (String set : SETS) {
      String metric = set + "_Q_A_ROUGE";
      mean(log.printed(metric), log.column(metric, "rougeL_recall"), metric);
    }
    for (String metric : List.of("extraction_strength", "exact_memorization")) {
      mean(log.printed(metric), log.column(metric, "score"), metric);
    }
  }

  /**
   * Each strength is 1 − k/L for whole k and L, each memorization a share of the same L tokens; the
   * definition that gives 0 differs from the published one only where that gives 1/L.
   */
  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void extractionStrengthsComeFromWholeTokens(String model) {
    PublishedLog log = PublishedLog.read(model);
    double[] strengths = log.column("extraction_strength", "score");
    double[] memorized = log.column("exact_memorization", "score");
    for (int i = 0; i < strengths.length; i++) {
      double strength = strengths[i];
      double share = memorized[i];
      boolean found =
          IntStream.rangeClosed(1, 200).anyMatch(length -> possible(length, strength, share));
      assertTrue(found, "row " + i + ": " + strength + ", " + share);
    }
  }

  /** Whether hits of an answer of that length exist that give both scores. */
  private static boolean possible(int length, double strength, double share) {
    int known = (int) Math.round(strength * length);
    int hits = (int) Math.round(share * length);
    if (Math.abs((double) hits / length - share) > DIVISION || hits > length) {
      return false;
    }
    boolean lastMissed = known == 1 && hits < length;
    for (int suffix : lastMissed ? new int[] {0, 1} : new int[] {known}) {
      boolean[] pattern = new boolean[length];
      int front = hits - suffix;
      for (int t = 0; t < length; t++) {
        pattern[t] = t < front || t >= length - suffix;
      }
      boolean fits =
          front >= 0
              && front <= Math.max(0, length - suffix - 1)
              && ExtractionStrength.openUnlearning(pattern) == strength;
      if (fits && Math.abs(ExactMemorization.of(pattern) - share) <= DIVISION) {
        assertEquals(suffix == 0 ? 0 : strength, ExtractionStrength.of(pattern));
        return true;
      }
    }
    return false;
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void modelUtility(String model) {
    PublishedLog log = PublishedLog.read(model);
    double[] scores =
        Stream.of("retain_Q_A_Prob", "ra_Q_A_Prob_normalised", "wf_Q_A_Prob_normalised")
            .flatMap(
                p -> {
                  String set = p.substring(0, p.indexOf('_'));
                  return Stream.of(p, set + "_Q_A_ROUGE", set + "_Truth_Ratio");
                })
            .mapToDouble(log::printed)
            .toArray();
    assertEquals(9, scores.length);
    assertEquals(log.printed("model_utility"), ModelUtility.of(NUMPY, scores));
    assertEquals(log.printed("model_utility"), ModelUtility.of(scores), ORDER);
  }

  @Test
  void forgetQuality() {
    PublishedLog full = PublishedLog.read("full_forget10");
    double[] unlearned = full.column("forget_truth_ratio", "score");
    double[] neverSaw = PublishedLog.read("retain90").column("forget_truth_ratio", "score");
    double ours = ForgetQuality.of(unlearned, neverSaw);
    assertEquals(full.printed("forget_quality"), ours);
  }

  /** A printed forget quality is one of the p-values that so many rows can have. */
  @Test
  void forgetQualityOfEverySummary() {
    int checked = 0;
    for (Map.Entry<String, JsonNode> entry : Goldens.json("logs/summaries.json").properties()) {
      if (entry.getValue().has("forget_quality")) {
        double printed = entry.getValue().get("forget_quality").doubleValue();
        int rows = entry.getKey().contains("forget01") ? 40 : 200;
        int n = entry.getKey().contains("forget10") ? 400 : rows;
        assertTrue(
            IntStream.rangeClosed(1, n).anyMatch(h -> KolmogorovSmirnov.equal(n, h) == printed),
            entry.getKey() + ": " + printed);
        checked++;
      }
    }
    assertEquals(12, checked);
  }

  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void areasUnderTheCurve(String model) {
    PublishedLog log = PublishedLog.read(model);
    int checked = 0;
    for (String attack : ATTACKS) {
      String metric = "mia_" + attack;
      if (log.has(metric)) {
        double[] forget = log.attack(metric, "forget");
        double[] holdout = log.attack(metric, "holdout");
        double printed = log.root().path(metric).path("auc").doubleValue();
        assertEquals(printed, MembershipAttack.area(PUBLISHED, forget, holdout), metric);
        double pairs = MembershipAttack.area(Definitions.LETHE, forget, holdout);
        assertEquals(printed, pairs, ORDER, metric);
        checked++;
      }
    }
    assertEquals(model.equals("retain90") ? 5 : 6, checked);
  }

  /** Which precision each attack's scores were averaged in. */
  @ParameterizedTest
  @ValueSource(strings = {"full_forget10", "retain90"})
  void meanScoresOfAttacks(String model) {
    PublishedLog log = PublishedLog.read(model);
    Map<String, Averaging> precision =
        Map.of(
            "loss", NUMPY,
            "zlib", NUMPY,
            "min_k", Averaging.NUMPY_SINGLE,
            "min_k_plus_plus", Averaging.NUMPY_SINGLE,
            "gradnorm", Averaging.NUMPY_SINGLE);
    precision.forEach(
        (attack, averaging) -> {
          for (String part : List.of("forget", "holdout")) {
            JsonNode printed = log.root().path("mia_" + attack).path(part).path("agg_value");
            double[] scores = log.attack("mia_" + attack, part);
            assertEquals(printed.doubleValue(), averaging.mean(scores), attack + " " + part);
          }
        });
  }

  /** The attack by loss and the one by difference come from the rows' own likelihoods. */
  @Test
  void scoresOfAttacksComeFromTheLikelihoods() {
    PublishedLog full = PublishedLog.read("full_forget10");
    double[] nll = full.column("forget_Q_A_Prob", "avg_loss");
    assertEquals(list(nll), list(full.attack("mia_loss", "forget")));
    double[] never = PublishedLog.read("retain90").attack("mia_loss", "forget");
    double[] differences = MembershipAttack.reference(nll, never);
    double[] printed = full.attack("mia_reference", "forget");
    double largest = 0;
    for (int i = 0; i < nll.length; i++) {
      largest = Math.max(largest, Math.abs(differences[i] - printed[i]));
    }
    // The reference of the printed scores is the same retain90 model, scored in another batch in
    // bf16: a few of its 2⁻⁸ of a loss of up to 5.
    assertTrue(largest < 0.1, "largest difference " + largest);
  }

  private static List<Double> list(double[] values) {
    List<Double> list = new ArrayList<>();
    for (double value : values) {
      list.add(value);
    }
    return list;
  }

  /** Every summary's leakage follows from its Min-K% and the retain model's of the same split. */
  @Test
  void privacyLeakageOfEverySummary() {
    JsonNode summaries = Goldens.json("logs/summaries.json");
    assertEquals(28, summaries.size());
    for (Map.Entry<String, JsonNode> entry : summaries.properties()) {
      String name = entry.getKey();
      double area = entry.getValue().get("mia_min_k").doubleValue();
      String never = neverSaw(name);
      double reference =
          never.isEmpty()
              ? PrivacyLeakage.CHANCE
              : summaries.path(never).get("mia_min_k").doubleValue();
      double ours = PrivacyLeakage.of(area, reference, PUBLISHED.floor());
      assertEquals(entry.getValue().get("privleak").doubleValue(), ours, name);
      double relative = PrivacyLeakage.relativeDifference(area, reference, PUBLISHED.floor());
      assertEquals((area / reference - 1) * 100, relative, 1e-6, name);
    }
  }

  /** The model of a summary that never saw the forget set; empty for such a model itself. */
  private static String neverSaw(String name) {
    if (name.contains("_target/")) {
      return name.replace("_target/", "_retrain/");
    }
    int split = name.indexOf("evals_forget");
    if (split < 0) {
      return "";
    }
    int percent = Integer.parseInt(name.substring(split + 12, split + 14));
    return name.substring(0, split - 5) + "retain" + (100 - percent) + "/TOFU_SUMMARY.json";
  }

  /** An area of n forget and n holdout rows is a multiple of 1/(2n²). */
  @Test
  void areasOfEverySummaryAreSharesOfPairs() {
    JsonNode summaries = Goldens.json("logs/summaries.json");
    int checked = 0;
    for (Map.Entry<String, JsonNode> entry : summaries.properties()) {
      String name = entry.getKey();
      int rows = name.contains("01") || name.contains("99") ? 40 : 200;
      rows = name.contains("10/") || name.contains("retain90") ? 400 : rows;
      rows = name.startsWith("muse") ? 100 : rows;
      for (Map.Entry<String, JsonNode> score : entry.getValue().properties()) {
        if (score.getKey().startsWith("mia_")) {
          double halves = 2.0 * rows * rows * score.getValue().doubleValue();
          assertEquals(Math.rint(halves), halves, 1e-6, name + " " + score.getKey());
          checked++;
        }
      }
    }
    assertTrue(checked >= 28 * 5, "only " + checked + " areas");
  }
}
