package org.lethe.model;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import org.lethe.UserException;

/**
 * A regular expression of Python's {@code re} as PEFT's configurations hold them, run by Java's
 * engine. Where the two spell the same thing differently it is rewritten ({@code (?P<name>…)},
 * {@code \Z}, a bracket within a class, {@code {,n}}); what only one of them knows, or what they
 * understand differently, is refused by its name. Names of modules are ASCII without line ends, so
 * that the classes {@code \d \w \s}, the dot and {@code $} mean the same in both.
 *
 * <p>Syntax: Python 3.13, Library Reference, {@code re}.
 */
final class PythonPattern {
  /**
   * Characters a match may look at: far more than any pattern over names of a hundred characters
   * needs, and little enough to end a pattern whose search grows exponentially.
   */
  private static final int MOST_LOOKS = 2_000_000;

  private final String python;
  private final Pattern java;

  private PythonPattern(String python, Pattern java) {
    this.python = python;
    this.java = java;
  }

  /**
   * A pattern.
   *
   * @param where what errors begin with: the file and the key
   * @throws UserException naming the construct that is not supported, or the mistake
   */
  static PythonPattern of(String python, String where) {
    try {
      return new PythonPattern(python, Pattern.compile(new Translation(python).java()));
    } catch (PatternSyntaxException e) {
      throw new UserException(
          where + ": the pattern '" + python + "' is wrong: " + e.getDescription() + "; mend it",
          e);
    } catch (Unsupported e) {
      throw new UserException(
          where
              + ": the pattern '"
              + python
              + "' has "
              + e.getMessage()
              + ", which Lethe does not support; write it otherwise, or list the modules",
          e);
    }
  }

  /** Python's {@code re.fullmatch}. */
  boolean fullMatch(String text) {
    return run(() -> java.matcher(new Guarded(text)).matches());
  }

  /** Python's {@code re.match}: at the beginning, not necessarily to the end. */
  boolean match(String text) {
    return run(() -> java.matcher(new Guarded(text)).lookingAt());
  }

  /** The text of a group after {@code re.match}; null when nothing matched. */
  String group(String text, String name) {
    var matcher = java.matcher(new Guarded(text));
    return run(matcher::lookingAt) ? matcher.group(name) : null;
  }

  private boolean run(java.util.function.BooleanSupplier search) {
    try {
      return search.getAsBoolean();
    } catch (TooLong | StackOverflowError e) {
      throw new UserException(
          "the pattern '" + python + "' takes too long to match; write it with fewer choices", e);
    }
  }

  private static final class Unsupported extends RuntimeException {
    private static final long serialVersionUID = 1;

    Unsupported(String what) {
      super(what);
    }
  }

  private static final class TooLong extends RuntimeException {
    private static final long serialVersionUID = 1;
  }

  /** A text that counts how often it is looked at. */
  private static final class Guarded implements CharSequence {
    private final String text;
    private int looks;

    Guarded(String text) {
      this.text = text;
    }

    @Override
    public char charAt(int index) {
      if (++looks > MOST_LOOKS) {
        throw new TooLong();
      }
      return text.charAt(index);
    }

    @Override
    public int length() {
      return text.length();
    }

    @Override
    public CharSequence subSequence(int start, int end) {
      return text.substring(start, end);
    }

    @Override
    public String toString() {
      return text;
    }
  }

  /** One pass over the Python text. */
  private static final class Translation {
    private static final String QUANTIFIER = "\\{(\\d*,\\d*|\\d+)\\}";
    private static final String SAME_IN_BOTH = "AbBdDsSwWfnrt";

    private final String in;
    private final StringBuilder out = new StringBuilder();
    private final List<String> names = new ArrayList<>();
    private int at;

    Translation(String in) {
      this.in = in;
    }

    String java() {
      in.chars()
          .filter(c -> c > 126 || c < 32)
          .findFirst()
          .ifPresent(
              c -> {
                throw new Unsupported("the character U+" + Integer.toHexString(c));
              });
      while (at < in.length()) {
        char c = in.charAt(at);
        switch (c) {
          case '\\' -> escape(false);
          case '[' -> characterClass();
          case '(' -> group();
          case '{' -> brace();
          case '}' -> copy("\\}", 1);
          default -> copy(String.valueOf(c), 1);
        }
      }
      return out.toString();
    }

    private void copy(String java, int length) {
      out.append(java);
      at += length;
    }

