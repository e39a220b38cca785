package org.lethe.method;

import java.util.ArrayList;
import java.util.List;
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

  /** Every pairing of losses, each alone and in every value of its choices, with uneven numbers. */
  static List<MethodConfig> everyMethod() {
    List<MethodConfig> all = new ArrayList<>();
    List<MethodConfig> forgets = new ArrayList<>();
    Methods.of(Side.FORGET).forEach(spec -> forgets.addAll(variants(spec)));
    List<MethodConfig> retains = new ArrayList<>();
    Methods.of(Side.RETAIN).forEach(spec -> retains.addAll(variants(spec)));
    for (MethodConfig forget : forgets) {
      all.add(forget);
      boolean whole = Methods.find(Side.FORGET, forget.forget()).orElseThrow().whole();
      for (MethodConfig retain : whole ? List.<MethodConfig>of() : retains) {
        all.add(
            new MethodConfig(
                forget.forget(),
                retain.retain(),
                forget.forgetCoefficient(),
                retain.retainCoefficient(),
                forget.forgetOptions(),
                retain.retainOptions()));
      }
    }
    all.addAll(retains);
    return all;
  }

  /** A loss alone, with every combination of its choices and numbers off their defaults. */
  private static List<MethodConfig> variants(LossSpec spec) {
    boolean forgets = spec.side() == Side.FORGET;
    List<MethodConfig> variants =
        List.of(
            MethodConfig.of(forgets ? spec.name() : Methods.NONE + "+" + spec.name())
                .withCoefficients(0.7, 1.3));
    for (Option option : spec.options()) {
      List<String> values = option.choices().isEmpty() ? List.of(uneven(option)) : option.choices();
      List<MethodConfig> next = new ArrayList<>();
      for (MethodConfig config : variants) {
        for (String value : values) {
          next.add(config.with(spec.side(), option.name(), Setting.of(value)));
        }
      }
      variants = next;
    }
    return variants;
  }

  /** A value near the default that is not it. */
  private static String uneven(Option option) {
    double standard = Double.parseDouble(option.standard());
    if (option.type() == Option.Type.WHOLE) {
      return Integer.toString((int) standard);
    }
    return Double.toString(Math.min(standard == 0 ? 0.3 : 0.75 * standard, option.most()));
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
    boolean own = use.role() == Role.FORGET || use.role() == Role.RETAIN;
    boolean question = use.positions() == Positions.ALL || use.positions() == Positions.EVERY;
    int rows =
        (question ? QUESTION_ROWS[pair] : 0) + (own ? ANSWER_ROWS[pair] : REFUSAL_ROWS[pair]);
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
                use,
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
        part.sequences().add(new Sequence(s.use(), s.pair(), first, s.rows(), s.referenceNll()));
        part.kinds().addAll(step.kinds().subList(s.firstRow(), end));
        part.logits().addAll(step.logits().subList(s.firstRow(), end));
        part.reference().addAll(step.reference().subList(s.firstRow(), end));
        part.labels().addAll(step.labels().subList(s.firstRow(), end));
      }
    }
    return part;
  }
}
