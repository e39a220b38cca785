package org.lethe.train;

import java.util.ArrayList;
import java.util.List;
import org.lethe.data.TokenSequence;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.HeadRows;
import org.lethe.model.Model;
import org.lethe.model.PackedBatch;

/**
 * Teacher-forced likelihoods of sequences, without a gradient. Only the backend's thread may call
 * it.
 */
public final class Scorer implements AutoCloseable {
  private final Model model;
  private final int budget;
  private final boolean adapted;
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
    this.model = model;
    this.budget = budget;
    this.adapted = adapted;
    this.decoder = new Decoder(model, budget, false);
    this.head = new Head(model, budget);
  }

  /** A scorer for these sequences, some two thousand tokens at a time. */
  public static Scorer forSequences(Model model, List<TokenSequence> sequences, boolean adapted) {
    int longest = sequences.stream().mapToInt(s -> s.ids().length).max().orElse(1);
    int total = sequences.stream().mapToInt(s -> s.ids().length).sum();
    return new Scorer(model, Math.max(longest, Math.min(total, 2048)), adapted);
  }

  /** The score of each sequence over the given positions. */
  public List<Score> score(List<TokenSequence> sequences, Positions positions) {
    List<Score> scores = new ArrayList<>();
    List<TokenSequence> batch = new ArrayList<>();
    int tokens = 0;
    for (TokenSequence sequence : sequences) {
      int length = sequence.ids().length;
      if (!batch.isEmpty() && tokens + length > budget) {
        scores.addAll(scoreBatch(batch, positions));
        batch.clear();
        tokens = 0;
      }
      batch.add(sequence);
      tokens += length;
    }
    if (!batch.isEmpty()) {
      scores.addAll(scoreBatch(batch, positions));
    }
    return scores;
  }

  private List<Score> scoreBatch(List<TokenSequence> batch, Positions positions) {
    PackedBatch packed =
        PackedBatch.of(batch.stream().map(TokenSequence::ids).toList(), adapted ? batch.size() : 0);
    HeadRows.Builder rows = new HeadRows.Builder();
    List<Sequence> sequences = new ArrayList<>();
    int firstRow = 0;
    for (int i = 0; i < batch.size(); i++) {
      int[] at = Rows.of(positions, batch.get(i));
      for (int t : at) {
        int label = Rows.label(batch.get(i), t);
        rows.row(rows.source(packed.starts()[i] + t), label, RowKind.STATISTICS.code(), -1);
      }
      int count = at.length;
      sequences.add(new Sequence(Role.RETAIN, i, firstRow, count, Double.NaN));
      firstRow += count;
    }
    long residual = decoder.forward(packed);
    float[] values = head.forward(residual, packed.tokens(), rows.build(0), false);
    RowStatistics statistics = new RowStatistics(values, model.config().vocabularySize());
    return sequences.stream().map(s -> new Score(statistics.nll(s), s.rows())).toList();
  }

  @Override
  public void close() {
    head.close();
    decoder.close();
  }
}
