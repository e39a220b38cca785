package org.lethe.method;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.Random;

/** Steps made of random logits, and statistics taken from logits in double precision. */
final class Steps {
  private static final int[] QUESTION_ROWS = {2, 1, 3};
  private static final int[] ANSWER_ROWS = {3, 1, 2};
  private static final int[] REFUSAL_ROWS = {1, 2, 4};

  private Steps() {}

  /**
   * A step's rows as logits.
   *
   * @param logits [rows][V] of the model
   * @param reference [rows][V] of the reference model
   * @param labels by row
   */
  record Step(
      List<Sequence> sequences,
      List<RowKind> kinds,
      List<double[]> logits,
      List<double[]> reference,
      List<Integer> labels,
      int vocabulary) {

    RowStatistics statistics() {
      double[] values = new double[logits.size() * RowStatistics.COLUMNS];
      for (int row = 0; row < logits.size(); row++) {
        double[] columns =
            columns(logits.get(row), reference.get(row), labels.get(row), kinds.get(row));
        System.arraycopy(columns, 0, values, row * RowStatistics.COLUMNS, columns.length);
      }
      return new RowStatistics(values, vocabulary);
    }
  }

  /** Every pairing of losses, with both directions of ME, each with uneven options. */
  static List<MethodConfig> everyMethod() {
    List<MethodConfig> all = new ArrayList<>();
    List<String> forgets = new ArrayList<>(Methods.forgetNames());
    forgets.add(Methods.NONE);
    List<String> retains = new ArrayList<>(Methods.retainNames());
    retains.add(Methods.NONE);
    for (String forget : forgets) {
      for (String retain : retains) {
        for (EntropyDirection direction : EntropyDirection.values()) {
          boolean counts = forget.equals("ME") || direction == EntropyDirection.UNIFORM_TO_MODEL;
          boolean empty = forget.equals(Methods.NONE) && retain.equals(Methods.NONE);
          if (counts && !empty) {
            all.addAll(withOptions(forget, retain, direction));
          }
        }
      }
    }
    return all;
  }

  private static List<MethodConfig> withOptions(
      String forget, String retain, EntropyDirection direction) {
    List<MethodConfig> all = new ArrayList<>();
    for (Positions ofForget : Positions.values()) {
      for (Positions ofRetain : Positions.values()) {
        for (double beta : new double[] {0.1, 0.45}) {
          all.add(
              new MethodConfig(
                  forget,
                  retain,
                  OptionalDouble.of(beta),
                  OptionalDouble.of(1.5 * beta),
                  OptionalDouble.of(0.7),
                  OptionalDouble.of(1.3),
                  Optional.of(ofForget),
                  Optional.of(ofRetain),
                  direction));
        }
      }
    }
    return all;
  }

  /**
   * Three pairs of unequal lengths, with the rows that the method looks at; some rows are peaked.
   */
  static Step random(Method method, int vocabulary, long seed) {
    Random random = new Random(seed);
    Step step =
        new Step(
            new ArrayList<>(),
            new ArrayList<>(),
            new ArrayList<>(),
            new ArrayList<>(),
            new ArrayList<>(),
            vocabulary);
    for (int pair = 0; pair < QUESTION_ROWS.length; pair++) {
      for (Use use : method.uses()) {
        append(step, use, pair, random);
      }
    }
    return step;
  }

