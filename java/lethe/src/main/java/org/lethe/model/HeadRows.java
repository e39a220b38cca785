package org.lethe.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.kernels.HeadOps;

/**
 * The rows a batch sends to the head. Rows and sources that take part in the backward pass come
 * first.
 *
 * @param sourceTokens token index of each source, [S]; no token twice
 * @param records {source, label or -1, kind, reference source or -1, second reference source or -1}
 *     of each row, [N * 5]
 * @param parameters {temperature, label shift, mix, epsilon} of each row, [N * 4]; empty where
 *     every row has the default ones, 1, 0, 0, 0
 * @param trainedSources sources of trained sequences, at the front
 * @param trainedRows rows on those, at the front
 * @param trainedTokens tokens of the trained sequences
 * @param passTokens token index, in its own batch, of each source that another pass over the model
 *     gives ({@link Decoder#forward(View, PackedBatch, int[])}), by pass; in the records these
 *     sources follow those of {@code sourceTokens}, pass by pass
 */
public record HeadRows(
    int[] sourceTokens,
    int[] records,
    float[] parameters,
    int trainedSources,
    int trainedRows,
    int trainedTokens,
    List<int[]> passTokens) {

  /** Numbers in {@link #parameters} per row. */
  public static final int PARAMETERS = HeadOps.ROW_PARAMS;

  /** Rows with the default parameters, which look at one pass alone. */
  public HeadRows(
      int[] sourceTokens, int[] records, int trainedSources, int trainedRows, int trainedTokens) {
    this(
        sourceTokens, records, new float[0], trainedSources, trainedRows, trainedTokens, List.of());
  }

  /** Number of rows. */
  public int rows() {
    return records.length / HeadOps.ROW_FIELDS;
  }

  /** Number of different positions that the rows look at. */
  public int sources() {
    return firstSource(passTokens.size());
  }

  /** How many rows have a reference, and how many a second one. */
  HeadOps.Counts counts() {
    return HeadOps.Counts.of(records, parameters);
  }

  /** The first source of another pass. */
  int firstSource(int pass) {
    int first = sourceTokens.length;
    for (int i = 0; i < pass; i++) {
      first += passTokens.get(i).length;
    }
    return first;
  }

  /** Collects rows; sources are given as tokens and used once each. */
  public static final class Builder {
    // Sources of other passes are numbered from here until all are known; the batch's own come
    // first.
    private static final int OF_PASSES = 1 << 24;
    private static final int PASS_LIMIT = 1 << 4;
    private static final int LABEL = 1;
    private static final int KIND = 2;

    private final List<IntList> passes = new ArrayList<>();
    private int[] sourceTokens = new int[64];
    private int[] records = new int[64 * HeadOps.ROW_FIELDS];
    private float[] parameters = new float[64 * PARAMETERS];
    private int sources;
    private int rows;
    private int trainedSources = -1;
    private int trainedRows;
    private boolean plain = true;

    /** Adds a source: the residual stream at a token. Returns its index. */
    public int source(int token) {
      if (sources == sourceTokens.length) {
        sourceTokens = Arrays.copyOf(sourceTokens, 2 * sources);
      }
      sourceTokens[sources] = token;
      return sources++;
    }

    /**
     * Adds a source: the residual stream at a token of another pass. Returns what stands for its
     * index until {@link #build}.
     *
     * @param pass from 0, in the order in which {@link Head#take} is called
     * @param token in that pass's batch
     */
    public int source(int pass, int token) {
      while (passes.size() <= pass) {
        passes.add(new IntList());
      }
      IntList tokens = passes.get(pass);
      tokens.add(token);
      if (passes.size() > PASS_LIMIT || tokens.size > OF_PASSES) {
        throw new InternalFaultException("too many passes, or too many rows of one");
      }
      return OF_PASSES * (1 + pass) + tokens.size - 1;
    }

    /** Adds a row and returns its index. */
    public int row(int source, int label, int kind, int referenceSource) {
      int at = rows * HeadOps.ROW_FIELDS;
      if (at == records.length) {
        records = Arrays.copyOf(records, 2 * at);
      }
      records[at] = source;
      records[at + 1] = label;
      records[at + 2] = kind;
      records[at + 3] = referenceSource;
      records[at + 4] = -1;
      parameters(rows, 1, 0, 0, 0);
      return rows++;
    }

    /** Sets a row's parameters, in the order of {@link HeadRows#parameters}. */
    public void parameters(int row, float temperature, float labelShift, float mix, float epsilon) {
      int at = row * PARAMETERS;
      if (at == parameters.length) {
        parameters = Arrays.copyOf(parameters, 2 * at);
      }
      parameters[at] = temperature;
      parameters[at + 1] = labelShift;
      parameters[at + 2] = mix;
      parameters[at + 3] = epsilon;
      plain = plain && temperature == 1 && labelShift == 0 && mix == 0 && epsilon == 0;
    }

    /** Sets the reference source of a row once it is known. */
    public void reference(int row, int referenceSource) {
      records[row * HeadOps.ROW_FIELDS + 3] = referenceSource;
    }

    /** Sets the second reference source of a row. */
    public void second(int row, int referenceSource) {
      records[row * HeadOps.ROW_FIELDS + 4] = referenceSource;
    }

    /** Everything added so far takes part in the backward pass, what follows does not. */
    public void endTrained() {
      trainedSources = sources;
      trainedRows = rows;
    }

    /** The rows that were added. */
    public HeadRows build(int trainedTokens) {
      if (trainedSources < 0) {
        endTrained();
      }
      HeadRows built =
          new HeadRows(
              Arrays.copyOf(sourceTokens, sources),
              Arrays.copyOf(records, rows * HeadOps.ROW_FIELDS),
              plain ? new float[0] : Arrays.copyOf(parameters, rows * PARAMETERS),
              trainedSources,
              trainedRows,
              trainedTokens,
              passes.stream().map(IntList::toArray).toList());
      for (int i = 0; i < built.records.length; i++) {
        int field = i % HeadOps.ROW_FIELDS;
        int source = built.records[i];
        if (field != LABEL && field != KIND && source >= OF_PASSES) {
          built.records[i] = built.firstSource(source / OF_PASSES - 1) + source % OF_PASSES;
        }
      }
      return built;
    }
  }

  private static final class IntList {
    private int[] values = new int[64];
    private int size;

    void add(int value) {
      if (size == values.length) {
        values = Arrays.copyOf(values, 2 * size);
      }
      values[size++] = value;
    }

    int[] toArray() {
      return Arrays.copyOf(values, size);
    }
  }
}
