package org.lethe.metric;

import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/**
 * Porter's stemmer of English words (Porter, "An algorithm for suffix stripping", 1980) with the
 * departures of NLTK's default mode, which rouge_score uses and other implementations lack: a list
 * of irregular words; dying, ties and tied keep "ie"; "y" becomes "i" after any consonant but a
 * word's first letter; and -bli, -alli, -fulli and -logi have rules of their own.
 */
final class PorterStemmer {
  private static final Map<String, String> IRREGULAR =
      Map.ofEntries(
          Map.entry("sky", "sky"),
          Map.entry("skies", "sky"),
          Map.entry("dying", "die"),
          Map.entry("lying", "lie"),
          Map.entry("tying", "tie"),
          Map.entry("news", "news"),
          Map.entry("innings", "inning"),
          Map.entry("inning", "inning"),
          Map.entry("outings", "outing"),
          Map.entry("outing", "outing"),
          Map.entry("cannings", "canning"),
          Map.entry("canning", "canning"),
          Map.entry("howe", "howe"),
          Map.entry("proceed", "proceed"),
          Map.entry("exceed", "exceed"),
          Map.entry("succeed", "succeed"));

  /** A suffix, what replaces it, and what the rest must satisfy. */
  private record Rule(String suffix, String replacement, Predicate<String> condition) {}

  private static final List<Rule> PLURALS =
      List.of(
          new Rule("sses", "ss", stem -> true),
          new Rule("ies", "i", stem -> true),
          new Rule("ss", "ss", stem -> true),
          new Rule("s", "", stem -> true));

  private static final List<Rule> DOUBLE_SUFFIXES =
      List.of(
          measured("ational", "ate"),
          measured("tional", "tion"),
          measured("enci", "ence"),
          measured("anci", "ance"),
          measured("izer", "ize"),
          measured("bli", "ble"),
          measured("alli", "al"),
          measured("entli", "ent"),
          measured("eli", "e"),
          measured("ousli", "ous"),
          measured("ization", "ize"),
          measured("ation", "ate"),
          measured("ator", "ate"),
          measured("alism", "al"),
          measured("iveness", "ive"),
          measured("fulness", "ful"),
          measured("ousness", "ous"),
          measured("aliti", "al"),
          measured("iviti", "ive"),
          measured("biliti", "ble"),
          measured("fulli", "ful"),
          new Rule("logi", "log", stem -> measure(stem + "l") > 0));

  private static final List<Rule> ADJECTIVES =
      List.of(
          measured("icate", "ic"),
          measured("ative", ""),
          measured("alize", "al"),
          measured("iciti", "ic"),
          measured("ical", "ic"),
          measured("ful", ""),
          measured("ness", ""));

  private static final List<Rule> SINGLE_SUFFIXES =
      List.of(
          dropped("al"),
          dropped("ance"),
          dropped("ence"),
          dropped("er"),
          dropped("ic"),
          dropped("able"),
          dropped("ible"),
          dropped("ant"),
          dropped("ement"),
          dropped("ment"),
          dropped("ent"),
          new Rule(
              "ion", "", stem -> measure(stem) > 1 && (stem.endsWith("s") || stem.endsWith("t"))),
          dropped("ou"),
          dropped("ism"),
          dropped("ate"),
          dropped("iti"),
          dropped("ous"),
          dropped("ive"),
          dropped("ize"));

  private PorterStemmer() {}

  private static Rule measured(String suffix, String replacement) {
    return new Rule(suffix, replacement, stem -> measure(stem) > 0);
  }

  private static Rule dropped(String suffix) {
    return new Rule(suffix, "", stem -> measure(stem) > 1);
  }

  /** The stem of a lower-case word. */
  static String stem(String word) {
    String irregular = IRREGULAR.get(word);
    if (irregular != null) {
      return irregular;
    }
    if (word.length() <= 2) {
      return word;
    }
    String stem = apply(ADJECTIVES, doubleSuffix(finalY(pastAndGerund(plural(word)))));
    return finalLl(finalE(apply(SINGLE_SUFFIXES, stem)));
  }

