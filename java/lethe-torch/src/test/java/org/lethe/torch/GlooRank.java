package org.lethe.torch;

import java.io.IOException;
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
  /** In place of a result file: the process dies without closing anything. */
  static final String HALT = "halt";

  static final int HALTED = 9;
  static final int SUMS = 3;
  static final int FLOATS = 1537;

  private GlooRank() {}

  /** A rank of {@code args[1]} of {@code args[2]} that meets at file {@code args[0]}; to a file. */
  public static void main(String[] args) throws IOException {
    int rank = Integer.parseInt(args[1]);
    int size = Integer.parseInt(args[2]);
    GlooCollective.Place place = GlooCollective.Place.local(rank, size, Duration.ofSeconds(60));
    try (Collective collective = GlooCollective.overFile(Path.of(args[0]), place)) {
      byte[] sums = sums(collective);
      if (args[3].equals(HALT)) {
        Runtime.getRuntime().halt(HALTED);
      }
      Files.write(Path.of(args[3]), sums);
    }
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
