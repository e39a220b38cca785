package org.lethe.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.lethe.UserException;

class TableTest {
  private static final Table TABLE =
      new Table(
          "Scores",
          List.of("metric", "before", "after"),
          List.of(Table.row("forget|p", 0.99123, 0.00000123), Table.row("steps", 60, 1500000L)));

  @Test
  void markdownSetsNumbersRight() {
    assertEquals(
        """
        | metric | before | after |
        | --- | ---: | ---: |
        | forget\\|p | 0.9912 | 1.230e-06 |
        | steps | 60 | 1500000 |
        """,
        TABLE.markdown());
  }

  @Test
  void plainTextIsAligned() {
    assertEquals(
        """
        metric    before      after
        --------  ------  ---------
        forget|p  0.9912  1.230e-06
        steps         60    1500000
        """,
        TABLE.plain());
  }

  @Test
  void numbersAreTheSameEverywhere() {
    assertEquals("NaN", Numbers.format(Double.NaN));
    assertEquals("-Infinity", Numbers.format(Double.NEGATIVE_INFINITY));
    assertEquals("0", Numbers.format(-0.0));
    assertEquals("-12.35", Numbers.format(-12.345678));
    assertEquals("123456.8", Numbers.format(123456.78));
    assertEquals("0.01235", Numbers.format(0.0123456));
    assertEquals("1.235e+07", Numbers.format(12345678.5));
    assertEquals("1.000e+300", Numbers.format(1e300));
  }

  @Test
  void emptyTablesAndOddTextsHold() {
    Table empty = new Table("t", List.of("a"), List.of());
    assertEquals("| a |\n| --- |\n", empty.markdown());
    assertEquals("a\n-\n", empty.plain());
    Table odd = new Table("t", List.of("a"), List.of(Table.row("x\n<b>\u001b[31m")));
    assertEquals("| a |\n| --- |\n| x \\<b\\>\u001b\\[31m |\n", odd.markdown());
    assertEquals("a\n----------\nx <b> [31m\n", odd.plain());
    assertThrows(UserException.class, () -> new Table("t", List.of(), List.of()));
    assertThrows(UserException.class, () -> new Table("t", List.of("a"), List.of(Table.row(1, 2))));
  }
}
