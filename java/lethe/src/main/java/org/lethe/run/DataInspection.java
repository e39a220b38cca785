package org.lethe.run;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.checkpoint.ModelConfigFile;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Jsonl;
import org.lethe.data.PromptTemplate;
import org.lethe.data.TokenSequence;
import org.lethe.data.Tokenizer;

/**
 * How a run would see the rows of a file: their tokens, which of them are labels, and how long they
 * are.
 */
public final class DataInspection implements AutoCloseable {
  private static final int BUCKETS = 16;

  /** What makes tokens of rows; all null without a tokenizer. */
  private final Tokenizer tokenizer;

  private final ExampleEncoder encoder;
  private final int context;

  /**
   * Lengths of many sequences.
   *
   * @param median the upper one of two
   * @param histogram counts of equally wide ranges from min to max
   */
  public record Lengths(int min, int median, int max, List<Integer> histogram) {
    static Lengths of(List<Integer> lengths) {
      int[] sorted = lengths.stream().mapToInt(Integer::intValue).sorted().toArray();
      int min = sorted[0];
      int max = sorted[sorted.length - 1];
      int[] counts = new int[Math.min(BUCKETS, max - min + 1)];
      for (int length : sorted) {
        counts[(int) ((long) (length - min) * counts.length / (max - min + 1))]++;
      }
      return new Lengths(
          min, sorted[sorted.length / 2], max, Arrays.stream(counts).boxed().toList());
    }
  }

  /**
   * A row as tokens.
   *
   * @param pieces the tokens' texts, special tokens spelt out
   * @param kept tokens that the context keeps; those behind are cut off
   */
  public record Row(Example example, TokenSequence tokens, List<String> pieces, int kept) {}

  /**
   * What a file holds.
   *
   * @param rows that can be read
   * @param problems what is wrong with the others
   * @param emptyAnswers rows, of either kind, whose answer has no text
   * @param duplicates rows that repeat question and answer of an earlier one
   * @param prompt lengths in tokens; empty without a tokenizer or rows, as the next two
   * @param truncated rows longer than the context
   * @param unusable rows whose prompt alone fills the context
   * @param samples the first rows
   */
  public record Summary(
      Path file,
      int rows,
      List<String> problems,
      int emptyAnswers,
      int duplicates,
      int reworded,
      int perturbed,
      Optional<Lengths> prompt,
      Optional<Lengths> labels,
      Optional<Lengths> total,
      int truncated,
      int unusable,
      List<Row> samples) {}

  private DataInspection(Tokenizer tokenizer, ExampleEncoder encoder, int context) {
    this.tokenizer = tokenizer;
    this.encoder = encoder;
    this.context = context;
  }

  /** Without a tokenizer: rows are counted and compared, nothing is known of tokens. */
  public static DataInspection plain() {
    return new DataInspection(null, null, 0);
  }

  /**
   * With a tokenizer.
   *
   * @param directory of a model or a tokenizer
   * @param isModel whether the context is the model's where none is given
   * @param contextLength tokens a sequence may have; 0: the model's, or no limit
   * @param template with {@code {question}} in it; empty: the chat template that came along
   */
  public static DataInspection of(
      Path directory, boolean isModel, int contextLength, Optional<String> template) {
    int context = contextLength;
    if (isModel) {
      ModelConfigFile config = ModelDirectory.config(directory);
      int most = config.model().contextLength();
      context = context == 0 ? most : Math.min(context, most);
    }
    Tokenizer tokenizer = Tokenizer.load(directory);
    try {
      PromptTemplate prompts =
          template.isPresent()
              ? PromptTemplate.plain(template.get())
              : PromptTemplate.chat(tokenizer);
      ExampleEncoder encoder =
          new ExampleEncoder(
              tokenizer, prompts, Integer.MAX_VALUE, ExampleEncoder.LongSequence.REFUSE);
      return new DataInspection(tokenizer, encoder, context == 0 ? Integer.MAX_VALUE : context);
    } catch (RuntimeException e) {
      tokenizer.close();
      throw e;
    }
  }

  /** Whether rows become tokens. */
  public boolean tokenises() {
    return tokenizer != null;
  }

  /** Tokens a sequence may have; {@code Integer.MAX_VALUE} when nothing limits it. */
  public int contextLength() {
    return context;
  }

  /** The token that ends an answer. */
  public int eosId() {
    return encoder.endId();
  }

  /**
   * Looks at a file.
   *
   * @param samples how many rows are given as tokens
   */
  public Summary inspect(Path file, int samples) {
    List<String> problems = new ArrayList<>();
    List<Example> rows = Jsonl.read(file, p -> problems.add(p.getMessage()));
    // A blank answer is refused when the row is read.
    int empty = (int) problems.stream().filter(p -> p.contains("\"answer\" is blank")).count();
    Set<String> seen = new HashSet<>();
    int duplicates = 0;
    int reworded = 0;
    int perturbed = 0;
    List<TokenSequence> sequences = new ArrayList<>();
    List<Example> encoded = new ArrayList<>();
    for (Example row : rows) {
      duplicates += seen.add(row.question() + '\0' + row.answer()) ? 0 : 1;
      reworded += row.paraphrasedAnswers().size();
      perturbed += row.perturbedAnswers().size();
      if (encoder != null) {
        try {
          sequences.add(encoder.encode(row.question(), row.answer(), row.source()));
          encoded.add(row);
        } catch (UserException e) {
          problems.add(e.getMessage());
        }
      }
    }
    return new Summary(
        file,
        rows.size(),
        List.copyOf(problems),
        empty,
        duplicates,
        reworded,
        perturbed,
        lengths(sequences.stream().map(TokenSequence::answerStart).toList()),
        lengths(sequences.stream().map(TokenSequence::answerTokens).toList()),
        lengths(sequences.stream().map(s -> s.ids().length).toList()),
        (int) sequences.stream().filter(s -> s.ids().length > context).count(),
        (int) sequences.stream().filter(s -> s.answerStart() >= context).count(),
        samples(encoded, sequences, samples));
  }

  private static Optional<Lengths> lengths(List<Integer> lengths) {
    return lengths.isEmpty() ? Optional.empty() : Optional.of(Lengths.of(lengths));
  }

  private List<Row> samples(List<Example> rows, List<TokenSequence> sequences, int most) {
    List<Row> samples = new ArrayList<>();
    for (int i = 0; i < Math.min(most, sequences.size()); i++) {
      TokenSequence tokens = sequences.get(i);
      samples.add(
          new Row(
              rows.get(i),
              tokens,
              tokenizer.pieces(tokens.ids()),
              Math.min(context, tokens.ids().length)));
    }
    return samples;
  }

  @Override
  public void close() {
    if (tokenizer != null) {
      tokenizer.close();
    }
  }
}
