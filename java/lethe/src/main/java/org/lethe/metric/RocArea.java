package org.lethe.metric;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.IntStream;
import org.lethe.UserException;

/**
 * The area under the ROC curve: the probability that a positive's score is above a negative's,
 * equal scores counting half (Mann–Whitney).
 */
public final class RocArea {
  private RocArea() {}

  /**
   * The area.
   *
   * @param averaging {@link Averaging#EXACT} counts pairs; otherwise the area under scikit-learn's
   *     curve is summed as {@code roc_auc_score} sums it, whose last digits differ
   * @param negatives scores, at least one
   * @param positives scores, at least one
   * @throws UserException when there is none, or one is not a number
   */
  public static double of(Averaging averaging, double[] negatives, double[] positives) {
    check(negatives);
    check(positives);
    return averaging == Averaging.EXACT
        ? pairs(negatives, positives)
        : trapezoids(negatives, positives);
  }

  private static void check(double[] scores) {
    if (scores.length == 0 || Arrays.stream(scores).anyMatch(Double::isNaN)) {
      throw new UserException(
          "An area under a curve of "
              + (scores.length == 0 ? "no scores" : "scores with a NaN among them")
              + "; it compares the forget set with the holdout set, give both rows");
    }
  }

  private static double pairs(double[] negatives, double[] positives) {
    double[] sorted = negatives.clone();
    Arrays.sort(sorted);
    long halves = 0;
    for (double score : positives) {
      halves += below(sorted, score, false) + below(sorted, score, true);
    }
    return (double) halves / (2.0 * negatives.length * positives.length);
  }

  /** How many sorted values are less than a score, or not greater. */
  private static int below(double[] sorted, double score, boolean orEqual) {
    int low = 0;
    int high = sorted.length;
    while (low < high) {
      int middle = (low + high) >>> 1;
      boolean under = orEqual ? sorted[middle] <= score : sorted[middle] < score;
      low = under ? middle + 1 : low;
      high = under ? high : middle;
    }
    return low;
  }

  /**
   * The trapezoids under the corners of the curve, collinear points dropped, summed as NumPy does
   * (scikit-learn, {@code metrics/_ranking.py}).
   */
  private static double trapezoids(double[] negatives, double[] positives) {
    int n = negatives.length + positives.length;
    double[] scores = Arrays.copyOf(negatives, n);
    System.arraycopy(positives, 0, scores, negatives.length, positives.length);
    int[] order =
        IntStream.range(0, n)
            .boxed()
            .sorted(Comparator.comparingDouble((Integer i) -> -scores[i]))
            .mapToInt(Integer::intValue)
            .toArray();
    List<int[]> points = new ArrayList<>();
    int hits = 0;
    for (int i = 0; i < n; i++) {
      hits += order[i] >= negatives.length ? 1 : 0;
      if (i == n - 1 || scores[order[i]] != scores[order[i + 1]]) {
        points.add(new int[] {i + 1 - hits, hits});
      }
    }
    List<int[]> corners = new ArrayList<>(List.of(new int[2]));
    for (int i = 0; i < points.size(); i++) {
      if (i == 0 || i == points.size() - 1 || bends(points, i)) {
        corners.add(points.get(i));
      }
    }
    double[] areas = new double[corners.size() - 1];
    for (int i = 0; i < areas.length; i++) {
      double x0 = (double) corners.get(i)[0] / negatives.length;
      double x1 = (double) corners.get(i + 1)[0] / negatives.length;
      double y0 = (double) corners.get(i)[1] / positives.length;
      double y1 = (double) corners.get(i + 1)[1] / positives.length;
      areas[i] = (x1 - x0) * (y1 + y0) / 2;
    }
    return Averaging.NUMPY.sum(areas);
  }

  private static boolean bends(List<int[]> points, int i) {
    for (int axis = 0; axis < 2; axis++) {
      int into = points.get(i)[axis] - points.get(i - 1)[axis];
      int outOf = points.get(i + 1)[axis] - points.get(i)[axis];
      if (into != outOf) {
        return true;
      }
    }
    return false;
  }
}
