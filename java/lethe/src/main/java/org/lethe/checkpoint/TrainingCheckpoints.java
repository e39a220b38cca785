package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Path;
import java.util.List;
import org.lethe.UserException;
import org.lethe.method.Method;
import org.lethe.model.Lora;
import org.lethe.model.Model;
import org.lethe.model.Trainable;
import org.lethe.train.Trainer;
import org.lethe.train.TrainingLoop;

/**
 * The checkpoints of one training: what goes into one, and whether one belongs to it. Only the
 * backend's thread may call it.
 */
public final class TrainingCheckpoints {
  private final CheckpointStore store;
  private final Origin origin;
  private final Model model;
  private final String baseSha256;
  private final Method method;

  /**
   * What a training is, as its manifests tell it.
   *
   * @param lethe version
   * @param task {@code finetune} or {@code unlearn}
   * @param seed of data order, pairing and everything random
   * @param baseModel where the base was loaded from; null for one that began with random weights
   * @param configSha256 hash of everything that determines the training
   */
  public record Origin(
      String lethe, String task, long seed, String baseModel, String configSha256) {}

  /** Those of a model that has not begun to train: its fingerprint is taken now. */
  public TrainingCheckpoints(CheckpointStore store, Origin origin, Model model, Method method) {
    this.store = store;
    this.origin = origin;
    this.model = model;
    this.baseSha256 = model.fingerprint();
    this.method = method;
  }

  /**
   * Writes one; when the call returns it is on the disk.
   *
   * @param metrics the part of {@code metrics.jsonl} that belongs to the steps done
   * @return its directory
   * @throws org.lethe.EnvironmentException if there is no room or writing fails
   */
  public Path write(Trainer trainer, TrainingLoop loop, CheckpointManifest.Metrics metrics) {
    CheckpointEvent event = new CheckpointEvent();
    event.begin();
    Trainable trainable = model.trainable();
    long bytes = TrainingState.bytes(trainable);
    Path written =
        store.write(
            manifest(trainer, loop, metrics),
            bytes,
            channel -> TrainingState.write(trainable, channel));
    event.end(trainer.done(), bytes);
    return written;
  }

  private CheckpointManifest manifest(
      Trainer trainer, TrainingLoop loop, CheckpointManifest.Metrics metrics) {
    int perEpoch = trainer.stepsPerEpoch();
    return new CheckpointManifest(
        CheckpointManifest.FORMAT,
        CheckpointManifest.VERSION,
        origin.lethe(),
        origin.task(),
        model.lora() == null ? "weights" : "adapter",
        trainer.done(),
        trainer.skipped(),
        origin.seed(),
        new CheckpointManifest.Cursor(
            trainer.done() / perEpoch, trainer.done() % perEpoch, perEpoch),
        new CheckpointManifest.MethodState(method.name(), trainer.methodState()),
        loop.streaks(),
        model.ops().backend().description(),
        model.ops().dtype().name(),
        lora(),
        origin.baseModel(),
        baseSha256,
        origin.configSha256(),
        metrics,
        null,
        List.of());
  }

  private ObjectNode lora() {
    if (model.lora() == null) {
      return null;
    }
    String base = origin.baseModel() == null ? "" : origin.baseModel();
    PeftConfig config = new PeftConfig(base, model.lora().config());
    return PeftConfigFile.json(config.named(Lora.modules(model.config())));
  }

  /**
   * Puts a checkpoint back.
   *
   * @throws UserException if it was made by another run, from another base, or with kernels that
   *     would not give the same bits
   */
  public void restore(CheckpointStore.Found found, Trainer trainer, TrainingLoop loop) {
    CheckpointManifest m = found.manifest();
    if (!m.baseSha256().equals(baseSha256)) {
      throw new UserException(
          found.path()
              + ": was made from other weights than "
              + (origin.baseModel() == null ? "this run's" : origin.baseModel())
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
    trainer.resumeAt(m.step(), m.skipped(), m.method().state());
    loop.restore(m.rules());
  }
}
