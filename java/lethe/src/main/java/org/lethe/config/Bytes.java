package org.lethe.config;

import java.math.BigDecimal;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Amounts of memory as people write them. */
public final class Bytes {
  // Digits may be grouped as in YAML's numbers.
  private static final Pattern AMOUNT = Pattern.compile("(\\d[\\d_]*(?:\\.\\d+)?)\\s*([a-zA-Z]*)");
  private static final String EXAMPLES = "8GB, 7.5GiB, 600MB, or a whole number of bytes";
  private static final BigDecimal MOST = BigDecimal.valueOf(1L << 50);
  private static final Map<String, Long> UNITS =
      Map.ofEntries(
          Map.entry("", 1L),
          Map.entry("b", 1L),
          Map.entry("kb", 1000L),
          Map.entry("mb", 1000_000L),
          Map.entry("gb", 1000_000_000L),
          Map.entry("tb", 1000_000_000_000L),
          Map.entry("kib", 1L << 10),
          Map.entry("mib", 1L << 20),
          Map.entry("gib", 1L << 30),
          Map.entry("tib", 1L << 40));

  private Bytes() {}

  /**
   * Bytes of a text such as "8GB" (10⁹), "7.5 GiB" (2³⁰) or "8000000000".
   *
   * @param key what it is the value of, for the message
   * @throws IllegalArgumentException when it is none
   */
  public static long parse(String key, String text) {
    Matcher matcher = AMOUNT.matcher(text.strip());
    Long unit = matcher.matches() ? UNITS.get(matcher.group(2).toLowerCase(Locale.ROOT)) : null;
    if (unit == null) {
      throw new IllegalArgumentException(
          key + " is '" + text + "', which is no amount of memory; write " + EXAMPLES);
    }
    BigDecimal number = new BigDecimal(matcher.group(1).replace("_", ""));
    BigDecimal bytes = number.multiply(BigDecimal.valueOf(unit));
    if (bytes.compareTo(BigDecimal.ONE) < 0 || bytes.compareTo(MOST) > 0) {
      throw new IllegalArgumentException(
          key + " is '" + text + "', must be at least 1 byte and at most 2^50; write " + EXAMPLES);
    }
    if (unit == 1 && number.stripTrailingZeros().scale() > 0) {
      throw new IllegalArgumentException(
          key + " is '" + text + "', which ends inside a byte; write " + EXAMPLES);
    }
    return bytes.longValue();
  }

  /** The other way: three digits and a unit of powers of ten. */
  public static String text(long bytes) {
    if (bytes < 1000_000) {
      return bytes + " bytes";
    }
    return bytes < 1000_000_000
        ? String.format(Locale.ROOT, "%.0f MB", bytes / 1e6)
        : String.format(Locale.ROOT, "%.2f GB", bytes / 1e9);
  }
}
