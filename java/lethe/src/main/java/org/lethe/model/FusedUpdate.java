package org.lethe.model;

import org.lethe.InternalFaultException;
import org.lethe.kernels.AdamWSettings;
import org.lethe.kernels.PartOps;

/**
 * The update as part of the backward pass: when the gradients of the model's end, of a layer or of
 * the embedding are whole, they are used up and their place is free for the next ones.
 *
 * <p>A clip needs the norm of all gradients first: then a backward pass {@link Phase#MEASURE}s, and
 * a second one, of the same step, {@link Phase#UPDATE}s. Without a clip one pass does {@link
 * Phase#BOTH}; a part that is not finite stops all updates that come after it, but not those
 * before.
 */
public final class FusedUpdate {
  /** What the next backward pass does with gradients. */
  public enum Phase {
    /** Norm, clip coefficient and finite flag are taken; no parameter moves. */
    MEASURE,
    /** Parameters move, by what was measured. */
    UPDATE,
    /** Each part is looked at, and moves unless it or one before it is not finite. */
    BOTH
  }

  /**
   * How parameters move.
   *
   * @param maxNorm the global norm is clipped to it; 0: not, which {@link Phase#BOTH} asks for
   * @param seed of stochastic rounding
   */
  public record Settings(float maxNorm, AdamWSettings adamW, float learningRate, long seed) {}

  private final Trainable owner;
  private final UpdateGroups groups;
  private final GradientSlots slots;
  private final PartOps parts;
  private Phase phase;
  private Settings settings;

  FusedUpdate(Trainable owner, UpdateGroups groups, GradientSlots slots) {
    this.owner = owner;
    this.groups = groups;
    this.slots = slots;
    this.parts = new PartOps(owner.ops());
  }

  /** Says what the next backward pass does. */
  public void begin(Phase what, Settings how) {
    phase = what;
    settings = how;
  }

  long gradient(String name) {
    return slots.gradient(name);
  }

  void zeroGradients() {
    groups.groups().forEach(this::zero);
  }

  /** The gradients of the head and the final norm are whole, but for a tied embedding's. */
  void endDone() {
    finish(groups.end());
  }

  /** The gradients of a layer are whole. */
  void layerDone(int layer) {
    finish(groups.layer(layer));
  }

  /** The embedding's gradient is whole: the backward pass is through. */
  void embeddingDone() {
    finish(groups.embedding());
    phase = null;
  }

  private void finish(UpdateGroups.Group group) {
    if (phase == null) {
      throw new InternalFaultException("a backward pass of a fused update that was not begun");
    }
    if (phase != Phase.UPDATE) {
      measure(group);
    }
    if (phase != Phase.MEASURE) {
      owner.updateGroup(
          group,
          slots.matrices(group),
          slots.vectors(group),
          settings,
          group.equals(groups.embedding()));
    }
    zero(group);
  }

  private void measure(UpdateGroups.Group group) {
    float clip = phase == Phase.BOTH ? 0 : settings.maxNorm();
    long matrices = slots.matrices(group);
    long vectors = slots.vectors(group);
    boolean begin = group.equals(groups.end());
    parts.gradientNorm(group.matrices().n(), matrices, begin, clip, owner.state());
    parts.gradientNorm(group.vectors().n(), vectors, false, clip, owner.state());
  }

  private void zero(UpdateGroups.Group group) {
    owner.ops().zero(slots.matrices(group), group.matrices().n() * Float.BYTES);
    owner.ops().zero(slots.vectors(group), group.vectors().n() * Float.BYTES);
  }
}
