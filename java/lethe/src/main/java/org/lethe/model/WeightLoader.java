package org.lethe.model;

import java.util.Arrays;
import java.util.Set;
import java.util.TreeSet;
import org.lethe.UserException;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * Fills a model's weights from a source that must have them all, in their shapes, and no others.
 */
final class WeightLoader {
  /** What loading takes of the device, and gives back. */
  static final int STAGING_BYTES = 4 << 20;

  private WeightLoader() {}

  /**
   * Fills them.
   *
   * @throws UserException naming a tensor that is missing, unexpected or of another shape
   */
  static void load(Ops ops, BaseWeights weights, ModelConfig config, WeightSource source) {
    Layout layout = Model.layout(config);
    requireNames(layout, config, source);
    try (Staging staging = new Staging(STAGING_BYTES);
        Buffer other = ops.backend().allocate(STAGING_BYTES)) {
      Nf4Loader quantized = new Nf4Loader(ops, weights, staging, other);
      quantized.writeMap();
      WeightTransfer plain = new WeightTransfer(ops, weights, staging);
      for (Parameter p : layout.parameters().values()) {
        requireShape(p, source);
        if (weights.isQuantized(p.name())) {
          quantized.load(source, p.name());
        } else {
          plain.load(source, p.name(), other);
        }
      }
    }
  }

  private static void requireNames(Layout layout, ModelConfig config, WeightSource source) {
    Set<String> missing = new TreeSet<>(layout.parameters().keySet());
    missing.removeAll(source.names());
    if (!missing.isEmpty()) {
      throw new UserException(
          source.place()
              + ": lacks "
              + missing.size()
              + " tensors that config.json asks for, '"
              + missing.iterator().next()
              + "' first; get config.json and weights that belong together");
    }
    Set<String> extra = new TreeSet<>(source.names());
    extra.removeAll(layout.parameters().keySet());
    // A tied checkpoint may repeat the embedding as lm_head; old Llama files carry the rotary
    // frequencies.
    extra.removeIf(n -> n.endsWith("rotary_emb.inv_freq"));
    if (config.tiedHead()) {
      extra.remove(ParameterNames.HEAD);
    }
    if (!extra.isEmpty()) {
      throw new UserException(
          source.place()
              + ": has "
              + extra.size()
              + " tensors that config.json does not ask for, '"
              + extra.iterator().next()
              + "' first; get config.json and weights that belong together");
    }
  }

  private static void requireShape(Parameter p, WeightSource source) {
    if (!Arrays.equals(source.shape(p.name()), p.shape())) {
      throw new UserException(
          source.place()
              + ": tensor '"
              + p.name()
              + "' has the shape "
              + Arrays.toString(source.shape(p.name()))
              + ", by config.json "
              + Arrays.toString(p.shape())
              + "; get config.json and weights that belong together");
    }
  }
}
