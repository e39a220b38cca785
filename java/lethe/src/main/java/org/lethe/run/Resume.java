package org.lethe.run;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.train.StopRequest;

/** Goes on with a run that was stopped or died, to the bit as if it never had. */
public final class Resume {
  private Resume() {}

  /** What came of it. */
  public enum Result {
    /** The run went on to its end. */
    FINISHED,
    /** It had come to its end before. */
    WAS_FINISHED
  }

  /**
   * Goes on with the run of a directory.
   *
   * @param directory output of an earlier {@code finetune}, {@code unlearn}, {@code run} or {@code
   *     sweep}
   * @throws org.lethe.StoppedException when it was asked to stop again
   */
  public static Result run(Path directory, RunListener listener, StopRequest stop) {
    RunIdentity identity = RunIdentity.read(directory);
    RunConfig config = config(directory);
    if (identity.task() == RunIdentity.Task.PHASES) {
      if (Phases.finished(config)) {
        return Result.WAS_FINISHED;
      }
      Phases.resume(config, listener, stop);
      return Result.FINISHED;
    }
    if (identity.task() == RunIdentity.Task.SWEEP) {
      return Sweep.resume(config, listener, stop);
    }
    if (Files.isRegularFile(directory.resolve("report.md"))) {
      return Result.WAS_FINISHED;
    }
    RunLock lock = RunLock.take(Inputs.real(config.output()));
    try {
      switch (identity.task()) {
        case FINETUNE -> FineTune.resume(config, listener, stop, lock);
        case UNLEARN -> Unlearn.resume(config, listener, stop, lock);
        default ->
            throw new UserException(
                directory + ": a run of " + identity.task() + " is resumed by lethe run");
      }
    } finally {
      lock.close();
    }
    return Result.FINISHED;
  }

  /** The configuration a run was begun with; it must still be at its place. */
  static RunConfig config(Path directory) {
    RunConfig config = Config.load(RunConfig.class, directory.resolve("config.yaml"), List.of());
    if (!Inputs.real(config.output()).equals(Inputs.real(directory))) {
      throw new UserException(
          directory
              + ": the run was begun in "
              + config.output()
              + "; move it back there, and resume from the working directory it was begun in");
    }
    return config;
  }

  /** Whether a directory's run has come to its end. */
  static Optional<Boolean> finished(Path directory) {
    return RunIdentity.isThere(directory)
        ? Optional.of(Files.isRegularFile(directory.resolve("report.md")))
        : Optional.empty();
  }
}
