package org.lethe.train;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Staging;
import org.lethe.model.Trainable;

/**
 * How a step is shared out: its pairs are cut into {@code size} shards of neighbours, each shard's
 * gradient is computed from zero with the whole step's denominators, and the gradients are added in
 * the order of the shards. One process that has all shards and as many processes that have one each
 * come to the same bits.
 *
 * <p>Only the backend's thread may call it.
 */
public final class Sharding {
  private static final int PIECE_BYTES = 4 << 20;

  private final int size;
  private final Collective collective;

  private Sharding(int size, Collective collective) {
    this.size = size;
    this.collective = collective;
  }

  /** The whole step is one shard. */
  public static Sharding none() {
    return new Sharding(1, null);
  }

  /** This process computes all of {@code shards}, one after the other. */
  public static Sharding local(int shards) {
    if (shards < 1) {
      throw new UserException("a step cannot be cut into " + shards + " shards; give at least 1");
    }
    return new Sharding(shards, null);
  }

  /** This process computes the shard of its rank; the collective stays the caller's to close. */
  public static Sharding over(Collective collective) {
    return new Sharding(collective.size(), collective);
  }

  /** Shards of a step. */
  public int size() {
    return size;
  }

  /** What this process computes of a step, in order; a shard may be empty. */
  List<List<StepSequence>> own(List<StepSequence> step) {
    List<List<StepSequence>> shards = new ArrayList<>();
    int pairs = step.stream().mapToInt(s -> s.pair() + 1).max().orElse(0);
    for (int shard = 0; shard < size; shard++) {
      int from = (int) ((long) pairs * shard / size);
      int to = (int) ((long) pairs * (shard + 1) / size);
      if (collective == null || collective.rank() == shard) {
        shards.add(step.stream().filter(s -> s.pair() >= from && s.pair() < to).toList());
      }
    }
    return shards;
  }

  /** The gradients of several shards, on their way to one sum. */
  final class Sum implements AutoCloseable {
    private final Trainable trainable;
    // Null where there is one shard, and so no sum.
    private final Staging staging;
    private final ByteBuffer total;

    Sum(Trainable trainable) {
      this.trainable = trainable;
      boolean several = size > 1 && collective == null;
      this.staging = size > 1 ? new Staging(PIECE_BYTES) : null;
      this.total =
          several
              ? ByteBuffer.allocateDirect(
                      Math.toIntExact(trainable.layout().elements() * Float.BYTES))
                  .order(ByteOrder.nativeOrder())
              : null;
    }

    /** Takes the gradients of a shard; the last one leaves the sum in their place. */
    void add(int index, int shards) {
      if (size == 1) {
        return;
      }
      Backend backend = trainable.ops().backend();
      long bytes = trainable.layout().elements() * Float.BYTES;
      for (long done = 0; done < bytes; done += PIECE_BYTES) {
        int piece = (int) Math.min(PIECE_BYTES, bytes - done);
        staging.read(backend, trainable.gradients() + done, piece);
        FloatBuffer values = staging.bytes().clear().limit(piece).asFloatBuffer();
        if (collective != null) {
          collective.sum(values);
        } else {
          addTo(total.duplicate().order(ByteOrder.nativeOrder()), done, values, index == 0);
        }
        if (collective != null || index == shards - 1) {
          staging.write(backend, trainable.gradients() + done, piece);
        }
      }
    }

    /** Adds a piece to the total and leaves the total in the piece. */
    private void addTo(ByteBuffer sums, long first, FloatBuffer values, boolean replace) {
      FloatBuffer sum =
          sums.position((int) first).slice().order(ByteOrder.nativeOrder()).asFloatBuffer();
      for (int i = 0; i < values.limit(); i++) {
        float value = replace ? values.get(i) : sum.get(i) + values.get(i);
        sum.put(i, value);
        values.put(i, value);
      }
    }

    @Override
    public void close() {
      if (staging != null) {
        staging.close();
      }
    }
  }

  /** Adds numbers of this process's shards, one row each, over all shards in order. */
  double[] sum(List<double[]> ofShards) {
    double[] sum = ofShards.get(0).clone();
    for (double[] next : ofShards.subList(1, ofShards.size())) {
      for (int i = 0; i < sum.length; i++) {
        sum[i] += next[i];
      }
    }
    if (collective != null) {
      collective.sum(sum);
    }
    return sum;
  }
}
