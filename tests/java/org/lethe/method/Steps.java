package org.lethe.method;

import java.util.ArrayList;
import java.util.Arrays;
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
   * @param uses what each row is for
   * @param logits [rows][V] of the model
   * @param reference [rows][V] of the reference model
   * @param labels by row
   */
  record Step(
      List<Sequence> sequences,
      List<Use> uses,
      List<double[]> logits,
      List<double[]> reference,
      List<Integer> labels,
      int vocabulary) {

    RowStatistics statistics() {
      double[] values = new double[logits.size() * RowStatistics.COLUMNS];
      for (int row = 0; row < logits.size(); row++) {
        double[] columns =
            columns(logits.get(row), reference.get(row), labels.get(row), uses.get(row));
        System.arraycopy(columns, 0, values, row * RowStatistics.COLUMNS, columns.length);
      }
      return new RowStatistics(values, vocabulary);
    }
  }

  /** Those that compare views of a model are held to torch, through the model. */
  private static final List<String> OF_VIEWS = List.of("KGA", "WHP", "Quark");

  /** Every loss alone in every combination of its choices, and every pairing, numbers uneven. */
  static List<MethodConfig> everyMethod() {
    List<MethodConfig> all = new ArrayList<>();
    for (LossSpec spec : Methods.all()) {
      if (!OF_VIEWS.contains(spec.name())) {
        all.addAll(variants(spec));
      }
    }
    for (LossSpec forget : Methods.of(Side.FORGET)) {
      if (OF_VIEWS.contains(forget.name())) {
        continue;
      }
      for (LossSpec retain : forget.whole() ? List.<LossSpec>of() : Methods.of(Side.RETAIN)) {
        MethodConfig first = variants(forget).get(0);
        MethodConfig second = variants(retain).get(0);
        all.add(
            new MethodConfig(
                first.forget(),
                second.retain(),
                first.forgetCoefficient(),
                second.retainCoefficient(),
                first.forgetOptions(),
                second.retainOptions()));
      }
    }
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
    // A bound on the other side of 0 would be none.
    double factor = standard > 1 ? 0.2 : 0.75;
    double uneven = standard == 0 ? 0.3 : factor * standard;
    return Double.toString(Math.min(uneven, option.most()));
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
      step.uses().add(use);
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

  /** A step that knows the sums its losses ask for ahead. */
  static MethodStep measured(Method method, Step step, Totals totals) {
    MethodStep run = method.begin(totals);
    run.measure(step.statistics(), step.sequences());
    run.measured(run.measured());
    return run;
  }

  static double lse(double[] z) {
    double sum = 0;
    for (double logit : z) {
      sum += StrictMath.exp(logit);
    }
    return StrictMath.log(sum);
  }

  private static int argmax(double[] z) {
    int best = 0;
    for (int v = 1; v < z.length; v++) {
      best = z[v] > z[best] ? v : best;
    }
    return best;
  }

  private static double meanOf(double[] values) {
    return Arrays.stream(values).sum() / values.length;
  }

  /** The reference's logits as a row sees them. */
  static double[] reference(double[] logits, int label, Use use) {
    double[] w = logits.clone();
    w[label] -= use.parameters().labelShift();
    return tempered(w, use);
  }

  /** Of the softmax of these logits. */
  static double entropy(double[] z) {
    double sum = 0;
    for (double logit : z) {
      double p = StrictMath.exp(logit - lse(z));
      sum -= p == 0 ? 0 : p * (logit - lse(z));
    }
    return sum;
  }

  /** Logits over the row's temperature. */
  private static double[] tempered(double[] z, Use use) {
    return Arrays.stream(z).map(v -> v / use.parameters().temperature()).toArray();
  }

  private static double[] columns(double[] logits, double[] other, int label, Use use) {
    double[] columns = new double[RowStatistics.COLUMNS];
    double[] z = tempered(logits, use);
    double[] reference = reference(other, label, use);
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
    double[] without = z.clone();
    without[label] = Double.NEGATIVE_INFINITY;
    columns[RowStatistics.ENTROPY_OTHERS] = entropy(without);
    if (use.reference() == ReferenceUse.HIDDEN) {
      columns[RowStatistics.REFERENCE_ENTROPY] = entropy(reference);
    }
    for (int v = 0; v < z.length; v++) {
      columns[RowStatistics.MEAN] += z[v] / z.length;
      columns[RowStatistics.EZ] += StrictMath.exp(z[v] - lse) * (z[v] - max);
      if (use.kind() == RowKind.REFERENCE_KL) {
        double q = reference[v] - lse(reference);
        columns[RowStatistics.KL] += StrictMath.exp(q) * (q - (z[v] - lse));
      }
      if (use.kind() == RowKind.UNIFORM_KL_EPS) {
        double p = StrictMath.exp(z[v] - lse) + use.parameters().epsilon();
        columns[RowStatistics.KL] -= (StrictMath.log(p) + StrictMath.log(z.length)) / z.length;
      }
    }
    return columns;
  }

  /** The direction that the head writes for a row, by {@link RowKind}'s formulas. */
  static double[] direction(Step step, int row) {
    Use use = step.uses().get(row);
    double[] z = tempered(step.logits().get(row), use);
    double[] reference = reference(step.reference().get(row), step.labels().get(row), use);
    double mean = 0;
    double[] p = new double[z.length];
    for (int v = 0; v < z.length; v++) {
      p[v] = StrictMath.exp(z[v] - lse(z));
      mean += p[v] * z[v];
    }
    double epsilon = use.parameters().epsilon();
    double[] ratios = Arrays.stream(p).map(q -> q / (q + epsilon)).toArray();
    double[] direction = new double[z.length];
    for (int v = 0; v < z.length; v++) {
      direction[v] =
          switch (use.kind()) {
            case NLL -> p[v] - (v == step.labels().get(row) ? 1 : 0);
            case UNIFORM_KL -> p[v] - 1.0 / z.length;
            case KL_UNIFORM -> p[v] * (z[v] - mean);
            case REFERENCE_KL -> p[v] - StrictMath.exp(reference[v] - lse(reference));
            case STATISTICS -> 0;
            case LOGIT_MARGIN -> (v == argmax(z) ? 1 : 0) - 1.0 / z.length;
            case UNIFORM_KL_EPS -> p[v] * meanOf(ratios) - ratios[v] / z.length;
            case KL_REFERENCE -> Double.NaN;
          };
      direction[v] /= use.parameters().temperature();
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
        part.uses().addAll(step.uses().subList(s.firstRow(), end));
        part.logits().addAll(step.logits().subList(s.firstRow(), end));
        part.reference().addAll(step.reference().subList(s.firstRow(), end));
        part.labels().addAll(step.labels().subList(s.firstRow(), end));
      }
    }
    return part;
  }
}
