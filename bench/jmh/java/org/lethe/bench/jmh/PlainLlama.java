package org.lethe.bench.jmh;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.Map;
import org.lethe.model.ModelConfig;
import org.lethe.model.ParameterNames;
import org.lethe.model.WeightSource;

/**
 * A Llama written out in plain double precision, one sequence at a time: an independent witness of
 * what the fast one computes. Formulas: RMSNorm (arXiv 1910.07467), rotary embedding in Hugging
 * Face's half-split layout (arXiv 2104.09864), SwiGLU (arXiv 2002.05202). Matrices have Hugging
 * Face's shape, [out, in].
 */
final class PlainLlama {
  private final ModelConfig c;
  private final WeightSource source;
  private final Map<String, float[]> weights = new HashMap<>();

  /**
   * @param source of fp32 weights
   */
  PlainLlama(ModelConfig config, WeightSource source) {
    this.c = config;
    this.source = source;
  }

  /** The logits after each token, [tokens][V]. */
  double[][] logits(int[] ids) {
    int d = c.hiddenSize();
    double[][] x = new double[ids.length][d];
    float[] embedding = weight(ParameterNames.EMBEDDING);
    for (int t = 0; t < ids.length; t++) {
      for (int k = 0; k < d; k++) {
        x[t][k] = embedding[ids[t] * d + k];
      }
    }
    for (int layer = 0; layer < c.layers(); layer++) {
      attention(layer, x);
      feedForward(layer, x);
    }
    String head = c.tiedHead() ? ParameterNames.EMBEDDING : ParameterNames.HEAD;
    return product(norm(x, c.modules().finalNorm() + ".weight"), head, c.vocabularySize());
  }

  private void attention(int layer, double[][] x) {
    int dim = c.headDim();
    double[][] n = norm(x, ParameterNames.weight(layer, c.modules().inputNorm()));
    double[][] q = product(n, ParameterNames.weight(layer, "self_attn.q_proj"), c.queryWidth());
    double[][] k = product(n, ParameterNames.weight(layer, "self_attn.k_proj"), c.kvWidth());
    double[][] v = product(n, ParameterNames.weight(layer, "self_attn.v_proj"), c.kvWidth());
    rotate(q);
    rotate(k);
    double[][] out = new double[x.length][c.queryWidth()];
    for (int head = 0; head < c.heads(); head++) {
      int own = head * dim;
      int group = head / (c.heads() / c.kvHeads()) * dim;
      for (int t = 0; t < x.length; t++) {
        double[] p = new double[t + 1];
        double sum = 0;
        for (int s = 0; s <= t; s++) {
          double dot = 0;
          for (int j = 0; j < dim; j++) {
            dot += q[t][own + j] * k[s][group + j];
          }
          p[s] = StrictMath.exp(dot / StrictMath.sqrt(dim));
          sum += p[s];
        }
        for (int s = 0; s <= t; s++) {
          for (int j = 0; j < dim; j++) {
            out[t][own + j] += p[s] / sum * v[s][group + j];
          }
        }
      }
    }
    add(x, product(out, ParameterNames.weight(layer, "self_attn.o_proj"), c.hiddenSize()));
  }

  private void rotate(double[][] x) {
    int half = c.headDim() / 2;
    for (int t = 0; t < x.length; t++) {
      for (int first = 0; first < x[t].length; first += c.headDim()) {
        for (int j = 0; j < half; j++) {
          double angle = t / StrictMath.pow(c.rotary().theta(), (double) j / half);
          double a = x[t][first + j];
          double b = x[t][first + half + j];
          x[t][first + j] = a * StrictMath.cos(angle) - b * StrictMath.sin(angle);
          x[t][first + half + j] = b * StrictMath.cos(angle) + a * StrictMath.sin(angle);
        }
      }
    }
  }

  private void feedForward(int layer, double[][] x) {
    double[][] n = norm(x, ParameterNames.weight(layer, c.modules().feedForwardNorm()));
    int f = c.feedForwardSize();
    double[][] gate = product(n, ParameterNames.weight(layer, "mlp.gate_proj"), f);
    double[][] up = product(n, ParameterNames.weight(layer, "mlp.up_proj"), f);
    for (int t = 0; t < x.length; t++) {
      for (int j = 0; j < f; j++) {
        gate[t][j] *= up[t][j] / (1 + StrictMath.exp(-gate[t][j]));
      }
    }
    add(x, product(gate, ParameterNames.weight(layer, "mlp.down_proj"), c.hiddenSize()));
  }

  private double[][] norm(double[][] x, String name) {
    float[] w = weight(name);
    double[][] y = new double[x.length][w.length];
    for (int t = 0; t < x.length; t++) {
      double squares = 0;
      for (double value : x[t]) {
        squares += value * value;
      }
      double scale = 1 / StrictMath.sqrt(squares / w.length + c.norms().eps());
      for (int k = 0; k < w.length; k++) {
        y[t][k] = x[t][k] * scale * w[k];
      }
    }
    return y;
  }

  private double[][] product(double[][] x, String name, int out) {
    float[] w = weight(name);
    double[][] y = new double[x.length][out];
    int in = x[0].length;
    for (int o = 0; o < out; o++) {
      for (int t = 0; t < x.length; t++) {
        double sum = 0;
        for (int k = 0; k < in; k++) {
          sum += x[t][k] * w[o * in + k];
        }
        y[t][o] = sum;
      }
    }
    return y;
  }

  private static void add(double[][] x, double[][] y) {
    for (int t = 0; t < x.length; t++) {
      for (int k = 0; k < x[t].length; k++) {
        x[t][k] += y[t][k];
      }
    }
  }

  private float[] weight(String name) {
    return weights.computeIfAbsent(name, this::read);
  }

  private float[] read(String name) {
    int n = 1;
    for (long extent : source.shape(name)) {
      n = Math.toIntExact(n * extent);
    }
    ByteBuffer bytes = ByteBuffer.allocate(n * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    source.read(name, 0, bytes);
    float[] values = new float[n];
    bytes.flip().asFloatBuffer().get(values);
    return values;
  }
}
