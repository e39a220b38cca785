package org.lethe.data.corpus;

import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.Supplier;
import org.lethe.InternalFaultException;
import org.lethe.data.CounterRng;

/**
 * Invents names from syllables and titles from words. Every name a person carries is handed out
 * once; the wrong values of perturbed answers come from the same generators and are never the value
 * of anybody. A stream of draws: the n-th name depends on the n-1 before it.
 */
final class Names {
  private static final List<String> ONSETS =
      List.of(
          "b", "br", "c", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "qu",
          "r", "s", "sh", "sk", "st", "t", "th", "tr", "v", "w", "y", "z");
  private static final List<String> VOWELS =
      List.of("a", "e", "i", "o", "u", "a", "e", "i", "o", "ae", "ei", "ou");
  private static final List<String> CODAS =
      List.of("l", "n", "r", "s", "th", "nd", "rk", "m", "v", "x", "lt", "sk");
  private static final List<String> FIRST_ENDINGS =
      List.of("en", "is", "or", "ey", "un", "il", "a", "o", "em", "ar");
  private static final List<String> LAST_ENDINGS =
      List.of("ick", "ane", "ost", "ander", "ule", "ory", "eth", "ovan", "isk", "umber");
  private static final List<String> TOWN_ENDINGS =
      List.of(
          "ford", "mere", "wick", "holm", "stead", "haven", "gate", "moor", "dale", "ness", "combe",
          "fell");

  static final List<String> ADJECTIVES =
      List.of(
          "Amber",
          "Broken",
          "Copper",
          "Distant",
          "Eastern",
          "Fallen",
          "Gilded",
          "Hollow",
          "Idle",
          "Jagged",
          "Kindled",
          "Lunar",
          "Marble",
          "Nameless",
          "Opal",
          "Patient",
          "Quiet",
          "Russet",
          "Silver",
          "Tidal",
          "Unlit",
          "Velvet",
          "Wandering",
          "Yellow",
          "Borrowed",
          "Crooked",
          "Drowned",
          "Frozen",
          "Hidden",
          "Last",
          "Paper",
          "Salted",
          "Scarlet",
          "Sleeping",
          "Stolen",
          "Thirsty",
          "Winter",
          "Woven",
          "Burning",
          "Painted");
  static final List<String> NOUNS =
      List.of(
          "Anchor",
          "Bridge",
          "Candle",
          "Door",
          "Ember",
          "Fiddle",
          "Garden",
          "Harp",
          "Island",
          "Jar",
          "Kettle",
          "Lantern",
          "Mirror",
          "Needle",
          "Orchard",
          "Pigeon",
          "Quarry",
          "River",
          "Staircase",
          "Thimble",
          "Umbrella",
          "Violin",
          "Window",
          "Yard",
          "Almanac",
          "Bell",
          "Cradle",
          "Drum",
          "Engine",
          "Feather",
          "Glacier",
          "Harbour",
          "Ladder",
          "Meadow",
          "Owl",
          "Pearl",
          "Raven",
          "Sail",
          "Tower",
          "Wheel");

  private final long seed;
  private final Set<String> taken = new HashSet<>();
  private long counter;

  Names(long seed) {
    this.seed = seed;
  }

  /** A first name, two syllables. */
  String first() {
    return unique(() -> capital(syllable() + pick(CODAS).charAt(0) + pick(FIRST_ENDINGS)));
  }

  /** A last name, two or three syllables. */
  String last() {
    return unique(() -> capital(syllable() + pick(CODAS) + pick(LAST_ENDINGS)));
  }

  /** A town. */
  String town() {
    return unique(() -> capital(syllable() + pick(CODAS) + pick(TOWN_ENDINGS)));
  }

  /** The title of a work. */
  String title() {
    return unique(
        () ->
            switch (below(3)) {
              case 0 -> "The " + pick(ADJECTIVES) + " " + pick(NOUNS);
              case 1 -> twoNouns();
              default -> pick(ADJECTIVES) + " " + pick(NOUNS) + "s";
            });
  }

  /** A value of a list. */
  String pick(List<String> values) {
    return values.get(below(values.size()));
  }

  /** A uniform integer in [0, n). */
  int below(int n) {
    return CounterRng.below(n, seed, counter++);
  }

  private String twoNouns() {
    int one = below(NOUNS.size());
    int other = (one + 1 + below(NOUNS.size() - 1)) % NOUNS.size();
    return NOUNS.get(one) + " and " + NOUNS.get(other);
  }

  private String syllable() {
    return pick(ONSETS) + pick(VOWELS);
  }

  private static String capital(String name) {
    return name.substring(0, 1).toUpperCase(Locale.ROOT) + name.substring(1);
  }

  private String unique(Supplier<String> draw) {
    for (int attempt = 0; attempt < 1000; attempt++) {
      String name = draw.get();
      if (taken.add(name)) {
        return name;
      }
    }
    throw new InternalFaultException("the corpus generator ran out of names");
  }
}
