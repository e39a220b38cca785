package org.lethe.model;

import org.lethe.kernels.Dtype;

/**
 * What passes without a gradient take of a device, before they do, and how many tokens or prompts
 * at a time there is room for. What is said of a sequence, or after a prompt, does not depend on
 * that.
 *
 * @param adapters the widest that may act
 * @param workspace of the device's head
 */
public record InferenceMemory(
    ModelConfig model, Dtype storage, AdapterWidths adapters, Head.Workspace workspace) {
  /** Tokens scored at a time where there is room: more would not be faster. */
  private static final int MOST_TOKENS = 2048;

  /** Of a model as it stands. */
  public static InferenceMemory of(Model model) {
    return new InferenceMemory(
        model.config(), model.ops().dtype(), model.adapterWidths(), Head.workspace(model.ops()));
  }

  /** Bytes while so many tokens are scored at a time. */
  public long scoring(int tokens) {
    return Decoder.bytes(model, storage, adapters, tokens, null)
        + Head.bytes(model, storage, workspace, tokens, tokens);
  }

  /**
   * Tokens scored at a time.
   *
   * @param longest tokens of the longest sequence: never fewer
   * @param total of all sequences
   * @param room bytes that may be taken
   */
  public int tokens(int longest, int total, long room) {
    int tokens = Math.max(longest, Math.min(total, MOST_TOKENS));
    while (tokens > longest && scoring(tokens) > room) {
      tokens = Math.max(longest, tokens * 3 / 4);
    }
    return tokens;
  }

  /**
   * Bytes while prompts are continued.
   *
   * @param slots prompts at a time
   * @param length of a prompt with its continuation
   * @param views whose logits make the next token together
   */
  public long generation(int slots, int length, int views) {
    return Decoder.bytes(model, storage, adapters, slots * length, null)
        + Head.bytes(model, storage, workspace, views * slots, views * slots)
        + views * KvCache.bytes(model, storage, slots, length);
  }

  /**
   * Prompts continued at a time.
   *
   * @param wanted at least 1
   * @param room bytes that may be taken; one prompt is continued whatever it takes
   */
  public int slots(int wanted, int length, int views, long room) {
    int slots = wanted;
    while (slots > 1 && generation(slots, length, views) > room) {
      slots = Math.max(1, slots * 3 / 4);
    }
    return slots;
  }
}
