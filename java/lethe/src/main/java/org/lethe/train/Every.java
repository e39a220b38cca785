package org.lethe.train;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.lethe.UserException;

/**
 * How often something happens in a run: {@code never}, {@code 20 steps}, {@code 1 epoch}, {@code 10
 * minutes}.
 *
 * @param count at least 1; 0 for never
 */
public record Every(int count, Unit unit) {
  /** Not at all. */
  public static final Every NEVER = new Every(0, Unit.NEVER);

  private static final Pattern TEXT = Pattern.compile("(\\d{1,9})\\s+(step|epoch|minute)s?");

  /** What is counted. */
  public enum Unit {
    NEVER,
    STEP,
    EPOCH,
    /** Wall-clock time; what is computed does not depend on it. */
    MINUTE
  }

  public Every {
    if ((unit == Unit.NEVER) != (count == 0) || count < 0) {
      throw new UserException("every " + count + " " + unit + " is no cadence; count from 1");
    }
  }

  /**
   * Reads a cadence.
   *
   * @param key what messages call it
   */
  public static Every parse(String text, String key) {
    String plain = text.strip().toLowerCase(Locale.ROOT);
    if (plain.equals("never")) {
      return NEVER;
    }
    Matcher matcher = TEXT.matcher(plain);
    if (!matcher.matches() || Integer.parseInt(matcher.group(1)) == 0) {
      throw new UserException(
          key
              + " is '"
              + text
              + "', which is no cadence; write never, N steps, N epochs or N minutes with N from"
              + " 1");
    }
    Unit unit = Unit.valueOf(matcher.group(2).toUpperCase(Locale.ROOT));
    return new Every(Integer.parseInt(matcher.group(1)), unit);
  }

  /** Whether it is due after {@code done} steps; always false for minutes. */
  boolean isDue(int done, int stepsPerEpoch) {
    return switch (unit) {
      case NEVER, MINUTE -> false;
      case STEP -> done % count == 0;
      case EPOCH -> done % Math.multiplyExact((long) count, stepsPerEpoch) == 0;
    };
  }

  /**
   * Refuses a cadence that a run never reaches: whoever asks for it expects something to happen.
   *
   * @param key what messages call it
   */
  public void requireWithin(int steps, int stepsPerEpoch, String key) {
    long first =
        switch (unit) {
          case NEVER, MINUTE -> 0;
          case STEP -> count;
          case EPOCH -> (long) count * stepsPerEpoch;
        };
    if (first > steps) {
      throw new UserException(
          key
              + " is '"
              + this
              + "', but the run has "
              + steps
              + " steps of "
              + stepsPerEpoch
              + " an epoch: it would never happen; make it smaller, or write never");
    }
  }

  @Override
  public String toString() {
    return unit == Unit.NEVER
        ? "never"
        : count + " " + unit.name().toLowerCase(Locale.ROOT) + (count == 1 ? "" : "s");
  }
}