  /** Step 1a. */
  private static String plural(String word) {
    if (word.endsWith("ies") && word.length() == 4) {
      return cut(word, 1);
    }
    return apply(PLURALS, word);
  }

  /** Step 1b. */
  private static String pastAndGerund(String word) {
    if (word.endsWith("ied")) {
      return cut(word, word.length() == 4 ? 1 : 2);
    }
    if (word.endsWith("eed")) {
      return measure(cut(word, 3)) > 0 ? cut(word, 1) : word;
    }
    for (String suffix : List.of("ed", "ing")) {
      String stem = word.endsWith(suffix) ? cut(word, suffix.length()) : "";
      if (hasVowel(stem)) {
        return mended(stem);
      }
    }
    return word;
  }

  /** What step 1b does to a stem that has lost -ed or -ing. */
  private static String mended(String stem) {
    if (stem.endsWith("at") || stem.endsWith("bl") || stem.endsWith("iz")) {
      return stem + "e";
    }
    if (endsInDoubleConsonant(stem)) {
      char last = stem.charAt(stem.length() - 1);
      return last == 'l' || last == 's' || last == 'z' ? stem : cut(stem, 1);
    }
    return measure(stem) == 1 && endsShort(stem) ? stem + "e" : stem;
  }

  /** Step 1c. */
  private static String finalY(String word) {
    int y = word.length() - 1;
    return word.endsWith("y") && y > 1 && isConsonant(word, y - 1) ? cut(word, 1) + "i" : word;
  }

  /** Step 2. */
  private static String doubleSuffix(String word) {
    if (word.endsWith("alli") && measure(cut(word, 4)) > 0) {
      return doubleSuffix(cut(word, 2));
    }
    return apply(DOUBLE_SUFFIXES, word);
  }

  /** Step 5a. */
  private static String finalE(String word) {
    if (!word.endsWith("e")) {
      return word;
    }
    String stem = cut(word, 1);
    int measure = measure(stem);
    return measure > 1 || (measure == 1 && !endsShort(stem)) ? stem : word;
  }

  /** Step 5b. */
  private static String finalLl(String word) {
    return word.endsWith("ll") && measure(cut(word, 1)) > 1 ? cut(word, 1) : word;
  }

  /** The first rule whose suffix the word has decides, whether its condition holds or not. */
  private static String apply(List<Rule> rules, String word) {
    for (Rule rule : rules) {
      if (word.endsWith(rule.suffix())) {
        String stem = cut(word, rule.suffix().length());
        return rule.condition().test(stem) ? stem + rule.replacement() : word;
      }
    }
    return word;
  }

  private static String cut(String word, int letters) {
    return word.substring(0, word.length() - letters);
  }

  private static boolean isConsonant(String word, int i) {
    return switch (word.charAt(i)) {
      case 'a', 'e', 'i', 'o', 'u' -> false;
      case 'y' -> i == 0 || !isConsonant(word, i - 1);
      default -> true;
    };
  }

  /** Porter's m: how often a consonant follows a vowel. */
  private static int measure(String stem) {
    int measure = 0;
    for (int i = 1; i < stem.length(); i++) {
      if (isConsonant(stem, i) && !isConsonant(stem, i - 1)) {
        measure++;
      }
    }
    return measure;
  }

  private static boolean hasVowel(String stem) {
    for (int i = 0; i < stem.length(); i++) {
      if (!isConsonant(stem, i)) {
        return true;
      }
    }
    return false;
  }

  private static boolean endsInDoubleConsonant(String word) {
    int last = word.length() - 1;
    return last >= 1 && word.charAt(last) == word.charAt(last - 1) && isConsonant(word, last);
  }

  /**
   * Porter's *o: ends in consonant, vowel, consonant but w, x, y; or is a vowel and a consonant.
   */
  private static boolean endsShort(String word) {
    int last = word.length() - 1;
    if (last == 1) {
      return !isConsonant(word, 0) && isConsonant(word, 1);
    }
    return last >= 2
        && isConsonant(word, last - 2)
        && !isConsonant(word, last - 1)
        && isConsonant(word, last)
        && "wxy".indexOf(word.charAt(last)) < 0;
  }
}
