package org.lethe.model.families;

import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import org.lethe.UserException;

/**
 * The keys of a {@code config.json}, taken one by one; what nobody took is an error in the end. A
 * null value counts as absent except for {@link #present}. Wrong types and ranges are {@link
 * UserException}s that name file and key.
 */
public interface ConfigKeys {
  /** Whether the file says something about a key, be it null; does not take it. */
  boolean present(String key);

  /** A whole number above 0. */
  OptionalInt whole(String key);

  /** A number above 0. */
  OptionalDouble positive(String key);

  /** Any finite number. */
  OptionalDouble number(String key);

  /** True or false. */
  Optional<Boolean> flag(String key);

  /** A text. */
  Optional<String> text(String key);

  /** A list of texts. */
  Optional<List<String>> texts(String key);

  /** A list of numbers above 0. */
  Optional<List<Double>> numbers(String key);

  /** The keys of an object, which are held to the same rules. */
  Optional<ConfigKeys> object(String key);

  /** Takes keys without looking at them. */
  void ignore(Iterable<String> keys);

  /** Ends the reading: a key that was not taken is an error. */
  void refuseRest();

  /** An error about a key. */
  UserException error(String key, String what);

  /** A whole number that must be there. */
  default int requireWhole(String key) {
    return whole(key).orElseThrow(() -> error(key, "is absent; add it"));
  }

  /** A whole number, 0 or more. */
  default OptionalInt count(String key) {
    OptionalDouble value = number(key);
    if (value.isEmpty()) {
      return OptionalInt.empty();
    }
    int count = (int) value.getAsDouble();
    if (count != value.getAsDouble() || count < 0) {
      throw error(key, "is " + value.getAsDouble() + "; it must be a whole number, 0 or more");
    }
    return OptionalInt.of(count);
  }

  /** A number that must be there. */
  default double requirePositive(String key) {
    return positive(key).orElseThrow(() -> error(key, "is absent; add it"));
  }

  /**
   * Refuses a key that is neither absent nor false.
   *
   * @param remedy what to do
   */
  default void requireFalse(String key, String remedy) {
    if (flag(key).orElse(false)) {
      throw error(key, "is true; Lethe supports only false: " + remedy);
    }
  }

  /** Refuses a number that is neither absent nor the one that changes nothing. */
  default void requireNeutral(String key, double neutral, String remedy) {
    OptionalDouble value = number(key);
    if (value.isPresent() && value.getAsDouble() != neutral) {
      throw error(
          key, "is " + value.getAsDouble() + "; it must be " + neutral + " or absent: " + remedy);
    }
  }
}
