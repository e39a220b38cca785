package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.UserException;

class ConfigTest {
  enum Shade {
    LIGHT_GREY,
    BLACK
  }

  record Inner(@Default("1") int count, @Default("[]") List<Inner> children) {
    Inner {
      Check.atLeast("count", 0, count);
    }
  }

  record Everything(
      @Doc("What it is called") String name,
      @Default("7") int small,
      @Default("8") long large,
      @Default("1e-3") double rate,
      @Default("true") boolean flag,
      @Default("black") Shade shade,
      @Default("some/where") Path path,
      Optional<Integer> limit,
      Optional<Inner> extra,
      @Default("[a, b]") List<String> words,
      Inner inner) {}

  @TempDir Path directory;

  private Everything load(String yaml, String... overrides) {
    return Config.load(Everything.class, write(yaml), List.of(overrides));
  }

  private Path write(String yaml) {
    try {
      return Files.writeString(directory.resolve("run.yaml"), yaml);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private String refusal(String yaml, String... overrides) {
    UserException e = assertThrows(UserException.class, () -> load(yaml, overrides));
    return e.getMessage().replace(directory + "/", "");
  }

  @Test
  void defaultsComeFromTheRecord() {
    assertEquals(
        new Everything(
            "x",
            7,
            8,
            0.001,
            true,
            Shade.BLACK,
            Path.of("some/where"),
            Optional.empty(),
            Optional.empty(),
            List.of("a", "b"),
            new Inner(1, List.of())),
        load("name: x"));
  }

  @Test
  void everyTypeIsRead() {
    Everything all =
        load(
            """
            name: 'O''Neill: 12'
            small: -3
            large: 9_000_000_000
            rate: 2.5e-7
            flag: false
            shade: Light_Grey
            path: "/a b/c"
            limit: 4
            extra: {count: 9}
            words: [one, "2"]
            inner:
              count: 3
              children:
                - {}
                - count: 5
            """);
    assertEquals("O'Neill: 12", all.name());
    assertEquals(-3, all.small());
    assertEquals(9_000_000_000L, all.large());
    assertEquals(2.5e-7, all.rate());
    assertEquals(false, all.flag());
    assertEquals(Shade.LIGHT_GREY, all.shade());
    assertEquals(Path.of("/a b/c"), all.path());
    assertEquals(Optional.of(4), all.limit());
    assertEquals(Optional.of(new Inner(9, List.of())), all.extra());
    assertEquals(List.of("one", "2"), all.words());
    assertEquals(
        new Inner(3, List.of(new Inner(1, List.of()), new Inner(5, List.of()))), all.inner());
  }

  @ParameterizedTest
  @CsvSource({"1e-3,0.001", "1E5,1e5", "3,3", ".5,0.5", "-2.,-2", "1_000.5,1000.5", "+1e+2,100"})
  void numbersAreReadAsPeopleWriteThem(String written, double value) {
    assertEquals(value, load("name: x\nrate: " + written).rate());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "small: 1.5|run.yaml:2: small: expected a whole number, found a number (1.5)",
        "small: many|run.yaml:2: small: expected a whole number, found a text (many)",
        "small: 3000000000|run.yaml:2: small: expected a whole number from -2147483648 to"
            + " 2147483647, found a whole number (3000000000)",
        "small: [1]|run.yaml:2: small: expected a whole number, found a list",
        "small:|run.yaml:2: small has no value; give one, or remove the key",
        "rate: .inf|run.yaml:2: rate: expected a finite number, found",
        "rate: .nan|run.yaml:2: rate: expected a finite number, found",
        "rate: 1e999|run.yaml:2: rate: expected a finite number, found",
        "rate: true|run.yaml:2: rate: expected a finite number, found true or false (true)",
        "flag: 1|run.yaml:2: flag: expected true or false, found a whole number (1)",
        "shade: blakc|run.yaml:2: shade: expected one of light_grey, black, found blakc; did you"
            + " mean black?",
        "path: 5|run.yaml:2: path: expected a path (in quotes), found a whole number (5)",
        "path: \"\"|run.yaml:2: path: expected a path",
        "words: one|run.yaml:2: words: expected a list, written [a, b], found a text (one)",
        "words: [a, 3]|run.yaml:2: words[1]: expected a text (in quotes), found a whole number (3)",
        "inner: 5|run.yaml:2: inner: expected a section with keys count, children, found a whole"
            + " number (5)",
        "inner: {count: -1}|run.yaml:2: inner: count must be at least 0, not -1",
        "inner: {children: [{}, {cuont: 1}]}|run.yaml:2: unknown key inner.children[1].cuont; did"
            + " you mean inner.children[1].count?",
      })
  void aWrongValueIsNamedWithFileLineAndKey(String line, String message) {
    String refusal = refusal("name: x\n" + line);
    assertTrue(refusal.startsWith(message), refusal);
  }

  @Test
  void anUnknownKeyIsNamedWithTheNearestKnownOne() {
    assertEquals(
        "run.yaml:3: unknown key inner.cuont; did you mean inner.count?",
        refusal("name: x\ninner:\n  cuont: 2"));
    assertEquals(
        "run.yaml:2: unknown key count; did you mean extra.count?", refusal("name: x\ncount: 2"));
    assertEquals("run.yaml:2: unknown key smal; did you mean small?", refusal("name: x\nsmal: 2"));
    assertEquals(
        "run.yaml:3: unknown key inner.zzzzzzzz; known here: count, children",
        refusal("name: x\ninner:\n  zzzzzzzz: 2"));
  }

  @Test
  void aDuplicateKeyIsNamedWithBothLines() {
    assertEquals(
        "run.yaml:4: duplicate key count (first at run.yaml:3); keep one of them",
        refusal("name: x\ninner:\n  count: 1\n  count: 2"));
    assertTrue(refusal("name: x\nname: y").startsWith("run.yaml:2: duplicate key name"));
  }

  @Test
  void aMissingKeyIsNamedWithItsMeaning() {
    assertEquals(
        "run.yaml: name is missing (What it is called); set it in the file or as name=...",
        refusal(""));
    assertTrue(refusal("# nothing but a comment\n").contains("name is missing"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"name: [a", "name: x\n\tsmall: 1", "name: x\n---\nname: y", "- a", "name"})
  void whatIsNoMappingIsRefused(String yaml) {
    String refusal = refusal(yaml);
    assertTrue(refusal.matches("(?s)run\\.yaml:[1-3]: .*"), refusal);
  }

  @Test
  void anchorsAliasesAndTagsAreRefused() {
    assertTrue(refusal("name: x\nwords: [&b q, *b]").startsWith("run.yaml:2: anchors"));
    assertTrue(refusal("name: x\nwords: &w [b]").contains("anchors"));
    assertTrue(refusal("name: x\ninner: &i {count: 1}").contains("anchors"));
    assertTrue(refusal("name: x\nwords: [*b]").startsWith("run.yaml:2: anchors"));
    assertTrue(refusal("name: !!java.io.File x").startsWith("run.yaml:1: tags"));
  }

  @Test
  void aFileThatCannotBeReadIsNamed() throws IOException {
    UserException none =
        assertThrows(
            UserException.class,
            () -> Config.load(Everything.class, directory.resolve("none.yaml"), List.of()));
    assertTrue(none.getMessage().endsWith("none.yaml: no such file; give the path of a YAML file"));
    Path latin = directory.resolve("latin.yaml");
    Files.write(latin, "name: é".getBytes(StandardCharsets.ISO_8859_1));
    UserException coding =
        assertThrows(UserException.class, () -> Config.load(Everything.class, latin, List.of()));
    assertTrue(coding.getMessage().endsWith("not UTF-8; save it as UTF-8"), coding.getMessage());
    assertThrows(UserException.class, () -> Config.load(Everything.class, directory, List.of()));
  }

  @Test
  void overridesLieOnTop() {
    Everything all =
        load(
            "name: x\ninner: {count: 3}",
            "inner.count=4",
            "words=[p, q]",
            "limit=2",
            "extra.count=6",
            "name=a=b",
            "inner.count=5");
    assertEquals("a=b", all.name());
    assertEquals(5, all.inner().count());
    assertEquals(List.of("p", "q"), all.words());
    assertEquals(Optional.of(2), all.limit());
    assertEquals(6, all.extra().orElseThrow().count());
    assertEquals(Optional.empty(), load("name: x\nlimit: 3", "limit=").limit());
    assertEquals(9, load("name: x\ninner:", "inner.count=9").inner().count());
  }

  @Test
  void aWrongOverrideIsNamed() {
    assertEquals(
        "override 'inner.cuont=1': unknown key inner.cuont; did you mean inner.count?",
        refusal("name: x", "inner.cuont=1"));
    assertEquals(
        "override 'small=x': small: expected a whole number, found a text (x)",
        refusal("name: x", "small=x"));
    assertTrue(refusal("name: x", "small").startsWith("override 'small': write key.path=value"));
    assertTrue(refusal("name: x", "=3").contains("write key.path=value"));
    assertTrue(refusal("name: x", "a..b=3").contains("write key.path=value"));
    assertTrue(refusal("name: x", "inner={count: 3}").contains("override its keys one by one"));
    assertTrue(refusal("name: x", "words=[a").startsWith("override 'words=[a': not valid YAML"));
    assertEquals(
        "override 'name.first=y': name is no section but a text (x) at run.yaml:1",
        refusal("name: x", "name.first=y"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "plain",
        "12",
        "1e-3",
        "true",
        "null",
        "~",
        "",
        " padded ",
        "a: b",
        "# no comment",
        "- x",
        "a\nb",
        "tab\there",
        "'quoted'",
        "\"quoted\"",
        "é ☃ 𝄞",
        "yes",
        "[a]",
        "{a}",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "0x1F",
        "1_000",
        "2026-11-21",
        ".inf",
        "back\\slash",
        "a #b",
        "NO",
        "=",
        "<<",
        "?",
        "---",
        "...",
        "trailing:",
        "\u0001"
      })
  void whatIsWrittenIsReadBack(String text) {
    Everything before = Config.of(Everything.class, List.of("name=x"));
    Everything odd =
        new Everything(
            text,
            Integer.MIN_VALUE,
            Long.MAX_VALUE,
            1.0E-300,
            false,
            Shade.LIGHT_GREY,
            Path.of("/a b/#c"),
            Optional.of(3),
            Optional.of(new Inner(2, List.of())),
            List.of(text, "z"),
            before.inner());
    assertEquals(odd, load(Config.toYaml(odd)));
    assertEquals(odd, load(Config.toCommentedYaml(odd)));
  }

  @Test
  void listsOfSectionsAndEmptyListsAreReadBack() {
    Everything nested =
        load("name: x\nwords: []\ninner: {children: [{count: 4, children: [{count: 6}]}, {}]}");
    assertEquals(2, nested.inner().children().size());
    assertEquals(nested, load(Config.toYaml(nested)));
    assertEquals(nested, load(Config.toCommentedYaml(nested)));
  }

  @Test
  void commentsSayWhatAKeyMeans() {
    String yaml = Config.toCommentedYaml(Config.of(Everything.class, List.of("name=x")));
    assertTrue(yaml.startsWith("# What it is called\nname: x\nsmall: 7\n"), yaml);
    assertTrue(yaml.contains("\n#limit:\n"), yaml);
  }
}
