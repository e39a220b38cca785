package org.lethe.run;

import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.lethe.checkpoint.CheckpointManifest;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.TrainingState;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.method.Method;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.Trainable;
import org.lethe.train.Trainer;
import org.lethe.train.TrainingLoop;

/** A run's checkpoints: what goes into one, and whether one belongs to this run. */
final class Checkpoints {
  private final RunConfig config;
  private final RunIdentity identity;
  private final Model model;
  private final String baseSha256;
  private final Method method;
  private final CheckpointStore store;

  /** Those of a run whose model has not begun to train: its fingerprint is taken now. */
  static Checkpoints of(RunConfig config, RunIdentity identity, Model model, Method method) {
    return new Checkpoints(config, identity, model, model.fingerprint(), method);
  }

  private Checkpoints(
      RunConfig config, RunIdentity identity, Model model, String baseSha256, Method method) {
    this.config = config;
    this.identity = identity;
    this.model = model;
    this.baseSha256 = baseSha256;
    this.method = method;
    this.store = store(config);
  }

  /** The checkpoints of a configured run. */
  static CheckpointStore store(RunConfig config) {
    return new CheckpointStore(
        RunFolder.checkpoints(Inputs.real(config.output())), config.checkpoint().keep());
  }

  /** Hash of what determines a run: all of its configuration but where its checkpoints matter. */
  static String hash(RunConfig config) {
    return Hashes.sha256(Config.toYaml(config));
  }

  /** Writes one. */
  Path write(Trainer trainer, TrainingLoop loop, CheckpointManifest.Metrics metrics) {
    int perEpoch = trainer.stepsPerEpoch();
    LoraConfig lora = model.lora() == null ? null : model.lora().config();
    CheckpointManifest manifest =
        new CheckpointManifest(
            CheckpointManifest.FORMAT,
            CheckpointManifest.VERSION,
            Version.string(),
            identity.task().name().toLowerCase(Locale.ROOT),
            lora == null ? "weights" : "adapter",
            trainer.done(),
            trainer.skipped(),
            config.seed(),
            new CheckpointManifest.Cursor(
                trainer.done() / perEpoch, trainer.done() % perEpoch, perEpoch),
            new CheckpointManifest.MethodState(method.name(), Map.of()),
            loop.streaks(),
            model.ops().backend().description(),
            model.ops().dtype().name(),
            lora == null
                ? null
                : new CheckpointManifest.LoraShape(lora.rank(), lora.alpha(), lora.targets()),
            config.model().map(Path::toString).orElse(null),
            baseSha256,
            hash(config),
            metrics,
            null,
            List.of());
    Trainable trainable = model.trainable();
    return store.write(
        manifest,
        TrainingState.bytes(trainable),
        channel -> TrainingState.write(trainable, channel));
  }

  /**
   * Puts a checkpoint back.
   *
   * @throws UserException if it was made by another run, from another base, or with kernels that
   *     would not give the same bits
   */
  void restore(CheckpointStore.Found found, Trainer trainer, TrainingLoop loop) {
    CheckpointManifest m = found.manifest();
    if (!m.baseSha256().equals(baseSha256)) {
      throw new UserException(
          found.path()
              + ": was made from other weights than "
              + config.model().map(Path::toString).orElse("this run's")
              + " holds now; put the model back that the run began with"
              + (m.baseModel() == null ? "" : " (" + m.baseModel() + ")"));
    }
    String kernels = model.ops().backend().description();
    if (!m.kernels().equals(kernels) || !m.dtype().equals(model.ops().dtype().name())) {
      throw new UserException(
          found.path()
              + ": was made by "
              + m.kernels()
              + ", this is "
              + kernels
              + ": the run would not go on with the same bits; resume on such a machine with the"
              + " same threads, or begin again");
    }
    TrainingState.read(found.state(), model.trainable());
    if (model.trainsWeights()) {
      model.refreshHeadMean();
    }
    store.goOnFrom(found);
    trainer.resumeAt(m.step(), m.skipped());
    loop.restore(m.rules());
  }
}
