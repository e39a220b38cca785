package org.lethe.engine;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.function.Consumer;
import java.util.function.Supplier;
import org.lethe.EnvironmentException;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.lethe.checkpoint.CheckpointManifest;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.TrainingCheckpoints;
import org.lethe.data.Example;
import org.lethe.evaluate.Evaluation;
import org.lethe.train.StepReport;
import org.lethe.train.StopRequest;
import org.lethe.train.Trainer;
import org.lethe.train.TrainingLoop;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The training of a model, made by {@link TrainingBuilder#build}. Each step, with the evaluation
 * and the checkpoint that may follow it, is one unit of the engine's work: between two of them
 * other threads are served. Any thread may call it.
 *
 * <p>After {@link #close} its memory is free and the model keeps what it learned.
 */
public final class Training implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Training.class);

  private final LanguageModel owner;
  private final List<TrainingListener> listeners;
  private final Map<String, List<Example>> judged;
  private final int maxNewTokens;
  private final StopRequest stop = new StopRequest();
  private final CompletableFuture<TrainingLoop.Outcome> result = new CompletableFuture<>();
  // The rest belongs to the engine's thread.
  private Trainer trainer;
  private TrainingLoop loop;
  private Optional<TrainingCheckpoints> checkpoints = Optional.empty();
  private StepReport last;
  private boolean runs;
  private boolean inStep;
  private boolean closed;

  Training(
      LanguageModel owner,
      List<TrainingListener> listeners,
      Map<String, List<Example>> judged,
      int maxNewTokens) {
    this.owner = owner;
    this.listeners = List.copyOf(listeners);
    this.judged = judged;
    this.maxNewTokens = maxNewTokens;
  }

  /** Takes over a trainer, and goes on where the checkpoint was made, when there is one. */
  void start(
      Trainer taken,
      TrainingLoop.Plan plan,
      Optional<TrainingCheckpoints> store,
      Optional<CheckpointStore.Found> found) {
    trainer = taken;
    loop = new TrainingLoop(taken, plan, new Hooks());
    checkpoints = store;
    try {
      found.ifPresent(
          f -> {
            store.orElseThrow().restore(f, taken, loop);
            f.refused().forEach(why -> note("a newer checkpoint is not used: " + why));
          });
    } catch (RuntimeException e) {
      taken.close();
      throw e;
    }
    LOG.debug("training of {} takes {} bytes", owner.directory(), taken.bytes());
  }

  /** Bytes on the device that activations and head of the steps take, which is known beforehand. */
  public long plannedBytes() {
    return onOpen(() -> trainer.bytes());
  }

  /** Steps done, from the first of the whole training. */
  public int done() {
    return onOpen(() -> trainer.done());
  }

  /** Steps in which every forget row is visited once; for fine-tuning every row. */
  public int stepsPerEpoch() {
    return onOpen(() -> trainer.stepsPerEpoch());
  }

  /**
   * Does one step with all that follows it, and waits for it.
   *
   * @return what the step did; empty when the training is over
   * @throws UserException while {@link #run} or {@link #runAsync} does the steps
   */
  public Optional<StepReport> next() {
    return onOpen(
        () -> {
          if (runs) {
            throw new UserException(
                "this training runs by itself; next() is for one that does not");
          }
          last = null;
          advance();
          return Optional.ofNullable(last);
        });
  }

  /**
   * Runs to the end and waits for it. An interrupt cancels the training, which stops after its
   * step.
   *
   * @throws CancellationException when the waiting thread was interrupted; its flag stays set
   */
  public TrainingLoop.Outcome run() {
    CompletableFuture<TrainingLoop.Outcome> running = runAsync();
    try {
      return running.get();
    } catch (InterruptedException e) {
      stop.request("an interrupt");
      Thread.currentThread().interrupt();
      CancellationException cancelled =
          new CancellationException("interrupted while waiting for a training, which stops");
      cancelled.initCause(e);
      throw cancelled;
    } catch (ExecutionException e) {
      if (e.getCause() instanceof Error error) {
        throw error;
      }
      throw (RuntimeException) e.getCause();
    }
  }

  /**
   * Runs to the end beside everything else.
   *
   * @return how it ended; cancelling it cancels the training
   * @throws UserException when it runs already
   */
  public CompletableFuture<TrainingLoop.Outcome> runAsync() {
    // Whoever cancels or completes the copy does not touch the training's own result.
    CompletableFuture<TrainingLoop.Outcome> theirs = result.copy();
    CompletableFuture<TrainingLoop.Outcome> unused =
        theirs.whenComplete(
            (outcome, failure) -> {
              if (theirs.isCancelled()) {
                cancel();
              }
            });
    return onOpen(
        () -> {
          if (runs) {
            throw new UserException("this training runs already");
          }
          runs = true;
          queue();
          return theirs;
        });
  }

  /**
   * Asks it to stop after the step it is in, with a checkpoint where it writes any. Does not wait;
   * nothing when it is over.
   */
  public void cancel() {
    stop.request("cancel()");
  }

  /**
   * Frees its memory; one that runs is stopped after its step, with a checkpoint where it writes
   * any.
   *
   * @throws UserException from one of its listeners
   */
  @Override
  public void close() {
    owner.engine().release(() -> closeHere("it was closed"));
  }

  void closeHere(String why) {
    if (closed) {
      return;
    }
    if (inStep) {
      throw new UserException(
          "a listener cannot close what calls it; cancel() stops the training after this step");
    }
    try {
      if (runs && !result.isDone()) {
        stop.request(why);
        unit();
      }
    } finally {
      closed = true;
      trainer.close();
      owner.end(this);
    }
  }

  /** One step of one that runs by itself; the next one goes to the end of the queue. */
  private void queue() {
    if (!owner.engine().offer(this::unit)) {
      // The engine waits for this thread, or nobody will come: what is left is done here.
      unit();
    }
  }

  private void unit() {
    if (result.isDone() || closed) {
      return;
    }
    if (owner.engine().isClosing()) {
      stop.request("its engine was closed");
    }
    boolean more;
    try {
      more = advance();
    } catch (Throwable e) {
      // Whatever it is, it belongs to whoever waits.
      result.completeExceptionally(e);
      return;
    }
    if (more) {
      queue();
    } else {
      result.complete(loop.outcome().orElseThrow());
    }
  }

  private boolean advance() {
    if (inStep) {
      throw new UserException("a listener cannot take the next step of what calls it");
    }
    inStep = true;
    try {
      return loop.advance();
    } finally {
      inStep = false;
    }
  }

  private <T> T onOpen(Supplier<T> work) {
    return owner.on(
        own -> {
          if (closed) {
            throw new UserException("this training was closed; build another one");
          }
          return work.get();
        });
  }

  private void tell(Consumer<TrainingListener> what) {
    listeners.forEach(what);
  }

  private void note(String message) {
    LOG.warn("{}", message);
    tell(l -> l.note(message));
  }

  private final class Hooks implements TrainingLoop.Hooks {
    @Override
    public void step(StepReport report) {
      last = report;
      LOG.trace("{}", report);
      tell(l -> l.step(report));
    }

    @Override
    public Map<String, Double> evaluate(int done) {
      Evaluation evaluation = owner.evaluate(judged, maxNewTokens);
      tell(l -> l.evaluated(done, evaluation));
      return new LinkedHashMap<>(evaluation.byName());
    }

    @Override
    public void checkpoint(int done) {
      if (checkpoints.isEmpty()) {
        return;
      }
      try {
        // The steps' reports are the listener's; no metrics file belongs to this checkpoint.
        Path written =
            checkpoints
                .get()
                .write(trainer, loop, new CheckpointManifest.Metrics(0, Hashes.sha256("")));
        LOG.info("checkpoint {}", written);
        tell(l -> l.checkpoint(done, written));
      } catch (EnvironmentException e) {
        // The training is worth more than one checkpoint of it; those before are whole. One that
        // was asked to stop has nothing else to save, and must not say it did.
        if (stop.reason().isPresent()) {
          throw e;
        }
        note("no checkpoint after step " + done + ": " + e.getMessage());
      }
    }

    @Override
    public Optional<String> stopRequested() {
      return stop.reason();
    }
  }
}
