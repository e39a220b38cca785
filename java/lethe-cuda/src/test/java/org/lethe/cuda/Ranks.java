package org.lethe.cuda;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Ranks of one process, a thread each. */
final class Ranks {
  private Ranks() {}

  /** What a rank does. */
  @FunctionalInterface
  interface Rank<T> {
    T run(int rank) throws Exception;
  }

  /** The results of all ranks, by rank. */
  static <T> List<T> together(int size, Rank<T> rank) throws Exception {
    ExecutorService threads = Executors.newFixedThreadPool(size);
    try {
      List<Callable<T>> calls = new ArrayList<>();
      for (int r = 0; r < size; r++) {
        int own = r;
        calls.add(() -> rank.run(own));
      }
      List<T> results = new ArrayList<>();
      for (Future<T> result : threads.invokeAll(calls)) {
        results.add(result.get());
      }
      return results;
    } finally {
      threads.shutdown();
    }
  }
}
