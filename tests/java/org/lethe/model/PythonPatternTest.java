package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;

/** The answers are those of CPython 3.11's re.fullmatch. */
class PythonPatternTest {
  private static final String Q = "model.layers.10.self_attn.q_proj";

  @ParameterizedTest
  @CsvSource(
      delimiter = ' ',
      value = {
        ".*q_proj true",
        "q_proj false",
        ".*\\.(q|v)_proj true",
        ".*\\.(?:k|v)_proj false",
        "model\\.layers\\.(?P<the_number>\\d+)\\.self_attn\\.[qv]_proj true",
        "(?P<n>model).*(?P=n).* false",
        "(?P<a_b>.)o.*(?P=a_b).* false",
        "(.)odel.*self_attn.* true",
        ".*(_).*\\1proj true",
        ".*(.)\\1.* true",
        ".*(\\d)\\1.* false",
        "model.layers.(1[0-9]|2[0-3]).* true",
        "model.layers.\\d{2}.* true",
        "model.layers.\\d{,1}.self.* false",
        "model.layers.\\d{,2}.self.* true",
        ".*layers\\.[^[\\]&&]*.* true",
        "[]mo]*del.* true",
        "[^]x]*proj true",
        "[a-z&&m].* true",
        "^model.*proj$ true",
        "\\Amodel.*proj\\Z true",
        ".*(?<!v)_proj true",
        ".*(?<!q)_proj false",
        "(?!.*mlp).*_proj true",
        "(?i)MODEL.*Q_PROJ true",
        ".*(?i:Q_PROJ) true",
        ".*(?-i:Q_PROJ) false",
        "(?#all)model.*+ true",
        "model.*?proj true",
        "model{.* false",
        "a{b} false",
        ".*\\x71_proj true",
        ".*\\u0071_proj true",
        "\\w+(\\.\\w+)+ true",
        "\\W+ false",
        "(?>model).* true",
      })
  void matchesWhatPythonMatches(String pattern, boolean matches) {
    assertEquals(matches, PythonPattern.of(pattern, "here").fullMatch(Q));
  }

  @Test
  void matchStopsWhereItLikes() {
    PythonPattern pattern = PythonPattern.of("(.*\\.)?(q_proj)$", "here");
    assertTrue(pattern.match(Q));
    assertTrue(pattern.match("q_proj"));
    assertFalse(pattern.match("xq_proj"));
    assertFalse(pattern.match(Q + ".x"));
    assertTrue(PythonPattern.of("mod", "here").match(Q));
    assertEquals("10", PythonPattern.of(".*?\\.[^.]*\\.(?P<layer>\\d+)\\.", "x").group(Q, "layer"));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = ' ',
      value = {
        "(a)?(?(1)b|c) (?(",
        "a(?i)b (?i)",
        "(?x)a (?x)",
        "(?s:a) (?s:",
        "\\N{BULLET} \\N",
        "\\p{L} \\p",
        "\\Qa\\E \\Q",
        "\\z \\z",
        "\\012 octal",
        "(a)\\10 above",
        "[\\b] within",
        "qu\u00e9 U+e9",
        "(a Unclosed",
        "a) Unmatched",
        "[a without",
        "*a wrong:",
        "(?P<a>.)(?P<a>.) second",
        "(?P=a) before",
        "(?P<1a>.) name",
        "\\x7 incomplete",
        "a\\ backslash",
      })
  void refusesTheRestByName(String pattern, String named) {
    String message =
        assertThrows(UserException.class, () -> PythonPattern.of(pattern, "file: key 'k'"))
            .getMessage();
    assertTrue(message.startsWith("file: key 'k': the pattern '" + pattern + "'"), message);
    assertTrue(message.contains(named), message);
  }

  @Test
  void aSearchThatExplodesEnds() {
    PythonPattern pattern = PythonPattern.of("(?:(?:[a-z_.0-9]+)+)+!", "here");
    assertTrue(
        assertThrows(UserException.class, () -> pattern.fullMatch(Q + Q))
            .getMessage()
            .contains("takes too long"));
  }
}
