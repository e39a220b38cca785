package org.lethe.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.lethe.data.TokenSequence;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.HeadRows;
import org.lethe.model.InferenceMemory;
import org.lethe.model.MemoryPlan;
import org.lethe.model.Model;
import org.lethe.model.PackedBatch;
import org.lethe.model.Packer;
import org.lethe.model.View;

/**
 * Teacher-forced likelihoods of sequences, without a gradient. Only the backend's thread may call
 * it.
 */
public final class Scorer implements AutoCloseable {
  private final Model model;
  private final int budget;
  private final View view;
  private final Prefixes prefixes;
  private final Decoder decoder;
  private final Head head;

  /**
   * What the model says of one sequence.
   *
   * @param nll summed over the rows, in nats
   * @param rows how many tokens were predicted
   */
  public record Score(double nll, int rows) {
    /** exp(−nll / rows): the geometric mean of the tokens' probabilities. */
    public double probability() {
      return StrictMath.exp(-nll / rows);
    }
  }

  /**
   * Takes the memory of one batch.
   *
   * @param budget tokens scored at a time; at least the longest sequence
   * @param adapted whether the model's adapters act; without them this is the reference model
   */
  public Scorer(Model model, int budget, boolean adapted) {
    this(model, budget, adapted ? model.view() : model.reference());
  }

  /** The same, in any view of the model. */
  public Scorer(Model model, int budget, View view) {
    this.model = model;
    this.budget = budget;
    this.view = view;
    this.prefixes = Prefixes.worthwhile(model);
    this.decoder = MemoryPlan.take(() -> new Decoder(model, budget, false), this::plan);
    try {
      this.head = MemoryPlan.take(() -> new Head(model, budget), this::plan);
    } catch (RuntimeException e) {
      decoder.close();
      throw e;
    }
  }

  private MemoryPlan plan() {
    return new MemoryPlan()
        .part("activations of " + budget + " tokens", Decoder.bytes(model, budget, false))
        .part("head", Head.bytes(model, budget, budget))
        .remedy("a shorter data.context_length, dtype=bf16, another device, or device=cpu");
  }

  /**
   * A scorer for these sequences, some two thousand tokens at a time, or as many as the device has
   * room for: what is said of a sequence does not depend on it.
   */
  public static Scorer forSequences(Model model, List<TokenSequence> sequences, boolean adapted) {
    return forSequences(model, sequences, adapted ? model.view() : model.reference());
  }

  /** The same, in any view of the model. */
  public static Scorer forSequences(Model model, List<TokenSequence> sequences, View view) {
    int longest = sequences.stream().mapToInt(s -> s.ids().length).max().orElse(1);
    int total = sequences.stream().mapToInt(s -> s.ids().length).sum();
    int budget = InferenceMemory.of(model).tokens(longest, total, model.ops().backend().room());
    return new Scorer(model, budget, view);
  }

  /** What is taken from a sequence's rows. */
  @FunctionalInterface
  public interface Reading<T> {
    /**
     * The reading of one sequence.
     *
     * @param statistics of all rows of a batch
     * @param rows those of the sequence: one per token that is predicted, in order
     */
    T of(TokenSequence sequence, RowStatistics statistics, Sequence rows);
  }

  /** The score of each sequence over the given positions. */
  public List<Score> score(List<TokenSequence> sequences, Positions positions) {
    return read(
        sequences,
        positions,
        (sequence, statistics, rows) -> new Score(statistics.nll(rows), rows.rows()));
  }

  /** A reading of each sequence over the given positions. */
  public <T> List<T> read(List<TokenSequence> sequences, Positions positions, Reading<T> reading) {
    List<T> readings = new ArrayList<>();
    List<TokenSequence> batch = new ArrayList<>();
    Prefixes.Text first = null;
    int tokens = 0;
    for (TokenSequence sequence : sequences) {
      Prefixes.Text text = text(sequence, positions, first);
      boolean follows = first != null && first.group().equals(text.group());
      int own = sequence.ids().length - (follows ? prefixes.shared(first, text) : 0);
      if (!batch.isEmpty() && tokens + own > budget) {
        readings.addAll(readBatch(batch, positions, reading));
        batch.clear();
        tokens = 0;
        follows = false;
        own = sequence.ids().length;
      }
      batch.add(sequence);
      first = follows ? first : text;
      tokens += own;
    }
    if (!batch.isEmpty()) {
      readings.addAll(readBatch(batch, positions, reading));
    }
    return readings;
  }

  /**
   * A sequence beside those before it: one that asks the same as the first of a group belongs to
   * it.
   */
  private static Prefixes.Text text(
      TokenSequence sequence, Positions positions, Prefixes.Text first) {
    int prompt = sequence.answerStart();
    boolean same =
        first != null
            && first.ids().length >= prompt
            && Arrays.equals(sequence.ids(), 0, prompt, first.ids(), 0, prompt);
    String group = same ? first.group() : first == null ? "0" : first.group() + "+";
    return new Prefixes.Text(sequence.ids(), Rows.count(positions, sequence), group);
  }

  /** The first text of the last one's group. */
  private static Prefixes.Text first(List<Prefixes.Text> texts) {
    int at = texts.size() - 1;
    while (at > 0 && texts.get(at - 1).group().equals(texts.get(at).group())) {
      at--;
    }
    return texts.get(at);
  }

  private <T> List<T> readBatch(
      List<TokenSequence> batch, Positions positions, Reading<T> reading) {
    List<Prefixes.Text> texts = new ArrayList<>();
    for (TokenSequence sequence : batch) {
      texts.add(text(sequence, positions, texts.isEmpty() ? null : first(texts)));
    }
    Packer packer = new Packer();
    List<Packer.Place> places = prefixes.pack(packer, texts);
    PackedBatch packed = packer.build(0);
    HeadRows.Builder rows = new HeadRows.Builder();
    Map<Integer, Integer> sources = new HashMap<>();
    List<Sequence> sequences = new ArrayList<>();
    int firstRow = 0;
    for (int i = 0; i < batch.size(); i++) {
      int[] at = Rows.of(positions, batch.get(i));
      for (int t : at) {
        int label = Rows.label(batch.get(i), t);
        int source = sources.computeIfAbsent(places.get(i).token(t), rows::source);
        rows.row(source, label, RowKind.STATISTICS.code(), -1);
      }
      int count = at.length;
      sequences.add(new Sequence(Role.RETAIN, i, firstRow, count, Double.NaN));
      firstRow += count;
    }
    HeadRows headRows = rows.build(0);
    long stream = decoder.forward(view, packed, headRows.sourceTokens());
    float[] values = head.forward(stream, headRows, false);
    RowStatistics statistics = new RowStatistics(values, model.config().vocabularySize());
    List<T> readings = new ArrayList<>();
    for (int i = 0; i < batch.size(); i++) {
      readings.add(reading.of(batch.get(i), statistics, sequences.get(i)));
    }
    return readings;
  }

  @Override
  public void close() {
    head.close();
    decoder.close();
  }
}
