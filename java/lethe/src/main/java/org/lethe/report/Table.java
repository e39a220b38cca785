package org.lethe.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.lethe.UserException;

/**
 * A table of texts and numbers.
 *
 * @param title what it shows
 * @param columns headings, at least one
 * @param rows as many cells each as there are columns
 */
public record Table(String title, List<String> columns, List<List<Cell>> rows) {
  /**
   * Copies the rows.
   *
   * @throws UserException if there are no columns, or a row has another number of cells
   */
  public Table {
    columns = List.copyOf(columns);
    rows = rows.stream().map(List::copyOf).toList();
    if (columns.isEmpty()) {
      throw new UserException("table '" + title + "' has no columns; give at least one");
    }
    for (List<Cell> row : rows) {
      if (row.size() != columns.size()) {
        throw new UserException(
            "table '"
                + title
                + "' has "
                + columns.size()
                + " columns and a row with "
                + row.size()
                + " cells; give as many of both");
      }
    }
  }

  /**
   * One cell.
   *
   * @param text as shown
   * @param number whether it is set flush right
   */
  public record Cell(String text, boolean number) {
    /** A text cell. */
    public static Cell of(String text) {
      return new Cell(text, false);
    }

    /** A number: whole ones in full, others with four significant digits. */
    public static Cell of(double value) {
      return new Cell(Numbers.format(value), true);
    }
  }

  /**
   * A row of texts and numbers.
   *
   * @param values {@link Number}s become number cells, everything else its text
   */
  public static List<Cell> row(Object... values) {
    List<Cell> cells = new ArrayList<>();
    for (Object value : values) {
      cells.add(
          value instanceof Number number
              ? Cell.of(number.doubleValue())
              : Cell.of(Objects.toString(value)));
    }
    return List.copyOf(cells);
  }

  /** Whether a column holds numbers only, and some. */
  boolean isNumeric(int column) {
    return !rows.isEmpty() && rows.stream().allMatch(row -> row.get(column).number());
  }

  /** The table in Markdown, without its title. */
  public String markdown() {
    StringBuilder out = new StringBuilder();
    markdownLine(out, columns.stream().map(Table::markdownEscape).toList());
    out.append('|');
    for (int i = 0; i < columns.size(); i++) {
      out.append(isNumeric(i) ? " ---: |" : " --- |");
    }
    out.append('\n');
    for (List<Cell> row : rows) {
      markdownLine(out, row.stream().map(cell -> markdownEscape(cell.text())).toList());
    }
    return out.toString();
  }

  private static void markdownLine(StringBuilder out, List<String> cells) {
    out.append("| ").append(String.join(" | ", cells)).append(" |\n");
  }

  static String markdownEscape(String text) {
    return text.replaceAll("[\\r\\n]+", " ").replaceAll("([\\\\`*_|<>\\[\\]#])", "\\\\$1");
  }

  /** The table as aligned plain text, without its title, for a terminal. */
  public String plain() {
    int[] widths = new int[columns.size()];
    for (int i = 0; i < widths.length; i++) {
      widths[i] = width(columns.get(i));
      for (List<Cell> row : rows) {
        widths[i] = Math.max(widths[i], width(row.get(i).text()));
      }
    }
    StringBuilder out = new StringBuilder();
    List<Cell> headings = new ArrayList<>();
    List<Cell> rules = new ArrayList<>();
    for (int i = 0; i < widths.length; i++) {
      headings.add(new Cell(columns.get(i), isNumeric(i)));
      rules.add(Cell.of("-".repeat(widths[i])));
    }
    plainLine(out, headings, widths);
    plainLine(out, rules, widths);
    rows.forEach(row -> plainLine(out, row, widths));
    return out.toString();
  }

  private static void plainLine(StringBuilder out, List<Cell> row, int[] widths) {
    StringBuilder line = new StringBuilder();
    for (int i = 0; i < widths.length; i++) {
      Cell cell = row.get(i);
      String text = printable(cell.text());
      String padding = " ".repeat(widths[i] - width(text));
      line.append(i == 0 ? "" : "  ").append(cell.number() ? padding + text : text + padding);
    }
    out.append(line.toString().stripTrailing()).append('\n');
  }

  private static String printable(String text) {
    return text.replaceAll("\\p{Cntrl}", " ");
  }

  private static int width(String text) {
    return text.codePointCount(0, text.length());
  }
}