    /** Python takes a brace that is no quantifier as itself, and {,n} as {0,n}. */
    private void brace() {
      int end = in.indexOf('}', at);
      String brace = end < 0 ? "" : in.substring(at, end + 1);
      if (!brace.matches(QUANTIFIER) || brace.equals("{,}")) {
        copy("\\{", 1);
      } else {
        copy(brace.startsWith("{,") ? "{0" + brace.substring(1) : brace, brace.length());
      }
    }

    private void escape(boolean inClass) {
      if (at + 1 == in.length()) {
        throw new PatternSyntaxException("a backslash at the end", in, at);
      }
      char c = in.charAt(at + 1);
      boolean letter = Character.isLetter(c);
      if (c == 'Z' && !inClass) {
        copy("\\z", 2);
      } else if (c == 'v') {
        copy("\\x0B", 2);
      } else if (letter && inClass && "AbB".indexOf(c) >= 0) {
        throw new Unsupported("\\" + c + " within []");
      } else if (letter && (c == 'x' || c == 'u')) {
        hexadecimal(c == 'x' ? 2 : 4);
      } else if (letter && SAME_IN_BOTH.indexOf(c) < 0) {
        throw new Unsupported("the escape \\" + c);
      } else if (Character.isDigit(c)) {
        boolean longer = at + 2 < in.length() && Character.isDigit(in.charAt(at + 2));
        if (c == '0' || longer || inClass) {
          throw new Unsupported("an octal escape or a reference to a group above 9");
        }
        copy("\\" + c, 2);
      } else {
        copy("\\" + c, 2);
      }
    }

    private void hexadecimal(int digits) {
      int end = at + 2 + digits;
      if (end > in.length() || !in.substring(at + 2, end).matches("[0-9a-fA-F]+")) {
        throw new PatternSyntaxException("an incomplete escape", in, at);
      }
      copy(in.substring(at, end), 2 + digits);
    }

    /** Java nests and intersects classes, Python does not: those signs stand for themselves. */
    private void characterClass() {
      copy("[", 1);
      if (at < in.length() && in.charAt(at) == '^') {
        copy("^", 1);
      }
      for (boolean first = true; at < in.length(); first = false) {
        char c = in.charAt(at);
        if (c == ']' && !first) {
          copy("]", 1);
          return;
        } else if (c == '\\') {
          escape(true);
        } else if ("[]&^".indexOf(c) >= 0) {
          copy("\\" + c, 1);
        } else {
          copy(String.valueOf(c), 1);
        }
      }
      throw new PatternSyntaxException("a class without its ]", in, at);
    }

    private void group() {
      String rest = in.substring(at);
      if (!rest.startsWith("(?")) {
        copy("(", 1);
        return;
      }
      for (String same : List.of("(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>")) {
        if (rest.startsWith(same)) {
          copy(same, same.length());
          return;
        }
      }
      if (rest.startsWith("(?P<") && rest.indexOf('>') > 0) {
        String name = rest.substring(4, rest.indexOf('>'));
        copy("(?<" + javaName(name, true) + ">", name.length() + 5);
      } else if (rest.startsWith("(?P=") && rest.indexOf(')') > 0) {
        String name = rest.substring(4, rest.indexOf(')'));
        copy("\\k<" + javaName(name, false) + ">", name.length() + 5);
      } else if (rest.startsWith("(?#") && rest.indexOf(')') > 0) {
        at += rest.indexOf(')') + 1;
      } else if (rest.startsWith("(?i)") && at == 0) {
        copy("(?i)", 4);
      } else if (rest.startsWith("(?i:") || rest.startsWith("(?-i:")) {
        int length = rest.indexOf(':') + 1;
        copy(rest.substring(0, length), length);
      } else {
        int end = 2;
        while (end < rest.length() && ":)=!<(".indexOf(rest.charAt(end)) < 0) {
          end++;
        }
        throw new Unsupported("the group " + rest.substring(0, Math.min(rest.length(), end + 1)));
      }
    }

    /** Java's names of groups have no underscores: other names go by their number. */
    private String javaName(String name, boolean defines) {
      if (!name.matches("[A-Za-z_][A-Za-z0-9_]*")) {
        throw new PatternSyntaxException("'" + name + "' is no name of a group", in, at);
      }
      if (defines == names.contains(name)) {
        throw new PatternSyntaxException(
            defines ? "a second group " + name : "no group " + name + " before this", in, at);
      }
      if (defines) {
        names.add(name);
      }
      return name.indexOf('_') < 0 ? name : "group" + names.indexOf(name);
    }
  }
}
