package org.lethe.method;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.lethe.method.Steps.Step;

/** Losses written out a second time, straight from the logits, as the literature has them. */
final class Formulas {
  private Formulas() {}

  /** A forget loss. */
  static double forget(String name, Map<String, Setting> o, Step step, List<double[]> frozen) {
    return switch (name) {
      case "GA" -> -reduced(step, Role.FORGET, choice(o, "reduction"));
      case "SeUL" -> -reduced(step, Role.FORGET, choice(o, "reduction"));
      case "Jang" -> -tokenMean(step, Role.FORGET);
      case "IDK" -> tokenMean(step, Role.FORGET_IDK);
      case "NPO" -> npo(step, number(o, "beta"));
      case "DPO" -> dpo(step, number(o, "beta"), Role.FORGET_IDK);
      case "AltPO" -> dpo(step, number(o, "beta"), Role.FORGET_ALTERNATE);
      case "ME" ->
          maximumEntropy(
              step,
              choice(o, "direction").equals("uniform_to_model"),
              (float) number(o, "epsilon"));
      case "UNDIAL" -> undial(step, number(o, "beta"));
      case "PDU" ->
          logitMargin(step)
              + number(o, "alpha") * (tokenMean(step, Role.RETAIN) - number(o, "eps"));
      case "GradDiff" ->
          -tokenMean(step, Role.FORGET)
              + number(o, "alpha")
                  * (choice(o, "retain").equals("gd")
                      ? tokenMean(step, Role.RETAIN)
                      : klRetain(step));
      case "SimNPO" -> simNpo(step, number(o, "beta"), number(o, "delta"));
      case "WGA" -> weightedAscent(step, frozen, number(o, "beta"), 0);
      case "SatImp" -> weightedAscent(step, frozen, number(o, "beta1"), number(o, "beta2"));
      case "log1mp" -> logOneMinusP(step, number(o, "threshold"));
      case "CE-U" -> crossEntropyUnlearning(step, frozen, (int) number(o, "skip"));
      case "KTO" -> kto(step, frozen, number(o, "beta"), choice(o, "link").equals("sigmoid"));
      case "LLMU" ->
          -number(o, "forget_weight") * reduced(step, Role.FORGET, choice(o, "reduction"))
              + number(o, "mismatch_weight")
                  * reduced(step, Role.FORGET_MISMATCH, choice(o, "reduction"))
              + number(o, "normal_weight")
                  * (klRetain(step)
                      + (choice(o, "cross_entropy").equals("true") ? referenceEntropy(step) : 0));
      case "GA_temp" -> tempered(step, number(o, "temperature"));
      case "GA_LS" -> lowest(step, number(o, "keep"));
      case "SCRUB" -> scrub(o, step);
      default -> throw new AssertionError("no formula of " + name);
    };
  }

  private static double rowLogProbability(double[] z, int label) {
    return z[label] - Steps.lse(z);
  }

  private static double rowLogOthers(double[] z, int label) {
    double others = 0;
    for (int v = 0; v < z.length; v++) {
      others += v == label ? 0 : StrictMath.exp(z[v] - Steps.lse(z));
    }
    return StrictMath.log(others);
  }

