package org.lethe.checkpoint;

/**
 * What is left of an adapter's delta D when round(W + D) is stored in place of W, over all adapted
 * weights together.
 *
 * @param fraction ‖round(W + D) − round(W)‖ / ‖D‖: 1 when nothing is lost; below, where the type is
 *     too coarse for steps so small; above, where weights are converted to a coarser type, too, and
 *     those next to a border cross it whole; NaN when D is 0
 * @param along ⟨round(W + D) − round(W), D⟩ / ‖D‖²: the part that still points where D does;
 *     rounding noise makes the fraction larger, not this
 * @param unchanged share of the weights with a delta that are stored as they were
 */
public record Survival(double fraction, double along, double unchanged) {}
