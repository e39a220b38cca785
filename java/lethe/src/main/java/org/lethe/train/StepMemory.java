package org.lethe.train;

import java.util.function.IntUnaryOperator;
import org.lethe.kernels.Dtype;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.AdapterWidths;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.ShapeBucket;

/**
 * What a {@link Step} takes of a device, before it does.
 *
 * @param headRows the most head rows of a piece of so many tokens
 * @param workspace of a head with so many rows
 * @param filled whether pieces are filled up to shapes of graphs
 */
public record StepMemory(
    ModelConfig model,
    Dtype storage,
    AdapterWidths adapters,
    IntUnaryOperator headRows,
    Head.Workspace workspace,
    boolean filled) {

  static StepMemory of(Model model, TrainSettings settings, IntUnaryOperator headRows) {
    return new StepMemory(
        model.config(),
        model.ops().dtype(),
        model.adapterWidths(),
        headRows,
        Head.workspace(model.ops()),
        StepGraphs.used(model, settings));
  }

  /** Tokens that memory is taken for when the largest piece has so many. */
  int tokens(int piece) {
    return filled ? ShapeBucket.tokens(piece) : piece;
  }

  /** Head rows that memory is taken for. */
  int rows(int piece) {
    int rows = headRows.applyAsInt(piece);
    return filled ? Math.max(ShapeBucket.rows(rows), ShapeBucket.tokens(piece)) : rows;
  }

  /** Bytes of the activations of a piece of so many tokens. */
  public long activations(int piece, ActivationPolicy policy) {
    return Decoder.bytes(model, storage, adapters, tokens(piece), policy);
  }

  /** Bytes of the head of a piece of so many tokens. */
  public long head(int piece) {
    return Head.bytes(model, storage, workspace, tokens(piece), rows(piece));
  }

  /** Both. */
  public long bytes(int piece, ActivationPolicy policy) {
    return activations(piece, policy) + head(piece);
  }
}
