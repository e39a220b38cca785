package org.lethe.train;

import java.util.Optional;
import java.util.function.IntFunction;
import java.util.function.IntToLongFunction;
import org.lethe.model.ActivationPolicy;

/**
 * How a step is cut, and which layers' activations are kept, to fit into memory.
 *
 * @param limit what {@link TrainSettings#tokensPerMicroBatch} is to be
 * @param piece tokens of the largest piece under that limit
 * @param bytes of activations and head
 */
public record StepFit(int limit, int piece, ActivationPolicy policy, long bytes) {
  // What a step costs, in forward passes of its tokens: one forward and one backward pass of frozen
  // weights, which are as many products. A layer that is computed again costs all of its forward
  // pass but the last projection, three of some thirteen d² products in a Llama.
  private static final double PASSES = 2;
  private static final double RECOMPUTED = 0.78;
  // What of a layer's copies out and in is assumed not to hide behind the products of others.
  private static final double OFFLOADED = 0.3;

  /**
   * The cheapest way to cut a step that fits. Each piece costs as much as {@code pieceTokens}
   * tokens beside its own: weights are read, and on a device launched, once a piece.
   *
   * @param room bytes for activations and head
   * @param most the largest limit that is allowed
   * @param cuts how the steps can be cut
   * @param besides bytes that a piece of so many tokens takes beside activations and head
   * @return none where even the smallest pieces need more
   */
  public static Optional<StepFit> cheapest(
      StepMemory memory,
      MemorySettings.Activations activations,
      long room,
      int most,
      StepCuts cuts,
      IntToLongFunction besides,
      int pieceTokens) {
    StepFit best = null;
    double least = Double.POSITIVE_INFINITY;
    int smallest = cuts.largest(1);
    for (int limit = cuts.tightest(most); ; limit = cuts.tightest(smaller(limit))) {
      int piece = cuts.largest(limit);
      Optional<StepFit> fit =
          fit(memory, activations, room - besides.applyAsLong(piece), limit, piece);
      if (fit.isPresent()) {
        double cost = cost(fit.get(), memory.model().layers(), pieceTokens);
        if (cost < least) {
          best = fit.get();
          least = cost;
        }
      }
      if (piece <= smallest || limit == 1) {
        return Optional.ofNullable(best);
      }
    }
  }

  // The limit to try next: what lies between would be at most a ninth smaller. Of equal pieces, up
  // to nine, no number is passed over.
  private static int smaller(int limit) {
    return Math.max(1, (int) (limit * 8L / 9));
  }

  /** What the smallest pieces need, with everything given up that may be. */
  static long leastBytes(StepMemory memory, MemorySettings.Activations activations, StepCuts cuts) {
    return memory.bytes(cuts.largest(1), activations.least(memory.model().layers()));
  }

  private static Optional<StepFit> fit(
      StepMemory memory, MemorySettings.Activations activations, long room, int limit, int piece) {
    int layers = memory.model().layers();
    int first = activations == MemorySettings.Activations.RECOMPUTE ? layers : 0;
    int last = activations == MemorySettings.Activations.KEEP ? 0 : layers;
    long head = memory.head(piece);
    boolean offloads = activations == MemorySettings.Activations.OFFLOAD;
    IntFunction<ActivationPolicy> policies =
        offloads ? ActivationPolicy::offload : ActivationPolicy::recompute;
    IntToLongFunction bytes = n -> head + memory.activations(piece, policies.apply(n));
    // A layer more never takes more, and counting what all of them take looks at each.
    while (first < last) {
      int middle = first + (last - first) / 2;
      if (bytes.applyAsLong(middle) <= room) {
        last = middle;
      } else {
        first = middle + 1;
      }
    }
    long least = bytes.applyAsLong(last);
    return least <= room
        ? Optional.of(new StepFit(limit, piece, policies.apply(last), least))
        : Optional.empty();
  }

  private static double cost(StepFit fit, int layers, int pieceTokens) {
    double again = RECOMPUTED * Math.max(0, fit.policy().recomputed() - 1);
    double moved = OFFLOADED * Math.max(0, fit.policy().offloaded() - 2);
    return (1 + (double) pieceTokens / fit.piece()) * (PASSES + (again + moved) / layers);
  }
}
