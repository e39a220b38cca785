package org.lethe.model;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.checkpoint.SafetensorsFile;

/** What transformers, PEFT and torch computed; {@code tests/oracle} makes them. */
public final class Goldens {
  private Goldens() {}

  /** A file or directory of {@code tests/golden}. */
  public static Path path(String name) {
    return Path.of(System.getProperty("lethe.root"), "tests", "golden").resolve(name);
  }

  public static float[] floats(SafetensorsFile file, String name) {
    ByteBuffer bytes = bytes(file, name);
    float[] values = new float[bytes.remaining() / Float.BYTES];
    bytes.asFloatBuffer().get(values);
    return values;
  }

  /** A bf16 tensor, widened. */
  public static float[] bf16(SafetensorsFile file, String name) {
    ByteBuffer bytes = bytes(file, name);
    float[] values = new float[bytes.remaining() / Short.BYTES];
    for (int i = 0; i < values.length; i++) {
      values[i] = Float.intBitsToFloat(bytes.getShort(i * Short.BYTES) << 16);
    }
    return values;
  }

  public static int[] ints(SafetensorsFile file, String name) {
    ByteBuffer bytes = bytes(file, name);
    int[] values = new int[bytes.remaining() / Integer.BYTES];
    bytes.asIntBuffer().get(values);
    return values;
  }

  public static JsonNode json(String name) {
    try {
      return new ObjectMapper().readTree(Files.readString(path(name)));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Sequences laid end to end in a file, cut at their lengths. */
  public static List<int[]> split(int[] ids, int[] lengths) {
    List<int[]> sequences = new ArrayList<>();
    int next = 0;
    for (int length : lengths) {
      sequences.add(Arrays.copyOfRange(ids, next, next + length));
      next += length;
    }
    return sequences;
  }

  /** ‖x − reference‖ / ‖reference‖. */
  public static double relativeError(float[] x, float[] reference) {
    return distance(x, reference) / norm(reference);
  }

  public static double distance(float[] x, float[] y) {
    if (x.length != y.length) {
      throw new IllegalArgumentException(x.length + " numbers against " + y.length);
    }
    double sum = 0;
    for (int i = 0; i < x.length; i++) {
      double difference = (double) x[i] - y[i];
      sum += difference * difference;
    }
    return Math.sqrt(sum);
  }

  public static double norm(float[] x) {
    return distance(x, new float[x.length]);
  }

  private static ByteBuffer bytes(SafetensorsFile file, String name) {
    int size = Math.toIntExact(file.info(name).bytes());
    ByteBuffer bytes = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    file.readInto(name, 0, bytes);
    return bytes.flip();
  }
}
