package org.lethe.internal.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.config.KeyPaths;
import org.lethe.config.RunConfig;

/** The printed script, run by bash itself. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class CompletionVerbTest {
  private Path script;

  @BeforeAll
  void print(@TempDir Path directory) throws IOException {
    TestConsole console = new TestConsole(false);
    assertEquals(0, Main.run(console.console(), "completion"), console.err());
    script = Files.writeString(directory.resolve("lethe.bash"), console.out());
  }

  /** What bash would offer behind these words, of which the last is being typed. */
  private Set<String> complete(String... words) throws IOException, InterruptedException {
    // compopt works only while bash itself completes.
    String program =
        "source \"$0\"; compopt() { :; }; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1));"
            + " COMPREPLY=(); _lethe lethe \"${COMP_WORDS[COMP_CWORD]}\""
            + " \"${COMP_WORDS[COMP_CWORD-1]}\"; echo \"${COMPREPLY[@]}\"";
    String[] command = new String[4 + words.length];
    command[0] = "bash";
    command[1] = "-c";
    command[2] = program;
    command[3] = script.toString();
    System.arraycopy(words, 0, command, 4, words.length);
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(10, TimeUnit.SECONDS));
    assertEquals(0, process.exitValue(), out);
    Set<String> offered = new HashSet<>(Arrays.asList(out.strip().split("\\s+", -1)));
    offered.remove("");
    return offered;
  }

  @ParameterizedTest
  @CsvSource({
    "lethe insp,              inspect inspect-data",
    "lethe unl,               unlearn",
    "lethe inspect --t,       --tensors",
    "lethe init --for un,     unlearn",
    "lethe unlearn train.lea, train.learning_rate=",
    "lethe validate dty,      dtype=",
    "lethe merge adap,        adapter=",
    "lethe export max,        max_shard_size=",
    "lethe config dtype = b,  bf16",
    "lethe unlearn overwrite = t, true",
    "lethe export dtype = s,  stored"
  })
  void wordsAreCompleted(String words, String expected) throws Exception {
    assertEquals(
        new HashSet<>(Arrays.asList(expected.split(" ", -1))), complete(words.split(" ", -1)));
  }

  @Test
  void afterTheEqualsSignComeTheValues() throws Exception {
    assertEquals(
        Set.of("cached", "in_batch"), complete("lethe", "unlearn", "method.reference", "="));
    // As zsh hands it over: one word.
    assertEquals(Set.of("in_batch"), complete("lethe", "unlearn", "method.reference=i"));
  }

  @Test
  void everyKeyIsOffered() throws Exception {
    Set<String> offered = complete("lethe", "finetune", "");
    for (String key : KeyPaths.of(RunConfig.class).keySet()) {
      assertTrue(offered.contains(key + "="), key);
    }
    assertEquals(Set.of(), complete("lethe", "doctor", "trai"));
  }

  @Test
  void bashFindsNoFaultInIt() throws Exception {
    Process process =
        new ProcessBuilder("bash", "-n", script.toString()).redirectErrorStream(true).start();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), out);
    assertEquals("", out);
  }
}
