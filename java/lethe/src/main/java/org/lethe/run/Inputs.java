package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.config.DataConfig;
import org.lethe.config.RunConfig;

/** What a run reads. */
final class Inputs {
  private Inputs() {}

  /**
   * Refuses a run whose output directory holds one of its inputs: overwriting would delete it.
   *
   * @throws UserException naming the input
   */
  static void requireOutside(RunConfig config) {
    Path output = real(config.output());
    for (Path input : of(config)) {
      if (real(input).startsWith(output)) {
        throw new UserException(
            input
                + ": lies in the output directory "
                + config.output()
                + ", which the run would replace; choose another output");
      }
    }
  }

  private static List<Path> of(RunConfig config) {
    List<Path> inputs = new ArrayList<>();
    config.model().ifPresent(inputs::add);
    config.adapter().ifPresent(inputs::add);
    config.adapters().forEach(a -> inputs.add(a.path()));
    config.views().forEach(v -> inputs.add(v.path()));
    config.scratch().flatMap(s -> s.tokenizer()).ifPresent(inputs::add);
    config.evaluate().neverSaw().ifPresent(inputs::add);
    DataConfig data = config.data();
    data.refusals().ifPresent(inputs::add);
    data.anchors().ifPresent(inputs::add);
    List.of(
            data.train(),
            data.forget(),
            data.retain(),
            data.general(),
            data.holdout(),
            data.mismatch(),
            data.unseen())
        .forEach(inputs::addAll);
    return inputs;
  }

  /** The absolute path, with links resolved where there is something. */
  static Path real(Path path) {
    try {
      return Files.exists(path) ? path.toRealPath() : path.toAbsolutePath().normalize();
    } catch (IOException e) {
      throw new EnvironmentException(
          path + ": cannot be looked at (" + e + "); check its permissions", e);
    }
  }
}
