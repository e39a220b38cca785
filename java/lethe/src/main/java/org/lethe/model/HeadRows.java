package org.lethe.model;

import java.util.Arrays;
import org.lethe.kernels.Ops;

/**
 * The rows a batch sends to the head. Rows and sources that take part in the backward pass come
 * first.
 *
 * @param sourceTokens token index of each source, [S]; no token twice
 * @param records {source, label or -1, kind, reference source or -1} of each row, [N * 4]
 * @param parameters {temperature, label shift, mix, epsilon} of each row, [N * 4]; empty where
 *     every row has the default ones, 1, 0, 0, 0
 * @param trainedSources sources of trained sequences, at the front
 * @param trainedRows rows on those, at the front
 * @param trainedTokens tokens of the trained sequences
 */
public record HeadRows(
    int[] sourceTokens,
    int[] records,
    float[] parameters,
    int trainedSources,
    int trainedRows,
    int trainedTokens) {
  /** Numbers in {@link #parameters} per row. */
  public static final int PARAMETERS = 4;

  /** Number of rows. */
  public int rows() {
    return records.length / Ops.ROW_FIELDS;
  }

  /** Number of different positions that the rows look at. */
  public int sources() {
    return sourceTokens.length;
  }

  /** Collects rows; sources are given as tokens and used once each. */
  public static final class Builder {
    private int[] sourceTokens = new int[64];
    private int[] records = new int[256];
    private float[] parameters = new float[256];
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

    /** Adds a row and returns its index. */
    public int row(int source, int label, int kind, int referenceSource) {
      int at = rows * Ops.ROW_FIELDS;
      if (at == records.length) {
        records = Arrays.copyOf(records, 2 * at);
      }
      records[at] = source;
      records[at + 1] = label;
      records[at + 2] = kind;
      records[at + 3] = referenceSource;
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
      records[row * Ops.ROW_FIELDS + 3] = referenceSource;
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
      return new HeadRows(
          Arrays.copyOf(sourceTokens, sources),
          Arrays.copyOf(records, rows * Ops.ROW_FIELDS),
          plain ? new float[0] : Arrays.copyOf(parameters, rows * PARAMETERS),
          trainedSources,
          trainedRows,
          trainedTokens);
    }
  }
}
