package org.lethe.evaluate;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import org.lethe.data.TokenSequence;
import org.lethe.method.Positions;
import org.lethe.model.Generator;
import org.lethe.model.Model;
import org.lethe.model.View;
import org.lethe.train.Scorer;

/**
 * The greedy continuations of all prefixes of texts up to the texts' own length, which extraction
 * likelihood is made of.
 *
 * <p>Only some of them are generated. Greedy decoding is deterministic and every continuation of a
 * text ends at the same place, so where the most likely token after the prefix x_{&lt;t} is x_t
 * itself, f(x_{&lt;t}) = x_t, f(x_{&lt;t+1}): one teacher-forced pass tells where that is so, and
 * only the other prefixes are continued. The result is that of continuing them all, as long as both
 * ways find the same most likely token, that is but for logits that are equal to rounding. Only the
 * backend's thread may call it.
 */
public final class Continuations {
  /**
   * A text without an end token, and the prefixes that are looked at.
   *
   * @param ids [T]
   * @param from length of the shortest prefix, in [1, T]
   */
  // Made, read once and dropped; copies would guard nothing.
  @SuppressWarnings("ArrayRecordComponent")
  public record Text(int[] ids, int from) {
    /**
     * A row.
     *
     * @param positions {@code ANSWER}: the prefixes that hold the whole prompt; {@code ALL}: all
     * @param end the token that closes an answer, which is left out
     */
    public static Text of(TokenSequence row, Positions positions, int end) {
      int[] ids = row.ids();
      int length = ids.length - (ids[ids.length - 1] == end ? 1 : 0);
      return new Text(
          Arrays.copyOf(ids, length),
          Math.min(length, positions == Positions.ALL ? 1 : row.answerStart()));
    }
  }

  /**
   * What a model did on a text.
   *
   * @param hits at t ≥ from: whether token t is the most likely one after the tokens before it
   * @param continuations of the prefixes of length from … T−1, each of at most T − t tokens
   */
  public record Seen(BitSet hits, List<int[]> continuations) {}

  private final Model model;
  private final View view;
  private final Set<Integer> stop;
  private final int slots;

  /**
   * Continuations by a model.
   *
   * @param view which of the models on these weights continues
   * @param stop tokens that end a continuation early; they are not part of it
   * @param slots prefixes continued at a time, at least 1; the result does not depend on it
   */
  public Continuations(Model model, View view, Set<Integer> stop, int slots) {
    this.model = model;
    this.view = view;
    this.stop = stop;
    this.slots = slots;
  }

  /** What the model does on each text. */
  public List<Seen> of(List<Text> texts) {
    List<BitSet> hits = hits(texts);
    List<Prefix> missed = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      Text text = texts.get(i);
      for (int t = text.from(); t < text.ids().length; t++) {
        if (!hits.get(i).get(t)) {
          missed.add(new Prefix(i, t, text.ids()));
        }
      }
    }
    int[][][] made = generate(texts, missed);
    List<Seen> seen = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      seen.add(new Seen(hits.get(i), completed(texts.get(i), hits.get(i), made[i])));
    }
    return seen;
  }

  /** The same by continuing every prefix: what {@link #of} is tested against. */
  List<List<int[]>> ofEvery(List<Text> texts) {
    List<Prefix> all = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      for (int t = texts.get(i).from(); t < texts.get(i).ids().length; t++) {
        all.add(new Prefix(i, t, texts.get(i).ids()));
      }
    }
    int[][][] made = generate(texts, all);
    List<List<int[]>> continuations = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      continuations.add(List.of(made[i]).subList(0, made[i].length));
    }
    return continuations;
  }

  private record Prefix(int text, int length, int[] ids) {
    int rest() {
      return ids.length - length;
    }
  }

  private List<BitSet> hits(List<Text> texts) {
    // A text without a prefix to look at has no row either.
    List<TokenSequence> sequences = new ArrayList<>();
    for (Text text : texts) {
      if (text.from() < text.ids().length) {
        sequences.add(new TokenSequence(text.ids(), text.from()));
      }
    }
    List<BitSet> read = List.of();
    if (!sequences.isEmpty()) {
      try (Scorer scorer = Scorer.forSequences(model, sequences, view)) {
        read =
            scorer.read(
                sequences,
                Positions.ANSWER,
                (sequence, statistics, rows) -> {
                  BitSet hit = new BitSet();
                  for (int r = 0; r < rows.rows(); r++) {
                    int t = sequence.answerStart() + r;
                    hit.set(t, statistics.argmax(rows.firstRow() + r) == sequence.ids()[t]);
                  }
                  return hit;
                });
      }
    }
    List<BitSet> hits = new ArrayList<>();
    int next = 0;
    for (Text text : texts) {
      hits.add(text.from() < text.ids().length ? read.get(next++) : new BitSet());
    }
    return hits;
  }

  /** Continuations by text and prefix length − from; null where none was asked for. */
  private int[][][] generate(List<Text> texts, List<Prefix> prefixes) {
    int[][][] made = new int[texts.size()][][];
    for (int i = 0; i < made.length; i++) {
      made[i] = new int[texts.get(i).ids().length - texts.get(i).from()][];
    }
    if (prefixes.isEmpty()) {
      return made;
    }
    // Those with much to say go together, so that none waits for its neighbours.
    List<Prefix> ordered = new ArrayList<>(prefixes);
    ordered.sort(Comparator.comparingInt(Prefix::rest));
    int longest = texts.stream().mapToInt(t -> t.ids().length).max().orElse(1);
    int together = Math.min(slots, prefixes.size());
    try (Generator generator = new Generator(model, together, Math.max(2, longest), view)) {
      for (int first = 0; first < ordered.size(); first += together) {
        List<Prefix> group = ordered.subList(first, Math.min(first + together, ordered.size()));
        List<int[]> prompts = group.stream().map(p -> Arrays.copyOf(p.ids(), p.length())).toList();
        int most = group.get(group.size() - 1).rest();
        List<int[]> said = generator.greedy(prompts, most, stop);
        for (int i = 0; i < group.size(); i++) {
          Prefix p = group.get(i);
          int[] tokens = said.get(i);
          made[p.text()][p.length() - texts.get(p.text()).from()] =
              Arrays.copyOf(tokens, Math.min(tokens.length, p.rest()));
        }
      }
    }
    return made;
  }

  /** Fills in, from the back, the continuations of prefixes that the text itself continues. */
  private List<int[]> completed(Text text, BitSet hits, int[][] made) {
    int[] ids = text.ids();
    for (int t = ids.length - 1; t >= text.from(); t--) {
      int at = t - text.from();
      if (!hits.get(t)) {
        continue;
      }
      int[] after = t + 1 < ids.length ? made[at + 1] : new int[0];
      int[] whole = new int[stop.contains(ids[t]) ? 0 : after.length + 1];
      if (whole.length > 0) {
        whole[0] = ids[t];
        System.arraycopy(after, 0, whole, 1, after.length);
      }
      made[at] = whole;
    }
    return List.of(made);
  }
}
