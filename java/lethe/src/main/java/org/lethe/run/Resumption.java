package org.lethe.run;

import java.util.Optional;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.lethe.checkpoint.CheckpointManifest;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.config.RunConfig;

/**
 * Where an interrupted run goes on.
 *
 * @param checkpoint empty for a run that was interrupted before its first one: it begins again
 */
record Resumption(RunConfig config, RunLock lock, Optional<CheckpointStore.Found> checkpoint) {

  /** Looks for the newest checkpoint that verifies; says why newer ones do not. */
  static Optional<Resumption> of(RunConfig config, Optional<RunLock> lock, RunListener listener) {
    if (lock.isEmpty()) {
      return Optional.empty();
    }
    Optional<CheckpointStore.Found> found = Checkpoints.store(config).newest();
    found.ifPresent(
        f -> {
          f.refused().forEach(why -> listener.note("a newer checkpoint is not used: " + why));
          if (!f.manifest().configSha256().equals(Checkpoints.hash(config))) {
            throw new UserException(
                config.output()
                    + "/config.yaml: is not the configuration that "
                    + f.path().getFileName()
                    + " was made with, so the run would not go on as it began; put it back, or"
                    + " begin a new run");
          }
        });
    listener.note(
        found
            .map(f -> "goes on after step " + f.manifest().step())
            .orElse("there is no checkpoint; the run begins again"));
    return Optional.of(new Resumption(config, lock.get(), found));
  }

  RunFolder reopen() {
    int step = checkpoint.map(f -> f.manifest().step()).orElse(0);
    CheckpointManifest.Metrics metrics =
        checkpoint
            .map(f -> f.manifest().metrics())
            .orElseGet(() -> new CheckpointManifest.Metrics(0, Hashes.sha256("")));
    return RunFolder.reopen(config, lock, step, metrics);
  }
}
