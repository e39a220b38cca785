package org.lethe.torch;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Random;
import org.lethe.train.Collective;

/** What one rank does in the tests of sums, in a thread or in a JVM of its own. */
final class GlooRank {
  /** In place of a rank: the process dies without closing anything. */
  static final String HALT = "halt";

  static final int HALTED = 9;
  static final int SUMS = 3;
  static final int FLOATS = 1537;

  private GlooRank() {}

  /**
   * Rank {@code args[1]} of {@code args[2]}, which meet at {@code args[0]}, to a file; or two ranks
   * that have met when the process dies.
   */
  public static void main(String[] args) throws Exception {
    Path meet = Path.of(args[0]);
    if (args[1].equals(HALT)) {
      Ranks.together(2, rank -> sums(open(meet, rank, 2)));
      Runtime.getRuntime().halt(HALTED);
    }
    int rank = Integer.parseInt(args[1]);
    try (Collective collective = open(meet, rank, Integer.parseInt(args[2]))) {
      Files.write(Path.of(args[3]), sums(collective));
    }
  }

  /** A rank on this machine. */
  static Collective open(Path meet, int rank, int size) {
    return GlooCollective.overFile(
        meet, GlooCollective.Place.local(rank, size, Duration.ofSeconds(60)));
  }

  /** The numbers of a rank: sizes so far apart that the order of addition shows. */
  static float[] floats(int rank, int sum) {
    Random random = new Random(100L * sum + rank);
    float[] values = new float[FLOATS + sum];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (random.nextGaussian() * StrictMath.exp(4 * random.nextGaussian()));
    }
    return values;
  }

  static double[] doubles(int rank, int sum) {
    return new Random(900L * sum + rank).doubles(7 + sum).map(x -> 1 / x).toArray();
  }

  /** Several sums of both types, as bytes, with guards around the floats that must not change. */
  static byte[] sums(Collective collective) {
    ByteBuffer out = ByteBuffer.allocate(SUMS * (FLOATS + SUMS) * 16);
    for (int sum = 0; sum < SUMS; sum++) {
      float[] mine = floats(collective.rank(), sum);
      FloatBuffer values = direct(mine.length + 2);
      values.put(0, 5f).put(mine.length + 1, 6f).put(1, mine);
      values.position(1).limit(mine.length + 1);
      collective.sum(values);
      collective.barrier();
      for (float value : new float[] {values.position(), values.limit()}) {
        out.putFloat(value);
      }
      values.clear();
      while (values.hasRemaining()) {
        out.putFloat(values.get());
      }
      double[] wide = doubles(collective.rank(), sum);
      collective.sum(wide);
      for (double value : wide) {
        out.putDouble(value);
      }
    }
    return Arrays.copyOf(out.array(), out.position());
  }

  static FloatBuffer direct(int floats) {
    return ByteBuffer.allocateDirect(floats * Float.BYTES)
        .order(ByteOrder.nativeOrder())
        .asFloatBuffer();
  }
}
