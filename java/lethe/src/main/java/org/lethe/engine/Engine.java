package org.lethe.engine;

import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.Function;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Ops;
import org.lethe.model.SpareRule;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One device, and the one thread on which all native work of it is done. Any thread may call an
 * engine and what it loads: calls wait in a queue, first come, first served, and a training puts
 * itself at the end of it after every step, so that others get in between its steps.
 *
 * <p>Engines share nothing. Two of them in one JVM give the bits that each would give alone.
 *
 * <p>Errors reach the caller as they were thrown: {@link UserException} for wrong input and for use
 * after {@link #close}, {@link org.lethe.EnvironmentException} where the machine lacks something,
 * {@link org.lethe.NativeException} from a kernel. A caller that is interrupted while it waits gets
 * a {@link CancellationException} and keeps its interrupt flag; work that had begun is finished,
 * its result is dropped, and what it opened is freed with the engine.
 */
public final class Engine implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Engine.class);

  private final ExecutorService executor;
  private final Deque<AutoCloseable> open = new ArrayDeque<>();
  private volatile Thread thread;
  private volatile boolean closing;
  private Future<?> closed;
  private Backend backend;
  private String description;

  private Engine(String device) {
    this.executor =
        Executors.newSingleThreadExecutor(
            work -> {
              Thread made = new Thread(work, "lethe-" + device);
              // A forgotten engine must not keep the JVM alive.
              made.setDaemon(true);
              thread = made;
              return made;
            });
  }

  /**
   * Opens the CPU.
   *
   * @param threads how many threads an op uses, at least 1; part of what makes results repeat to
   *     the bit
   */
  public static Engine cpu(int threads) {
    return open("cpu", threads);
  }

  /**
   * Opens a device.
   *
   * @param device as {@link Backend#open(String, int)} names them, such as {@code cpu}
   * @param threads how many threads an op uses on the host, at least 1
   * @throws org.lethe.EnvironmentException when there is no such device, or it cannot be used
   */
  public static Engine open(String device, int threads) {
    Engine engine = new Engine(device);
    try {
      engine.<Void>uninterruptibly(
          () -> {
            engine.backend = Backend.open(device, threads);
            engine.description = engine.backend.description();
            return null;
          });
    } catch (RuntimeException | Error e) {
      engine.executor.shutdown();
      throw e;
    }
    LOG.debug("opened {}", engine.description);
    return engine;
  }

  /** One line of JSON: backend, instruction set, threads, library versions. */
  public String description() {
    return description;
  }

  /** Bytes on the device that are allocated now. */
  public long allocatedBytes() {
    return call(Backend::allocatedBytes);
  }

  /**
   * What loading a model will take of this device's memory, in bytes, with room for the adapters of
   * the options where the device wants it.
   */
  public long predictedBytes(Path directory, LoadOptions options) {
    return call(
        own ->
            LanguageModel.predictedBytes(
                directory, options, SpareRule.of(new Ops(own, options.dtype()))));
  }

  /** Loads a model in fp32 with all of its context; see the other form. */
  public LanguageModel load(Path directory) {
    return load(directory, LoadOptions.DEFAULT);
  }

  /**
   * Loads a model: {@code config.json}, safetensors and the tokenizer's files in Hugging Face's
   * layout. It is closed with the engine at the latest.
   *
   * @throws UserException when a file is missing or wrong
   */
  public LanguageModel load(Path directory, LoadOptions options) {
    return call(
        own -> {
          LanguageModel model = LanguageModel.load(this, own, directory, options);
          open.push(model);
          return model;
        });
  }

  /**
   * Runs work on the engine's thread and waits for it; at once when called on that thread.
   *
   * @param work gets the engine's backend, of which nothing may be used elsewhere or later
   * @throws UserException when the engine was closed
   * @throws CancellationException when the waiting thread was interrupted
   */
  public <T> T call(Function<Backend, T> work) {
    if (isOwnThread()) {
      return work.apply(backend);
    }
    CompletableFuture<T> result = submit(work);
    try {
      return result.get();
    } catch (InterruptedException e) {
      result.cancel(false);
      Thread.currentThread().interrupt();
      CancellationException cancelled =
          new CancellationException("interrupted while waiting for the engine");
      cancelled.initCause(e);
      throw cancelled;
    } catch (ExecutionException e) {
      throw asItself(e);
    }
  }

  /**
   * Puts work at the end of the queue. Work that is cancelled before its turn is not begun.
   *
   * @return what it comes to; whatever is chained to it without an executor of its own may run on
   *     the engine's thread and hold it up
   * @throws UserException when the engine was closed
   */
  public <T> CompletableFuture<T> submit(Function<Backend, T> work) {
    CompletableFuture<T> result = new CompletableFuture<>();
    boolean taken =
        offer(
            () -> {
              if (!result.isDone()) {
                try {
                  result.complete(work.apply(backend));
                } catch (Throwable e) {
                  // Whatever it is, it belongs to the caller.
                  result.completeExceptionally(e);
                }
              }
            });
    if (!taken) {
      throw new UserException("this engine was closed; open a new one");
    }
    return result;
  }

  /** Puts work at the end of the queue; answers whether the engine still takes any. */
  synchronized boolean offer(Runnable work) {
    if (closing) {
      return false;
    }
    executor.execute(work);
    return true;
  }

  /** Runs what frees something: an interrupt must not leave it undone. Nothing when closed. */
  void release(Runnable work) {
    if (isOwnThread()) {
      work.run();
      return;
    }
    CompletableFuture<Void> result = new CompletableFuture<>();
    boolean taken =
        offer(
            () -> {
              try {
                work.run();
                result.complete(null);
              } catch (Throwable e) {
                result.completeExceptionally(e);
              }
            });
    if (taken) {
      await(result);
    }
  }

  /** Whether it no longer takes work. */
  boolean isClosing() {
    return closing;
  }

  void forget(LanguageModel model) {
    open.remove(model);
  }

  /**
   * Finishes what waits in the queue, asks trainings to stop after their step, frees everything and
   * ends the thread. A second call waits for the first.
   *
   * @throws UserException on the engine's own thread, that is from a listener
   */
  @Override
  public void close() {
    if (isOwnThread()) {
      throw new UserException(
          "an engine cannot be closed from its own thread, where listeners run; cancel the"
              + " training, and close the engine elsewhere");
    }
    Future<?> done;
    synchronized (this) {
      if (!closing) {
        closing = true;
        closed = executor.submit(this::closeAll);
        executor.shutdown();
      }
      done = closed;
    }
    await(done);
  }

  private void closeAll() {
    RuntimeException failure = null;
    while (!open.isEmpty()) {
      try {
        open.pop().close();
      } catch (RuntimeException e) {
        failure = e;
      } catch (Exception e) {
        failure = new InternalFaultException("a model could not be closed", e);
      }
    }
    backend.close();
    if (failure != null) {
      throw failure;
    }
    LOG.debug("closed {}", description);
  }

  private boolean isOwnThread() {
    return Thread.currentThread() == thread;
  }

  private <T> T uninterruptibly(Callable<T> work) {
    return await(executor.submit(work));
  }

  private static <T> T await(Future<T> future) {
    boolean interrupted = false;
    try {
      while (true) {
        try {
          return future.get();
        } catch (InterruptedException e) {
          interrupted = true;
        } catch (ExecutionException e) {
          throw asItself(e);
        }
      }
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /** What the work threw, which is unchecked, since work declares nothing. */
  private static RuntimeException asItself(ExecutionException e) {
    if (e.getCause() instanceof Error error) {
      throw error;
    }
    if (e.getCause() instanceof RuntimeException runtime) {
      return runtime;
    }
    return new InternalFaultException("work threw what it does not declare", e);
  }
}