  private static void append(Step step, Use use, int pair, Random random) {
    boolean refusal = use.role() == Role.FORGET_IDK || use.role() == Role.RETAIN_IDK;
    int rows =
        (use.positions() == Positions.ALL ? QUESTION_ROWS[pair] : 0)
            + (refusal ? REFUSAL_ROWS[pair] : ANSWER_ROWS[pair]);
    int firstRow = step.logits().size();
    double referenceNll = 0;
    for (int i = 0; i < rows; i++) {
      double peakedness = i == 0 && pair == 1 ? 6 : 1;
      double[] reference = random.doubles(step.vocabulary(), -2, 2).toArray();
      double[] logits = new double[step.vocabulary()];
      for (int v = 0; v < logits.length; v++) {
        logits[v] = peakedness * (reference[v] + random.nextGaussian());
      }
      int label = random.nextInt(step.vocabulary());
      step.logits().add(logits);
      step.reference().add(reference);
      step.labels().add(label);
      step.kinds().add(use.kind());
      referenceNll += lse(reference) - reference[label];
    }
    step.sequences()
        .add(
            new Sequence(
                use.role(),
                pair,
                firstRow,
                rows,
                use.reference() == ReferenceUse.SEQUENCE_NLL ? referenceNll : Double.NaN));
  }

  static double lse(double[] z) {
    double sum = 0;
    for (double logit : z) {
      sum += StrictMath.exp(logit);
    }
    return StrictMath.log(sum);
  }

  private static double[] columns(double[] z, double[] reference, int label, RowKind kind) {
    double[] columns = new double[RowStatistics.COLUMNS];
    double lse = lse(z);
    double max = Double.NEGATIVE_INFINITY;
    double others = 0;
    for (int v = 0; v < z.length; v++) {
      max = Math.max(max, z[v]);
      others += v == label ? 0 : StrictMath.exp(z[v]);
    }
    columns[RowStatistics.LSE] = lse;
    columns[RowStatistics.LABEL] = z[label];
    columns[RowStatistics.LSE_OTHERS] = StrictMath.log(others);
    columns[RowStatistics.MAX] = max;
    for (int v = 0; v < z.length; v++) {
      columns[RowStatistics.MEAN] += z[v] / z.length;
      columns[RowStatistics.EZ] += StrictMath.exp(z[v] - lse) * (z[v] - max);
      if (kind == RowKind.REFERENCE_KL) {
        double q = reference[v] - lse(reference);
        columns[RowStatistics.KL] += StrictMath.exp(q) * (q - (z[v] - lse));
      }
    }
    return columns;
  }

  /** The direction that the head writes for a row, by {@link RowKind}'s formulas. */
  static double[] direction(Step step, int row) {
    double[] z = step.logits().get(row);
    double[] reference = step.reference().get(row);
    double mean = 0;
    double[] p = new double[z.length];
    for (int v = 0; v < z.length; v++) {
      p[v] = StrictMath.exp(z[v] - lse(z));
      mean += p[v] * z[v];
    }
    double[] direction = new double[z.length];
    for (int v = 0; v < z.length; v++) {
      direction[v] =
          switch (step.kinds().get(row)) {
            case NLL -> p[v] - (v == step.labels().get(row) ? 1 : 0);
            case UNIFORM_KL -> p[v] - 1.0 / z.length;
            case KL_UNIFORM -> p[v] * (z[v] - mean);
            case REFERENCE_KL -> p[v] - StrictMath.exp(reference[v] - lse(reference));
            case KL_REFERENCE, STATISTICS -> Double.NaN;
          };
    }
    return direction;
  }

  /** One micro-batch of whole pairs, with its rows renumbered. */
  static Step only(Step step, List<Integer> pairs) {
    Step part =
        new Step(
            new ArrayList<>(),
            new ArrayList<>(),
            new ArrayList<>(),
            new ArrayList<>(),
            new ArrayList<>(),
            step.vocabulary());
    for (Sequence s : step.sequences()) {
      if (pairs.contains(s.pair())) {
        int first = part.logits().size();
        int end = s.firstRow() + s.rows();
        part.sequences().add(new Sequence(s.role(), s.pair(), first, s.rows(), s.referenceNll()));
        part.kinds().addAll(step.kinds().subList(s.firstRow(), end));
        part.logits().addAll(step.logits().subList(s.firstRow(), end));
        part.reference().addAll(step.reference().subList(s.firstRow(), end));
        part.labels().addAll(step.labels().subList(s.firstRow(), end));
      }
    }
    return part;
  }
}
