package org.lethe.metric;

import java.util.List;
import java.util.Locale;
import java.util.function.Predicate;
import org.lethe.UserException;

/**
 * How welcome an answer is, for methods that learn from their own samples (Quark). The higher the
 * better; what is to be forgotten earns little.
 */
@FunctionalInterface
public interface Reward {
  /**
   * The reward of an answer.
   *
   * @param question that was asked
   * @param answer that is to be forgotten
   * @param sampled what the model said
   * @return NaN when none can be given; such a sample is dropped
   */
  double of(String question, String answer, String sampled);

  /**
   * 1 − ROUGE-L recall against the answer that is to be forgotten: 1 where nothing of it is said.
   */
  static Reward unlike() {
    return (question, answer, sampled) -> 1 - RougeL.score(answer, sampled).recall();
  }

  /** 1 for a refusal, else 0. */
  static Reward refusal(Predicate<String> isRefusal) {
    return (question, answer, sampled) -> isRefusal.test(sampled) ? 1 : 0;
  }

  /** The names of the rewards there are. */
  List<String> NAMES = List.of("unlike", "refusal");

  /**
   * Refuses a name that no reward has.
   *
   * @param key of the configuration it was given by
   */
  static void requireKnown(String name, String key) {
    if (!NAMES.contains(name.toLowerCase(Locale.ROOT))) {
      throw new UserException(key + ": there is no reward \"" + name + "\"; give one of " + NAMES);
    }
  }

  /**
   * The reward of that name.
   *
   * @param isRefusal what counts as a refusal
   */
  static Reward named(String name, Predicate<String> isRefusal) {
    return switch (name.toLowerCase(Locale.ROOT)) {
      case "unlike" -> unlike();
      case "refusal" -> refusal(isRefusal);
      default ->
          throw new UserException("there is no reward \"" + name + "\"; give one of " + NAMES);
    };
  }
}
