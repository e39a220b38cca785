package org.lethe.model;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import org.lethe.kernels.HeadOps;

/**
 * A batch and its head rows, filled up so that batches of about the same size have the same shape:
 * what a captured graph needs.
 *
 * <p>Behind the trained tokens, and again behind the others, stand tokens in sequences of their
 * own, which no row looks at but rows whose coefficient is 0: the gradient at them is exactly 0,
 * and so is what they add to any other. Counts go up to the next of eight steps to a power of two,
 * which keeps them inside the powers of two that choose a device's matrix kernels.
 */
public final class ShapeBucket {
  private static final int STEPS = 8;
  private static final int LEAST_STEP = 16;
  private static final int SEQUENCE_STEP = 4;

  private final PackedBatch packed;
  private final HeadRows headRows;
  private final HeadRows real;
  private final Key key;

  /**
   * All that the ops of a step are given but addresses: one graph serves every batch of a key.
   *
   * @param parameters whether rows have parameters of their own
   * @param drops whether adapters have dropout
   */
  public record Key(
      int tokens,
      int trainedTokens,
      int segments,
      int trainedSegments,
      int rows,
      int trainedRows,
      int sources,
      int trainedSources,
      long references,
      boolean parameters,
      boolean drops) {}

  private ShapeBucket(PackedBatch packed, HeadRows headRows, HeadRows real) {
    this.packed = packed;
    this.headRows = headRows;
    this.real = real;
    this.key =
        new Key(
            packed.tokens(),
            packed.trainedTokens(),
            packed.attending(packed.sequences()),
            packed.attending(packed.trainedSequences()),
            headRows.rows(),
            headRows.trainedRows(),
            headRows.sources(),
            headRows.trainedSources(),
            headRows.counts().references(),
            headRows.parameters().length > 0,
            packed.rowKeys().length > 0);
  }

  /** The most tokens that a batch of so many has when it is filled up, but for many short ones. */
  public static int tokens(int tokens) {
    return Math.addExact(up(tokens, LEAST_STEP), 2 * LEAST_STEP + tokens / STEPS);
  }

  /** The most rows that so many become when they are filled up. */
  public static int rows(int rows) {
    return Math.addExact(up(rows, LEAST_STEP), 2 * LEAST_STEP + rows / STEPS);
  }

  /** The most sequences that a batch of so many has when it is filled up. */
  public static int sequences(int sequences) {
    return Math.addExact(up(sequences, SEQUENCE_STEP), 2 * SEQUENCE_STEP + sequences / STEPS);
  }

  /** Whether the shape of a batch is all in its {@link Key}. */
  public static boolean fits(PackedBatch packed, HeadRows headRows) {
    return packed.silent().length == 0
        && packed.trainedSequences() > 0
        && headRows.passTokens().isEmpty()
        && headRows.trainedSources() > 0
        && headRows.counts().seconds() == 0;
  }

  /** Fills up a batch that {@link #fits}. */
  public static ShapeBucket of(PackedBatch packed, HeadRows headRows) {
    int trained = packed.trainedTokens();
    int others = packed.tokens() - trained;
    int sequences = packed.trainedSequences();
    int otherSequences = packed.sequences() - sequences;
    int moreSequences = more(sequences, SEQUENCE_STEP);
    int moreTokens = up(trained + moreSequences, LEAST_STEP) - trained;
    int moreOtherSequences = others == 0 ? 0 : more(otherSequences, SEQUENCE_STEP);
    int moreOthers = others == 0 ? 0 : up(others + moreOtherSequences, LEAST_STEP) - others;
    PackedBatch filled =
        new PackedBatch(
            spliced(packed.ids(), trained, moreTokens, moreOthers, packed.ids()[0]),
            spliced(packed.positions(), trained, moreTokens, moreOthers, 0),
            starts(packed, moreTokens, moreSequences, moreOthers, moreOtherSequences),
            parents(packed, moreTokens, moreSequences, moreOtherSequences),
            sequences + moreSequences,
            new int[0],
            packed.rowKeys().length == 0
                ? packed.rowKeys()
                : Arrays.copyOf(packed.rowKeys(), trained + moreTokens));
    return new ShapeBucket(filled, new Rows(headRows, filled).fill(), headRows);
  }

