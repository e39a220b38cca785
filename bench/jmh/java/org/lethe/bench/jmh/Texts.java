package org.lethe.bench.jmh;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
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
public final class Texts implements AutoCloseable {
  private static final double FORGOTTEN = 0.25;

  final Path directory;
  final Corpus corpus;
  final Tokenizer tokenizer;
  final PromptTemplate template;
  final ExampleEncoder encoder;

  /**
   * Writes the corpus and trains the tokenizer.
   *
   * @param people of the corpus, ten rows each
   * @param vocabulary of the tokenizer, at most
   * @param context tokens of a row, which is cut there
   */
  public Texts(int people, int vocabulary, int context) {
    try {
      directory = Files.createTempDirectory("lethe-jmh");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    corpus = Corpus.generate(1, people);
    corpus.write(directory, FORGOTTEN);
    BpeTrainer.train(corpus.texts(), vocabulary).write(directory);
    tokenizer = Tokenizer.load(directory);
    template = PromptTemplate.chat(tokenizer);
    encoder =
        new ExampleEncoder(tokenizer, template, context, ExampleEncoder.LongSequence.TRUNCATE);
  }

  /** Turns rows into token sequences. */
  public ExampleEncoder encoder() {
    return encoder;
  }

  /** The rows of a quarter of the people. */
  public List<Example> forget() {
    return examples(corpus.forget(FORGOTTEN));
  }

  /** The rows of everybody else. */
  public List<Example> retain() {
    return examples(corpus.retain(FORGOTTEN));
  }

  /** The rows of all. */
  List<Example> full() {
    return examples(corpus.full());
  }

  /** Rows whose answers are several in one, so that they are as long as those of other corpora. */
  public static List<Example> longer(List<Example> rows, int answers) {
    List<Example> longer = new ArrayList<>();
    for (int i = 0; i < rows.size(); i++) {
      List<String> joined = new ArrayList<>();
      for (int k = 0; k < answers; k++) {
        joined.add(rows.get((i + k) % rows.size()).answer());
      }
      String answer = String.join(" ", joined);
      longer.add(new Example(rows.get(i).question(), answer, List.of(), List.of(), "corpus"));
    }
    return longer;
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
