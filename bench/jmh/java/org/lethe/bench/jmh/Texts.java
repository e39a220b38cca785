package org.lethe.bench.jmh;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.PromptTemplate;
import org.lethe.data.Tokenizer;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Corpus;
import org.lethe.data.corpus.Row;

/** The generated corpus with a tokenizer of its own, in a temporary directory. */
final class Texts implements AutoCloseable {
  /** Longer than any row. */
  static final int CONTEXT = 512;

  private static final double FORGOTTEN = 0.25;

  final Path directory;
  final Corpus corpus;
  final Tokenizer tokenizer;
  final PromptTemplate template;
  final ExampleEncoder encoder;

  /**
   * @param people of the corpus, ten rows each
   */
  Texts(int people) {
    try {
      directory = Files.createTempDirectory("lethe-jmh");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    corpus = Corpus.generate(1, people);
    corpus.write(directory, FORGOTTEN);
    BpeTrainer.train(corpus.texts(), BpeTrainer.DEFAULT_VOCABULARY).write(directory);
    tokenizer = Tokenizer.load(directory);
    template = PromptTemplate.chat(tokenizer);
    encoder = new ExampleEncoder(tokenizer, template, CONTEXT, ExampleEncoder.LongSequence.REFUSE);
  }

  /** The rows of a quarter of the people. */
  List<Example> forget() {
    return examples(corpus.forget(FORGOTTEN));
  }

  /** The rows of everybody else. */
  List<Example> retain() {
    return examples(corpus.retain(FORGOTTEN));
  }

  /** The rows of all. */
  List<Example> full() {
    return examples(corpus.full());
  }

  private static List<Example> examples(List<Row> rows) {
    return rows.stream().map(row -> row.toExample("corpus")).toList();
  }

  @Override
  public void close() {
    tokenizer.close();
    delete(directory);
  }

  /** Removes a temporary directory. */
  static void delete(Path directory) {
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
