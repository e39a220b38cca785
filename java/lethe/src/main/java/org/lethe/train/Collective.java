package org.lethe.train;

import java.nio.FloatBuffer;

/**
 * Sums over the processes that share a step's sequences. A rank that does not answer is an {@link
 * org.lethe.EnvironmentException} that names what was waited for and for how long, never a wait
 * without an end.
 *
 * <p>Sums are made in rank order, ((v0 + v1) + v2) + ..., so that every rank has the same bits, and
 * the bits of one process that computes the same shards one after the other. Only the backend's
 * thread may call it.
 */
public interface Collective extends AutoCloseable {
  /** This process, from 0. */
  int rank();

  /** How many processes there are, at least 1. */
  int size();

  /**
   * Replaces numbers by their sum over the ranks.
   *
   * @param values from position to limit; direct, in native order, as many on every rank
   */
  void sum(FloatBuffer values);

  /** Replaces numbers by their sum over the ranks, as many on every rank. */
  void sum(double[] values);

  /** Returns when every rank has called it. */
  void barrier();

  @Override
  void close();
}