  /** The batch to run. */
  public PackedBatch packed() {
    return packed;
  }

  /** Its head rows. */
  public HeadRows headRows() {
    return headRows;
  }

  /** What it has in common with others. */
  public Key key() {
    return key;
  }

  /** The statistics of the rows that were there before, of those of all rows. */
  public float[] ofReal(float[] statistics) {
    int width = HeadOps.STATISTICS;
    int trained = real.trainedRows() * width;
    float[] kept = Arrays.copyOf(statistics, real.rows() * width);
    System.arraycopy(
        statistics, headRows.trainedRows() * width, kept, trained, kept.length - trained);
    return kept;
  }

  /** The coefficients of all rows, from those of the rows that were there before. */
  public float[] ofAll(float[] coefficients) {
    float[] all = new float[headRows.rows()];
    System.arraycopy(coefficients, 0, all, 0, real.trainedRows());
    return all;
  }

  /**
   * The next of {@value #STEPS} steps to a power of two, and at least a multiple of {@code least}.
   */
  private static int up(int n, int least) {
    int step = Math.max(least, Integer.highestOneBit(Math.max(1, n - 1)) / STEPS);
    return Math.multiplyExact((n + step - 1) / step, step);
  }

  /** How many are missing to the step above; at least one. */
  private static int more(int n, int least) {
    return up(n + 1, least) - n;
  }

  private static int[] spliced(int[] values, int at, int more, int end, int filler) {
    int[] all = new int[values.length + more + end];
    Arrays.fill(all, filler);
    System.arraycopy(values, 0, all, 0, at);
    System.arraycopy(values, at, all, at + more, values.length - at);
    return all;
  }

  /** What was shared stands where it did, behind the fillers of the trained tokens if it did. */
  private static int[] parents(
      PackedBatch packed, int moreTokens, int moreSequences, int moreOtherSequences) {
    int[] real = packed.parents();
    if (real.length == 0) {
      return real;
    }
    int trained = packed.trainedSequences();
    int[] filled = new int[real.length + 2 * (moreSequences + moreOtherSequences)];
    for (int s = 0; s < packed.sequences(); s++) {
      boolean behind = s >= trained && real[2 * s + 1] > 0;
      int at = 2 * (s < trained ? s : s + moreSequences);
      filled[at] = real[2 * s] + (behind ? moreTokens : 0);
      filled[at + 1] = real[2 * s + 1];
    }
    return filled;
  }

  private static int[] starts(
      PackedBatch packed, int moreTokens, int moreSequences, int moreOthers, int moreOther) {
    int[] old = packed.starts();
    int trained = packed.trainedSequences();
    int[] starts = Arrays.copyOf(old, old.length + moreSequences + moreOther);
    fill(starts, trained, moreTokens, moreSequences);
    for (int s = trained + 1; s < old.length; s++) {
      starts[s + moreSequences] = old[s] + moreTokens;
    }
    fill(starts, old.length - 1 + moreSequences, moreOthers, moreOther);
    return starts;
  }

  /** Sequences of about the same length, {@code tokens} together, from {@code starts[first]} on. */
  private static void fill(int[] starts, int first, int tokens, int sequences) {
    for (int s = 1; s <= sequences; s++) {
      starts[first + s] = starts[first] + (int) ((long) tokens * s / sequences);
    }
  }

  /** Fills up the head's sources and rows. */
  private static final class Rows {
    private final HeadRows real;
    private final PackedBatch filled;
    private final int ownSources;
    private final int trainedSources;
    private final int sources;

    Rows(HeadRows real, PackedBatch filled) {
      this.real = real;
      this.filled = filled;
      this.ownSources = real.sourceTokens().length;
      int own = real.trainedSources();
      int others = ownSources - own;
      this.trainedSources = Math.min(up(own + 1, LEAST_STEP), filled.trainedTokens());
      this.sources =
          trainedSources
              + (others == 0
                  ? 0
                  : Math.min(up(others, LEAST_STEP), filled.tokens() - filled.trainedTokens()));
    }

