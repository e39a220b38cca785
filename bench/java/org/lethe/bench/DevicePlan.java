package org.lethe.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.lethe.InternalFaultException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.model.BaseStorage;
import org.lethe.run.Planning;
import org.lethe.run.Task;

/** What {@code lethe plan} says of the steps that are timed. */
final class DevicePlan {
  private DevicePlan() {}

  /** The bytes of a training's steps, context and libraries included. */
  static long bytes(String shape, String device, TimedSteps.Work work) {
    String[] losses = work.method().name().split("\\+", -1);
    List<String> settings =
        new ArrayList<>(
            List.of(
                "output=none",
                "device=" + device,
                "dtype=bf16",
                "method.forget=" + losses[0],
                "method.retain=" + losses[1],
                "train.batch_size=" + work.pairs(),
                "train.graphs=" + work.graphs().name().toLowerCase(Locale.ROOT),
                "lora.rank=8",
                "data.context_length=" + work.config().contextLength()));
    if (work.base() != BaseStorage.PLAIN) {
      settings.add("quantize_base=" + work.base().name().toLowerCase(Locale.ROOT));
    }
    if (work.budget() > 0) {
      settings.add("memory.budget=" + work.budget() / 1_000_000 + "MB");
    }
    RunConfig config = Config.of(RunConfig.class, settings);
    Long steps =
        Planning.plan(config, Optional.of(shape), Task.UNLEARN, work.length())
            .phases()
            .get("training");
    if (steps == null) {
      throw new InternalFaultException("a plan of " + shape + " has no training");
    }
    return steps;
  }

  /** Both figures, for the line that judges them. */
  static String words(long said, long used) {
    return String.format(
        Locale.ROOT,
        "lethe plan says %.2f GB, %.2f GB were taken: the difference's share",
        said / 1e9,
        used / 1e9);
  }
}
