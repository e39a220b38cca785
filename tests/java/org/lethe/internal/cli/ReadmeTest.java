package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import picocli.CommandLine;

/** No command line of the README is stale: verbs, options and keys are those of today. */
class ReadmeTest {
  private static final Pattern BLOCK = Pattern.compile("(?ms)^```(\\w*)\\n(.*?)^```$");
  private static final Pattern WORD = Pattern.compile("'([^']*)'|\"([^\"]*)\"|(\\S+)");
  static final List<String> OF_THE_SCRIPT = List.of("test", "check-format", "check-tidy");

  /** The lines of its plain blocks that begin with ./lethe, continued ones joined. */
  static List<String> lines() throws IOException {
    String readme = Files.readString(Path.of(System.getProperty("lethe.root"), "README.md"));
    List<String> lines = new ArrayList<>();
    Matcher blocks = BLOCK.matcher(readme);
    while (blocks.find()) {
      if (!blocks.group(1).isEmpty()) {
        continue;
      }
      for (String line : blocks.group(2).replaceAll("\\\\\\n\\s*", "").split("\n", -1)) {
        if (line.startsWith("./lethe ")) {
          lines.add(line);
        }
      }
    }
    assertTrue(lines.size() >= 10, "the README shows fewer commands than it did: " + lines);
    return lines;
  }

  static Stream<List<String>> commands() throws IOException {
    return lines().stream()
        .map(ReadmeTest::words)
        .filter(words -> !OF_THE_SCRIPT.contains(words.get(0)));
  }

  /** The words after ./lethe as a shell gives them, without comment, redirection and [optional]. */
  static List<String> words(String line) {
    List<String> words = new ArrayList<>();
    Matcher word = WORD.matcher(line.substring("./lethe ".length()));
    while (word.find()) {
      String text = word.group();
      if (text.startsWith("#")) {
        break;
      }
      if (!text.startsWith(">")) {
        words.add(
            Stream.of(1, 2, 3).map(word::group).filter(g -> g != null).findFirst().orElseThrow());
      }
    }
    return words;
  }

  @ParameterizedTest
  @MethodSource("commands")
  void theCommandLineTakesIt(List<String> words) {
    CommandLine commandLine = Main.commandLine(new TestConsole(false).console());
    CommandLine.ParseResult parsed = commandLine.parseArgs(words.toArray(String[]::new));
    assertTrue(
        parsed.hasSubcommand() || words.get(0).startsWith("--"), () -> "no verb in " + words);
    List<String> keys = words.stream().filter(w -> w.matches("[a-z_.]+=.*")).toList();
    if (!keys.isEmpty()) {
      try {
        Config.of(RunConfig.class, keys);
      } catch (UserException e) {
        // What is in a file that the README names without showing it is not known here; a plan
        // writes nothing, and wants no output.
        boolean ofFile = words.contains("--config") || words.get(0).equals("plan");
        assertFalse(!ofFile || e.getMessage().contains("unknown"), e::getMessage);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("lines")
  void whatTheScriptDoesItself(String line) throws IOException {
    String verb = words(line).get(0);
    if (OF_THE_SCRIPT.contains(verb)) {
      String script = Files.readString(Path.of(System.getProperty("lethe.root"), "lethe"));
      assertEquals(1, script.lines().filter(l -> l.startsWith("  " + verb + ") ")).count(), verb);
    }
  }
}