  private static double crossEntropyUnlearning(Step step, List<double[]> frozen, int skip) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow() + skip; row < s.firstRow() + s.rows(); row++) {
        double[] z = step.logits().get(row);
        double[] target = frozen.get(row).clone();
        target[step.labels().get(row)] = Double.NEGATIVE_INFINITY;
        for (int v = 0; v < z.length; v++) {
          double q = StrictMath.exp(target[v] - Steps.lse(target));
          sum -= q * rowLogProbability(z, v);
        }
        rows++;
      }
    }
    return sum / rows;
  }

  private static double undial(Step step, double beta) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double[] w = step.reference().get(row).clone();
        w[step.labels().get(row)] -= (float) beta;
        for (int v = 0; v < w.length; v++) {
          double r = StrictMath.exp(w[v] - Steps.lse(w));
          sum -= r * rowLogProbability(step.logits().get(row), v);
        }
        rows++;
      }
    }
    return sum / rows;
  }

  private static double logitMargin(Step step) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double[] z = step.logits().get(row);
        double margin =
            Arrays.stream(z).max().orElseThrow() - Arrays.stream(z).average().orElseThrow();
        sum += margin * margin;
        rows++;
      }
    }
    return sum / rows;
  }

  private static double referenceEntropy(Step step) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.RETAIN, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        sum += Steps.entropy(step.reference().get(row));
        rows++;
      }
    }
    return sum / rows;
  }

  private static double simNpo(Step step, double beta, double delta) {
    double sum = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      sum += logSigmoid(beta * (-logProbability(step, s) / s.rows() - delta));
    }
    return -2 / beta * sum / of(Role.FORGET, step).size();
  }

  private static double weightedAscent(
      Step step, List<double[]> frozen, double power, double powerOfOthers) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        int label = step.labels().get(row);
        double p = StrictMath.exp(rowLogProbability(frozen.get(row), label));
        sum +=
            StrictMath.pow(p, power)
                * StrictMath.pow(1 - p, powerOfOthers)
                * rowLogProbability(step.logits().get(row), label);
        rows++;
      }
    }
    return sum / rows;
  }

  private static double logOneMinusP(Step step, double threshold) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double logP = rowLogProbability(step.logits().get(row), step.labels().get(row));
        sum += logP < threshold ? 0 : rowLogOthers(step.logits().get(row), step.labels().get(row));
        rows++;
      }
    }
    return -sum / rows;
  }

  private static double kto(Step step, List<double[]> frozen, double beta, boolean sigmoid) {
    double baseline = 0;
    for (Sequence s : of(Role.FORGET_IDK, step)) {
      baseline += s.referenceNll();
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        baseline += rowLogProbability(frozen.get(row), step.labels().get(row));
      }
    }
    baseline /= of(Role.FORGET_IDK, step).size();
    double sum = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      double x = baseline - beta * (logProbability(step, s) + s.referenceNll());
      sum += sigmoid ? 1 / (1 + StrictMath.exp(-x)) : logSigmoid(x);
    }
    return 1 - 2 / beta * sum / of(Role.FORGET, step).size();
  }

  private static double tempered(Step step, double temperature) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        // The row's temperature is stored as a float.
        double tau = (float) temperature;
        double[] z = Arrays.stream(step.logits().get(row)).map(v -> v / tau).toArray();
        sum += rowLogProbability(z, step.labels().get(row));
        rows++;
      }
    }
    return sum / rows;
  }

  private static double lowest(Step step, double keep) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.FORGET, step)) {
      double[] all = new double[s.rows()];
      for (int i = 0; i < all.length; i++) {
        int row = s.firstRow() + i;
        all[i] = -rowLogProbability(step.logits().get(row), step.labels().get(row));
      }
      Arrays.sort(all);
      int kept = (int) ((float) keep * all.length);
      sum -= Arrays.stream(all, 0, kept).sum();
      rows += kept;
    }
    return sum / rows;
  }

  private static double scrub(Map<String, Setting> o, Step step) {
    double tau = number(o, "temperature");
    double apart = temperedDivergence(of(Role.FORGET, step), step, tau);
    List<Sequence> compared =
        of(Role.RETAIN, step).stream().filter(s -> s.use().kind() != RowKind.NLL).toList();
    double near = temperedDivergence(compared, step, tau);
    double nll = 0;
    int rows = 0;
    for (Sequence s : of(Role.RETAIN, step)) {
      if (s.use().kind() == RowKind.NLL) {
        nll -= logProbability(step, s);
        rows += s.rows();
      }
    }
    return -number(o, "forget_weight") * tau * tau * apart
        + number(o, "alpha") * tau * tau * near
        + number(o, "gamma") * nll / rows;
  }

  private static double temperedDivergence(List<Sequence> sequences, Step step, double tau) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : sequences) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        // The row's temperature is stored as a float.
        double[] z = Arrays.stream(step.logits().get(row)).map(v -> v / (float) tau).toArray();
        double[] w = Arrays.stream(step.reference().get(row)).map(v -> v / (float) tau).toArray();
        for (int v = 0; v < z.length; v++) {
          double logR = rowLogProbability(w, v);
          sum += StrictMath.exp(logR) * (logR - rowLogProbability(z, v));
        }
        rows++;
      }
    }
    return sum / rows;
  }

  static double number(Map<String, Setting> options, String name) {
    return Double.parseDouble(options.get(name).text());
  }

  static String choice(Map<String, Setting> options, String name) {
    return options.get(name).text();
  }

  static List<Sequence> of(Role role, Step step) {
    return step.sequences().stream().filter(s -> s.role() == role).toList();
  }

  static double reduced(Step step, Role role, String reduction) {
    if (reduction.equals("token_mean")) {
      return tokenMean(step, role);
    }
    double sum = 0;
    for (Sequence s : of(role, step)) {
      sum -= logProbability(step, s) / (reduction.equals("sequence_mean") ? s.rows() : 1);
    }
    return sum / of(role, step).size();
  }

  static double logProbability(Step step, Sequence sequence) {
    double sum = 0;
    for (int row = sequence.firstRow(); row < sequence.firstRow() + sequence.rows(); row++) {
      double[] z = step.logits().get(row);
      sum += z[step.labels().get(row)] - Steps.lse(z);
    }
    return sum;
  }

  static double logSigmoid(double x) {
    return -StrictMath.log1p(StrictMath.exp(-x));
  }

  static double tokenMean(Step step, Role role) {
    double sum = 0;
    int rows = 0;
    for (Sequence sequence : of(role, step)) {
      sum -= logProbability(step, sequence);
      rows += sequence.rows();
    }
    return sum / rows;
  }

  static double npo(Step step, double beta) {
    double sum = 0;
    List<Sequence> forget = of(Role.FORGET, step);
    for (Sequence s : forget) {
      sum += logSigmoid(-beta * (logProbability(step, s) + s.referenceNll()));
    }
    return -2 / beta * sum / forget.size();
  }

  static double dpo(Step step, double beta, Role preferred) {
    double sum = 0;
    List<Sequence> lost = of(Role.FORGET, step);
    List<Sequence> won = of(preferred, step);
    for (int i = 0; i < lost.size(); i++) {
      double policy = logProbability(step, won.get(i)) - logProbability(step, lost.get(i));
      double reference = lost.get(i).referenceNll() - won.get(i).referenceNll();
      sum += logSigmoid(beta * (policy - reference));
    }
    return -2 / beta * sum / lost.size();
  }

  static double answerPreservation(Step step, double beta) {
    double sum = 0;
    List<Sequence> own = of(Role.RETAIN, step);
    List<Sequence> refusal = of(Role.RETAIN_IDK, step);
    for (int i = 0; i < own.size(); i++) {
      sum +=
          logSigmoid(
              -beta * (logProbability(step, refusal.get(i)) - logProbability(step, own.get(i))));
    }
    return -1 / beta * sum / own.size();
  }

  static double maximumEntropy(Step step, boolean uniformToModel, double epsilon) {
    double sum = 0;
    int rows = 0;
    double u = 1.0 / step.vocabulary();
    for (Sequence s : of(Role.FORGET, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double[] z = step.logits().get(row);
        double lse = Steps.lse(z);
        for (double logit : z) {
          double p = StrictMath.exp(logit - lse);
          sum += uniformToModel ? u * StrictMath.log(u / (p + epsilon)) : p * StrictMath.log(p / u);
        }
        rows++;
      }
    }
    return sum / rows;
  }

  static double klRetain(Step step) {
    double sum = 0;
    int rows = 0;
    for (Sequence s : of(Role.RETAIN, step)) {
      for (int row = s.firstRow(); row < s.firstRow() + s.rows(); row++) {
        double[] z = step.logits().get(row);
        double[] w = step.reference().get(row);
        double lseZ = Steps.lse(z);
        double lseW = Steps.lse(w);
        for (int v = 0; v < z.length; v++) {
          double logQ = w[v] - lseW;
          sum += StrictMath.exp(logQ) * (logQ - (z[v] - lseZ));
        }
        rows++;
      }
    }
    return sum / rows;
  }
}
