package org.lethe.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Corpus;
import org.lethe.run.FineTune;
import org.lethe.run.RunListener;

/** The examples run, on a model of one layer, and the README shows them as they are. */
class ExamplesTest {
  private static final Path ROOT = Path.of(System.getProperty("lethe.root"));

  @TempDir static Path dir;

  @BeforeAll
  static void makeAModel() {
    Corpus corpus = Corpus.generate(1, 3);
    Corpus.writeRows(dir.resolve("forget.jsonl"), corpus.forget(0.3).subList(0, 6));
    Corpus.writeRows(dir.resolve("retain.jsonl"), corpus.retain(0.3).subList(0, 9));
    BpeTrainer.train(corpus.texts(), 600).write(dir.resolve("tokenizer"));
    List<String> keys =
        List.of(
            "output=" + dir.resolve("tuned"),
            "threads=1",
            "scratch.hidden_size=32",
            "scratch.layers=1",
            "scratch.heads=4",
            "scratch.kv_heads=2",
            "scratch.feed_forward_size=64",
            "scratch.context_length=128",
            "scratch.tokenizer=" + dir.resolve("tokenizer"),
            "data.train=[" + dir.resolve("forget.jsonl") + "]",
            "train.epochs=30",
            "train.learning_rate=3e-3");
    FineTune.run(Config.of(RunConfig.class, keys), RunListener.NONE);
  }

  private static String file(String name) {
    return dir.resolve(name).toString();
  }

  /** What a program prints. */
  private static String printed(Runnable program) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    PrintStream before = System.out;
    System.setOut(new PrintStream(bytes, true, StandardCharsets.UTF_8));
    try {
      program.run();
    } finally {
      System.setOut(before);
    }
    return bytes.toString(StandardCharsets.UTF_8);
  }

  private static double number(String text, String pattern) {
    Matcher matcher = Pattern.compile(pattern).matcher(text);
    assertTrue(matcher.find(), () -> pattern + " is not in " + text);
    return Double.parseDouble(matcher.group(1));
  }

  @Test
  void theKernelEngineersOpIsRightAndTimed() {
    String out = printed(() -> KernelEngineer.main(new String[] {"1"}));
    assertTrue(out.startsWith("swiglu: right"), out);
    double share = number(out, "(\\d+) % of a copy");
    assertTrue(share > 0, out);
  }

  @Test
  void theEmbeddingTeamsModelForgets() {
    Path adapter = dir.resolve("adapter");
    String out =
        printed(
            () ->
                EmbeddingTeam.main(
                    new String[] {
                      file("tuned/model"),
                      file("forget.jsonl"),
                      file("retain.jsonl"),
                      adapter.toString()
                    }));
    assertTrue(out.contains("step 19 loss "), out);
    assertTrue(out.contains("end=COMPLETE, reason=, steps=20"), out);
    assertEquals(4, out.lines().filter(line -> line.startsWith("p ")).count(), out);
    assertTrue(number(out, "forget p ([0-9.]+)") < 0.5, out);
    assertTrue(Files.exists(adapter.resolve("adapter_model.safetensors")));
  }

  @Test
  void theSmallGpusPredictionsAreWhatIsUsed() {
    String out =
        printed(
            () ->
                SmallGpu.main(
                    new String[] {
                      file("tuned/model"), file("forget.jsonl"), file("retain.jsonl"), "cpu"
                    }));
    assertEquals(
        number(out, "model, predicted: +(\\d+)"), number(out, "model, used: +(\\d+)"), out);
    assertEquals(
        number(out, "training, predicted: +(\\d+)"), number(out, "training, used: +(\\d+)"), out);
  }

  /** The text between the markers, without the indentation that its method has. */
  private static String listing(String name) throws IOException {
    String source =
        Files.readString(ROOT.resolve("examples/java/org/lethe/examples/" + name + ".java"));
    String begin = "    // README: begin\n";
    int from = source.indexOf(begin) + begin.length();
    return source.substring(from, source.indexOf("\n    // README: end")).stripIndent() + "\n";
  }

  @ParameterizedTest
  @ValueSource(strings = {"EmbeddingTeam", "KernelEngineer", "SmallGpu"})
  void theReadmeShowsItAsItIs(String name) throws IOException {
    String readme = Files.readString(ROOT.resolve("README.md"));
    String wanted = "```java\n" + listing(name) + "```\n";
    assertTrue(
        readme.contains(wanted),
        () -> "README.md does not show examples/java/org/lethe/examples/" + name + ".java");
  }
}
