package org.lethe.run;

import java.util.List;
import java.util.Map;
import java.util.OptionalLong;

/**
 * What a training will take of its device, before anything is loaded.
 *
 * @param model its name or directory
 * @param training what trains on what, in words
 * @param device cpu, cuda or cuda:N
 * @param parts bytes by part, in the order they are taken; not all are taken at one time
 * @param phases bytes taken at one time, by what happens then
 * @param piece tokens of the largest piece that a step is cut into
 * @param limit the train.tokens_per_micro_batch that cuts it so
 * @param recomputed layers whose activations are computed again
 * @param offloaded layers whose activations are kept on the host
 * @param layers of the model
 * @param available bytes that may be taken; empty where neither a budget nor the device says
 * @param bound what says so
 * @param remedies settings with which it would fit, when it does not
 */
public record MemoryForecast(
    String model,
    String training,
    String device,
    Map<String, Long> parts,
    Map<String, Long> phases,
    int piece,
    int limit,
    int recomputed,
    int offloaded,
    int layers,
    OptionalLong available,
    String bound,
    List<String> remedies) {

  /** The most bytes taken at one time. */
  public long peak() {
    return phases.values().stream().mapToLong(Long::longValue).max().orElse(0);
  }

  /** Whether that is available; true where nobody knows what is. */
  public boolean fits() {
    return available.isEmpty() || peak() <= available.getAsLong();
  }
}
