package org.lethe.run;

import java.nio.file.Path;
import java.util.Locale;
import org.lethe.Hashes;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.TrainingCheckpoints;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.method.Method;
import org.lethe.model.Model;

/** Where the checkpoints of a configured run lie, and what they say of the run. */
final class Checkpoints {
  private Checkpoints() {}

  /** Those of a run whose model has not begun to train: its fingerprint is taken now. */
  static TrainingCheckpoints of(
      RunConfig config, RunIdentity identity, Model model, Method method) {
    return new TrainingCheckpoints(
        store(config),
        new TrainingCheckpoints.Origin(
            Version.string(),
            identity.task().name().toLowerCase(Locale.ROOT),
            config.seed(),
            config.model().map(Path::toString).orElse(null),
            hash(config)),
        model,
        method);
  }

  /** The checkpoints of a configured run. */
  static CheckpointStore store(RunConfig config) {
    return new CheckpointStore(
        RunFolder.checkpoints(Inputs.real(config.output())), config.checkpoint().keep());
  }

  /** Hash of the whole configuration: a run goes on only as it was begun. */
  static String hash(RunConfig config) {
    return Hashes.sha256(Config.toYaml(config));
  }
}
