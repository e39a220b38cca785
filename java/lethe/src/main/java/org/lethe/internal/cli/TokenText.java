package org.lethe.internal.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.lethe.data.TokenSequence;
import org.lethe.run.DataInspection;

/**
 * A row's tokens with the label mask: prompt tokens on one line (dim), label tokens on the next
 * (green, the eos bold), what the context cuts off behind a mark (red). Without colours the lines'
 * names alone say which is which.
 */
final class TokenText {
  private static final String BORDER = "│";

  private TokenText() {}

  /**
   * The lines of a row.
   *
   * @param eosId the token that ends an answer
   */
  static String of(DataInspection.Row row, int eosId, Ansi ansi) {
    TokenSequence tokens = row.tokens();
    List<String> prompt = new ArrayList<>();
    List<String> labels = new ArrayList<>();
    List<String> cut = new ArrayList<>();
    for (int i = 0; i < tokens.ids().length; i++) {
      String text = visible(row.pieces().get(i));
      if (i >= row.kept()) {
        cut.add(ansi.red(text));
      } else if (i < tokens.answerStart()) {
        prompt.add(ansi.dim(text));
      } else {
        labels.add(tokens.ids()[i] == eosId ? ansi.boldGreen(text) : ansi.green(text));
      }
    }
    StringBuilder out = new StringBuilder();
    out.append(
        String.format(
            Locale.ROOT,
            "%s  %d prompt tokens, %d label tokens%n",
            row.example().source(),
            tokens.answerStart(),
            tokens.answerTokens()));
    line(out, "prompt", prompt);
    line(out, "labels", labels);
    if (!cut.isEmpty()) {
      line(out, "cut", cut);
    }
    return out.toString();
  }

  private static void line(StringBuilder out, String name, List<String> tokens) {
    out.append(String.format(Locale.ROOT, "  %-8s", name));
    out.append(String.join(BORDER, tokens)).append('\n');
  }

  /** Spaces, line ends and characters without a shape as something that can be seen. */
  static String visible(String text) {
    StringBuilder out = new StringBuilder();
    text.codePoints()
        .forEach(
            c -> {
              switch (c) {
                case ' ' -> out.append('·');
                case '\n' -> out.append('↵');
                case '\t' -> out.append('→');
                case '\r' -> out.append('␍');
                default -> {
                  if (isHidden(c)) {
                    out.append(String.format(Locale.ROOT, "<U+%04X>", c));
                  } else {
                    out.appendCodePoint(c);
                  }
                }
              }
            });
    // The first parts of a character that is spread over several tokens.
    return out.isEmpty() ? "…" : out.toString();
  }

  private static boolean isHidden(int c) {
    return switch (Character.getType(c)) {
      case Character.CONTROL,
          Character.FORMAT,
          Character.SURROGATE,
          Character.UNASSIGNED,
          Character.LINE_SEPARATOR,
          Character.PARAGRAPH_SEPARATOR,
          Character.SPACE_SEPARATOR ->
          true;
      default -> false;
    };
  }
}
