package org.lethe.train;

import java.util.function.IntUnaryOperator;
import org.lethe.kernels.Dtype;
import org.lethe.model.ActivationPolicy;
import org.lethe.model.AdapterWidths;
import org.lethe.model.Decoder;
import org.lethe.model.Head;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;

/**
 * What a {@link Step} takes of a device, before it does.
 *
 * @param headRows the most head rows of a piece of so many tokens
 * @param workspace of a head with so many rows
 */
public record StepMemory(
    ModelConfig model,
    Dtype storage,
    AdapterWidths adapters,
    IntUnaryOperator headRows,
    Head.Workspace workspace) {

  static StepMemory of(Model model, IntUnaryOperator headRows) {
    return new StepMemory(
        model.config(),
        model.ops().dtype(),
        model.adapterWidths(),
        headRows,
        Head.workspace(model.ops()));
  }

  /** Bytes of the activations of a piece of so many tokens. */
  public long activations(int tokens, ActivationPolicy policy) {
    return Decoder.bytes(model, storage, adapters, tokens, policy);
  }

  /** Bytes of the head of a piece of so many tokens. */
  public long head(int tokens) {
    return Head.bytes(model, storage, workspace, tokens, headRows.applyAsInt(tokens));
  }

  /** Both. */
  public long bytes(int tokens, ActivationPolicy policy) {
    return activations(tokens, policy) + head(tokens);
  }
}
