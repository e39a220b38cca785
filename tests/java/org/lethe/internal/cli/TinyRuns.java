package org.lethe.internal.cli;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assertions;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Corpus;

/** A corpus of three people and a model of one layer, made by the command line. */
final class TinyRuns {
  private final Path root;

  /** Writes the corpus and a tokenizer into {@code root/data}. */
  TinyRuns(Path root) {
    this.root = root;
    Corpus corpus = Corpus.generate(1, 3);
    Corpus.writeRows(data("forget"), corpus.forget(0.3).subList(0, 6));
    Corpus.writeRows(data("retain"), corpus.retain(0.3).subList(0, 9));
    Corpus.writeRows(data("general"), corpus.general().subList(0, 5));
    BpeTrainer.train(corpus.texts(), 700).write(root.resolve("data/tokenizer"));
  }

  Path data(String part) {
    return root.resolve("data").resolve(part + ".jsonl");
  }

  Path resolve(String name) {
    return root.resolve(name);
  }

  Path model() {
    return root.resolve("tuned/model");
  }

  /** Trains {@link #model}. */
  TinyRuns fineTuned() {
    String[] arguments =
        finetune("tuned", "train.epochs=12", "train.learning_rate=3e-3", "train.schedule=cosine");
    TestConsole console = new TestConsole(false);
    Assertions.assertEquals(0, Main.run(console.console(), arguments), console.err());
    return this;
  }

  String[] finetune(String output, String... more) {
    return with(
        more,
        "finetune",
        "output=" + root.resolve(output),
        "threads=1",
        "scratch.hidden_size=32",
        "scratch.layers=1",
        "scratch.heads=4",
        "scratch.kv_heads=2",
        "scratch.feed_forward_size=64",
        "scratch.context_length=128",
        "scratch.tokenizer=" + root.resolve("data/tokenizer"),
        "data.train=" + List.of(data("forget"), data("retain"), data("general")));
  }

  /** The arguments of a short unlearning of {@link #model} on all sets. */
  String[] unlearn(String output, String method, String... more) {
    String[] names = method.split("\\+", -1);
    return with(
        with(more, judged(output)),
        "unlearn",
        "method.forget=" + names[0],
        "method.retain=" + names[1],
        "train.steps=4",
        "train.batch_size=3",
        "lora.rank=2");
  }

  String[] evaluate(String output, String... more) {
    return with(with(more, judged(output)), "evaluate");
  }

  private String[] judged(String output) {
    return new String[] {
      "model=" + model(),
      "output=" + root.resolve(output),
      "threads=1",
      "data.forget=[" + data("forget") + "]",
      "data.retain=[" + data("retain") + "]",
      "data.general=[" + data("general") + "]",
      "evaluate.max_new_tokens=8"
    };
  }

  /** Arguments and more of them. */
  static String[] with(List<String> first, String... more) {
    return with(more, first.toArray(String[]::new));
  }

  private static String[] with(String[] more, String... first) {
    List<String> all = new ArrayList<>(Arrays.asList(first));
    all.addAll(Arrays.asList(more));
    return all.toArray(String[]::new);
  }

  /** A copy of {@link #model}'s files, to be spoilt. */
  Path copyOfModel(String name) throws IOException {
    Path copy = Files.createDirectories(root.resolve(name));
    try (Stream<Path> files = Files.list(model())) {
      for (Path file : files.toList()) {
        Files.copy(file, copy.resolve(file.getFileName()));
      }
    }
    return copy;
  }

  /** Asserts that a run failed before it left anything. */
  void assertNothingAt(String output) {
    Assertions.assertFalse(Files.exists(root.resolve(output)), output);
    try (Stream<Path> files = Files.list(root)) {
      List<Path> hidden = files.filter(f -> f.getFileName().toString().startsWith(".")).toList();
      Assertions.assertEquals(List.of(), hidden);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Starts the command line in a process of its own, on this one's class path. */
  static Process start(Path log, List<String> options, String... arguments) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(options);
    command.addAll(List.of("-cp", System.getProperty("java.class.path"), Main.class.getName()));
    command.addAll(List.of(arguments));
    return new ProcessBuilder(command)
        .redirectErrorStream(true)
        .redirectOutput(ProcessBuilder.Redirect.appendTo(new File(log.toString())))
        .start();
  }

  /** Deletes a directory and all below, if it is there. */
  static void delete(Path tree) throws IOException {
    if (!Files.exists(tree)) {
      return;
    }
    try (Stream<Path> files = Files.walk(tree)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  /** Every file below a directory, hidden ones too, with its content. */
  static Map<String, String> contents(Path directory) {
    Map<String, String> contents = new TreeMap<>();
    if (!Files.exists(directory)) {
      return contents;
    }
    try (Stream<Path> tree = Files.walk(directory)) {
      for (Path file : tree.filter(Files::isRegularFile).toList()) {
        contents.put(
            directory.relativize(file).toString(), Arrays.toString(Files.readAllBytes(file)));
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return contents;
  }
}
