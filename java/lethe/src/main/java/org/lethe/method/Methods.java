package org.lethe.method;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.Function;
import org.lethe.UserException;

/** The losses there are, by name. A new loss is one line in one of the two lists. */
public final class Methods {
  /** Stands for no loss. */
  public static final String NONE = "none";

  private static final List<Entry> FORGET =
      List.of(
          new Entry("GA", GradientAscent::new),
          new Entry("NPO", Npo::new),
          new Entry("DPO", Dpo::new),
          new Entry("IDK", Idk::new),
          new Entry("ME", MaximumEntropy::new));

  private static final List<Entry> RETAIN =
      List.of(
          new Entry("GD", GradientDescent::new),
          new Entry("KL", KlRetain::new),
          new Entry("AP", AnswerPreservation::new));

  private record Entry(String name, Function<LossOptions, Loss> create) {}

  private Methods() {}

  /** The names of the forget losses. */
  public static List<String> forgetNames() {
    return FORGET.stream().map(Entry::name).toList();
  }

  /** The names of the retain losses. */
  public static List<String> retainNames() {
    return RETAIN.stream().map(Entry::name).toList();
  }

  /**
   * The method that a configuration names.
   *
   * @throws UserException when a name is unknown, a number out of range, or both losses are "none";
   *     names the key of the configuration
   */
  public static Method create(MethodConfig config) {
    Optional<Loss> forget =
        loss(
            "forget",
            config.forget(),
            FORGET,
            new LossOptions(
                beta("forget_beta", config.forgetBeta()),
                config.forgetPositions(),
                config.direction()));
    Optional<Loss> retain =
        loss(
            "retain",
            config.retain(),
            RETAIN,
            new LossOptions(
                beta("retain_beta", config.retainBeta()),
                config.retainPositions(),
                config.direction()));
    if (forget.isEmpty() && retain.isEmpty()) {
      throw new UserException(
          "method.forget and method.retain are both none; name a loss for at least one of them");
    }
    return new Method(
        forget,
        retain,
        coefficient("forget_coefficient", config.forgetCoefficient(), forget),
        coefficient("retain_coefficient", config.retainCoefficient(), retain));
  }

  /** The objective of fine-tuning: GD alone, on sequences of role RETAIN. */
  public static Method fineTuning() {
    return create(MethodConfig.of(NONE + "+GD"));
  }

  private static Optional<Loss> loss(
      String key, String name, List<Entry> entries, LossOptions options) {
    if (name.equalsIgnoreCase(NONE)) {
      return Optional.empty();
    }
    for (Entry entry : entries) {
      if (entry.name().equalsIgnoreCase(name)) {
        return Optional.of(entry.create().apply(options));
      }
    }
    List<String> valid = new ArrayList<>(entries.stream().map(Entry::name).toList());
    valid.add(NONE);
    throw new UserException(
        "method."
            + key
            + ": there is no loss \""
            + name
            + "\"; did you mean "
            + nearest(name, valid)
            + "? Valid are "
            + String.join(", ", valid));
  }

  private static OptionalDouble beta(String key, OptionalDouble beta) {
    if (beta.isPresent() && !(beta.getAsDouble() > 0 && Double.isFinite(beta.getAsDouble()))) {
      throw new UserException(
          "method." + key + " is " + beta.getAsDouble() + "; give a positive number, such as 0.1");
    }
    return beta;
  }

  private static double coefficient(String key, OptionalDouble given, Optional<Loss> loss) {
    double coefficient = given.orElse(loss.map(Loss::defaultCoefficient).orElse(0.0));
    if (!(coefficient >= 0 && Double.isFinite(coefficient))) {
      throw new UserException(
          "method." + key + " is " + coefficient + "; give a number that is not negative");
    }
    return coefficient;
  }

  private static String nearest(String name, List<String> valid) {
    String best = valid.get(0);
    for (String candidate : valid) {
      if (distance(name, candidate) < distance(name, best)) {
        best = candidate;
      }
    }
    return best;
  }

  /** The edit distance of two names, without regard to case. */
  private static int distance(String left, String right) {
    String a = left.toLowerCase(Locale.ROOT);
    String b = right.toLowerCase(Locale.ROOT);
    int[] row = new int[b.length() + 1];
    for (int j = 0; j <= b.length(); j++) {
      row[j] = j;
    }
    for (int i = 1; i <= a.length(); i++) {
      int diagonal = row[0];
      row[0] = i;
      for (int j = 1; j <= b.length(); j++) {
        int replaced = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
        diagonal = row[j];
        row[j] = Math.min(replaced, Math.min(row[j], row[j - 1]) + 1);
      }
    }
    return row[b.length()];
  }
}
