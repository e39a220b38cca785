package org.lethe.checkpoint;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.model.LoraConfig;

/**
 * One module's adapter on the host: A [r, in] and B [out, r], row-major fp32. Sums are taken in
 * fp64.
 */
public final class LoraFactors {
  private final int rank;
  private final double scale;
  private final LinearShape shape;
  private final float[] a;
  private final float[] b;

  private LoraFactors(LoraConfig.Adapter adapter, LinearShape shape) {
    this.rank = adapter.rank();
    this.scale = adapter.scale();
    this.shape = shape;
    this.a = new float[Math.toIntExact(rank * shape.in())];
    this.b = new float[Math.toIntExact(rank * shape.out())];
  }

  /**
   * All modules of an adapter, in the order of their names.
   *
   * @param linears the modules that it was opened with
   * @throws UserException naming the tensor, when a value is not finite
   */
  public static Map<String, LoraFactors> read(
      Path directory, PeftAdapter adapter, Map<String, LinearShape> linears) {
    Map<String, LoraFactors> factors = new LinkedHashMap<>();
    Map<String, float[]> tensors = new LinkedHashMap<>();
    adapter
        .adapters()
        .forEach(
            (module, size) -> {
              LoraFactors pair = new LoraFactors(size, linears.get(module));
              factors.put(module, pair);
              tensors.put(PeftAdapter.tensorA(module), pair.a);
              tensors.put(PeftAdapter.tensorB(module), pair.b);
            });
    adapter.read(
        (name, first, piece) -> {
          float[] values = tensors.get(name);
          if (values == null) {
            throw new InternalFaultException("the adapter's tensor " + name + " has no module");
          }
          piece.get(values, Math.toIntExact(first), piece.remaining());
        });
    return factors;
  }

  /** [out, in] of the module. */
  public LinearShape shape() {
    return shape;
  }

  /** Rows of A. */
  public int rank() {
    return rank;
  }

  /** What BA is multiplied by. */
  public double scale() {
    return scale;
  }

  /** ‖A‖, Frobenius. */
  public double normA() {
    return norm(a);
  }

  /** ‖B‖, Frobenius. */
  public double normB() {
    return norm(b);
  }

  /** ‖BA‖, Frobenius: the root of the sum over (k, l) of (BᵀB)[k, l] · (AAᵀ)[k, l]. */
  public double normProduct() {
    int in = Math.toIntExact(shape.in());
    int out = Math.toIntExact(shape.out());
    double sum = 0;
    for (int k = 0; k < rank; k++) {
      for (int l = 0; l < rank; l++) {
        double ofA = 0;
        for (int j = 0; j < in; j++) {
          ofA += (double) a[k * in + j] * a[l * in + j];
        }
        double ofB = 0;
        for (int i = 0; i < out; i++) {
          ofB += (double) b[i * rank + k] * b[i * rank + l];
        }
        sum += ofA * ofB;
      }
    }
    // Rounding may leave a zero sum below 0.
    return Math.sqrt(Math.max(0, sum));
  }

  /**
   * Values of scale · BA, row-major.
   *
   * @param first index of the first value
   * @param into filled whole
   */
  void product(long first, double[] into, int count) {
    int in = Math.toIntExact(shape.in());
    for (int done = 0; done < count; ) {
      int row = Math.toIntExact((first + done) / in);
      int column = (int) ((first + done) % in);
      int width = Math.min(in - column, count - done);
      for (int j = 0; j < width; j++) {
        into[done + j] = 0;
      }
      for (int k = 0; k < rank; k++) {
        double factor = scale * b[row * rank + k];
        int at = k * in + column;
        for (int j = 0; j < width; j++) {
          into[done + j] += factor * a[at + j];
        }
      }
      done += width;
    }
  }

  private static double norm(float[] values) {
    double sum = 0;
    for (float value : values) {
      sum += (double) value * value;
    }
    return Math.sqrt(sum);
  }
}