    HeadRows fill() {
      int references = (int) real.counts().references();
      int plain = real.trainedRows() - references;
      int moreReferences = references == 0 ? 0 : up(references, LEAST_STEP) - references;
      int morePlain = up(plain, LEAST_STEP) - plain;
      int others = real.rows() - real.trainedRows();
      int moreOthers = up(others, LEAST_STEP) - others;
      int trained = real.trainedRows() + moreReferences + morePlain;
      int[] records = new int[(trained + others + moreOthers) * HeadOps.ROW_FIELDS];
      for (int row = 0; row < real.rows(); row++) {
        int to = row < real.trainedRows() ? row : row - real.trainedRows() + trained;
        copy(row, records, to);
      }
      for (int i = 0; i < moreReferences + morePlain; i++) {
        filler(records, real.trainedRows() + i, i < moreReferences);
      }
      for (int i = 0; i < moreOthers; i++) {
        filler(records, trained + others + i, false);
      }
      return new HeadRows(
          sourceTokens(),
          records,
          parameters(trained, others + moreOthers),
          trainedSources,
          trained,
          filled.trainedTokens(),
          real.passTokens());
    }

    private int source(int old) {
      return old < real.trainedSources() ? old : old - real.trainedSources() + trainedSources;
    }

    private void copy(int row, int[] records, int to) {
      int from = row * HeadOps.ROW_FIELDS;
      int at = to * HeadOps.ROW_FIELDS;
      System.arraycopy(real.records(), from, records, at, HeadOps.ROW_FIELDS);
      records[at] = source(records[at]);
      for (int field = 3; field < HeadOps.ROW_FIELDS; field++) {
        if (records[at + field] >= 0) {
          records[at + field] = source(records[at + field]);
        }
      }
    }

    /** A row whose coefficient will be 0; one with a reference has itself for it. */
    private void filler(int[] records, int row, boolean reference) {
      int at = row * HeadOps.ROW_FIELDS;
      int source = Math.min(real.trainedSources(), trainedSources - 1);
      Arrays.fill(records, at, at + HeadOps.ROW_FIELDS, -1);
      records[at] = source;
      records[at + 2] = reference ? HeadOps.ROW_REFERENCE_KL : HeadOps.ROW_STATISTICS;
      records[at + 3] = reference ? source : -1;
    }

    private float[] parameters(int trained, int others) {
      float[] old = real.parameters();
      if (old.length == 0) {
        return old;
      }
      float[] all = new float[(trained + others) * HeadRows.PARAMETERS];
      for (int at = 0; at < all.length; at += HeadRows.PARAMETERS) {
        all[at] = 1;
      }
      int ofTrained = real.trainedRows() * HeadRows.PARAMETERS;
      System.arraycopy(old, 0, all, 0, ofTrained);
      System.arraycopy(old, ofTrained, all, trained * HeadRows.PARAMETERS, old.length - ofTrained);
      return all;
    }

    /** No trained token twice: the new ones are fillers first, then tokens that no row looks at. */
    private int[] sourceTokens() {
      int[] tokens = new int[sources];
      int moved = filled.trainedTokens() - real.trainedTokens();
      Set<Integer> used = new HashSet<>();
      for (int i = 0; i < ownSources; i++) {
        int token = real.sourceTokens()[i];
        tokens[source(i)] = i < real.trainedSources() ? token : token + moved;
        used.add(tokens[source(i)]);
      }
      int next = filled.trainedTokens() - 1;
      for (int i = real.trainedSources(); i < trainedSources; i++) {
        while (used.contains(next)) {
          next--;
        }
        tokens[i] = next--;
      }
      int others = ownSources - real.trainedSources();
      Arrays.fill(tokens, trainedSources + others, sources, filled.tokens() - 1);
      return tokens;
    }
  }
}
