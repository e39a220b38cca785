package org.lethe.data;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.List;
import java.util.Locale;
import java.util.regex.Pattern;
import org.lethe.InternalFaultException;

/** The refusal lines that targeted unlearning teaches, and the test whether a text is one. */
public final class Refusals {
  private static final String RESOURCE = "refusals.txt";

  /** "I'm sorry, but", "I must admit that" and their kin, which may come before a refusal. */
  private static final String OPENING =
      "(?:(?:i'm |i am )?(?:sorry|afraid|sadly|unfortunately|regrettably|apologies)(?: but| that)?"
          + " )?(?:i (?:must|have to) (?:admit|confess|say) (?:that )?)?";

  /**
   * The speaker says that the speaker does not know or cannot tell. Only the first person counts,
   * and "that" or "this" put beyond the speaker's knowledge: an answer about somebody ("She never
   * knew ...") is none.
   */
  private static final Pattern STATEMENT =
      Pattern.compile(
          "^"
              + OPENING
              + "(?:"
              + String.join(
                  "|",
                  "i (?:do not|don't|cannot|can't|could not|couldn't) (?:really"
                      + " )?(?:know|have|recall|remember|say|tell|answer|help|provide|possess|hold|shed"
                      + " any light)",
                  "i(?: am|'m) not (?:sure|certain|able|aware|familiar|informed|acquainted|equipped"
                      + "|knowledgeable)",
                  "i(?: am|'m) un(?:sure|able|certain|aware|familiar)",
                  "i(?: have|'ve|'ve got| know of| hold| possess) no",
                  "i(?: have|'ve) (?:never|not) (?:heard|learned|learnt|been"
                      + " (?:told|taught|trained))",
                  "i haven't (?:heard|learned|learnt|been (?:told|taught|trained))",
                  "i (?:have|know) nothing",
                  "i lack",
                  "my (?:knowledge|training|data|database|understanding) (?:does not|doesn't|do not"
                      + "|don't|did not|didn't)",
                  "(?:that|this)(?: is|'s) (?:not something i(?: am|'m| know| can)|beyond (?:me|my)"
                      + "|outside (?:of )?(?:my|what i)|unknown to me|a mystery to me)")
              + ")\\b.*");

  private static final Pattern NOT_WORDS = Pattern.compile("[^\\p{L}\\p{N}' ]+");
  private static final Pattern SPACES = Pattern.compile("\\s+");

  private Refusals() {}

  /** The built-in refusal lines, in a fixed order, all different. */
  public static List<String> lines() {
    try (InputStream in = Refusals.class.getResourceAsStream(RESOURCE)) {
      if (in == null) {
        throw new InternalFaultException("the resource " + RESOURCE + " is missing from the jar");
      }
      try (BufferedReader reader =
          new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8))) {
        return reader.lines().filter(line -> !line.isBlank()).toList();
      }
    } catch (IOException e) {
      throw new InternalFaultException("the resource " + RESOURCE + " cannot be read", e);
    }
  }

  /** Whether a text is a refusal, judged against the built-in lines; see the other form. */
  public static boolean isRefusal(String text) {
    return isRefusal(text, lines());
  }

  /**
   * Whether a text is a refusal: after lower-casing, straightening apostrophes, dropping other
   * punctuation and joining white space, it is one of the lines, or starts with one followed by
   * further words, or opens with a first-person statement of not knowing or not being able to tell.
   *
   * @param text what a model said
   * @param lines the refusal lines a run was taught
   */
  public static boolean isRefusal(String text, Collection<String> lines) {
    String said = normalise(text);
    if (said.isEmpty()) {
      return false;
    }
    for (String line : lines) {
      String refusal = normalise(line);
      if (!refusal.isEmpty() && (said.equals(refusal) || said.startsWith(refusal + " "))) {
        return true;
      }
    }
    return STATEMENT.matcher(said).matches();
  }

  private static String normalise(String text) {
    String lower = text.toLowerCase(Locale.ROOT).replace('\u2019', '\'').replace('\u2018', '\'');
    String words = NOT_WORDS.matcher(SPACES.matcher(lower).replaceAll(" ")).replaceAll("");
    return SPACES.matcher(words).replaceAll(" ").strip();
  }
}
