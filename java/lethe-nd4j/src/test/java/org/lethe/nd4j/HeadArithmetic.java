package org.lethe.nd4j;

import java.util.Arrays;
import java.util.List;
import org.lethe.method.RowKind;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;

/** The head in plain fp64, straight from the definitions; the logits exist whole. */
final class HeadArithmetic {
  private final double[][] hidden;
  private final double[][] weight;
  private final int vocabulary;

  HeadArithmetic(INDArray hidden, INDArray weight) {
    this.hidden = hidden.castTo(DataType.DOUBLE).toDoubleMatrix();
    this.weight = weight.castTo(DataType.DOUBLE).toDoubleMatrix();
    this.vocabulary = this.weight.length;
  }

  /** −log p[label] of a row. */
  double nll(HeadRow row) {
    return -logSoftmax(row.source())[row.label()];
  }

  /** The scalar whose gradient the row's kind names; 0 for STATISTICS. */
  double scalar(HeadRow row) {
    double[] p = logSoftmax(row.source());
    double sum = 0;
    switch (row.kind()) {
      case STATISTICS -> {}
      case NLL -> sum = -p[row.label()];
      case UNIFORM_KL -> {
        for (double logP : p) {
          sum -= (logP + Math.log(vocabulary)) / vocabulary;
        }
      }
      case KL_UNIFORM -> {
        for (double logP : p) {
          sum += Math.exp(logP) * (logP + Math.log(vocabulary));
        }
      }
      case REFERENCE_KL -> sum = divergence(logSoftmax(row.reference()), p);
      case KL_REFERENCE -> sum = divergence(p, logSoftmax(row.reference()));
      case LOGIT_MARGIN ->
          sum = Arrays.stream(p).max().orElseThrow() - Arrays.stream(p).average().orElseThrow();
      case UNIFORM_KL_EPS -> throw new IllegalArgumentException(row + " has no epsilon");
    }
    return sum;
  }

  /** d(Σ coefficient · scalar)/d(hidden), [N, d]. */
  double[][] gradient(List<HeadRow> rows, double[] coefficient) {
    double[][] gradient = new double[hidden.length][hidden[0].length];
    for (int i = 0; i < rows.size(); i++) {
      double[] dz = logitGradient(rows.get(i));
      double[] target = gradient[rows.get(i).source()];
      for (int v = 0; v < vocabulary; v++) {
        for (int j = 0; j < target.length; j++) {
          target[j] += coefficient[i] * dz[v] * weight[v][j];
        }
      }
    }
    return gradient;
  }

  /** d(Σ coefficient · scalar)/d(weight), [V, d]. */
  double[][] weightGradient(List<HeadRow> rows, double[] coefficient) {
    double[][] gradient = new double[vocabulary][hidden[0].length];
    for (int i = 0; i < rows.size(); i++) {
      double[] dz = logitGradient(rows.get(i));
      double[] h = hidden[rows.get(i).source()];
      for (int v = 0; v < vocabulary; v++) {
        for (int j = 0; j < h.length; j++) {
          gradient[v][j] += coefficient[i] * dz[v] * h[j];
        }
      }
    }
    return gradient;
  }

  private double[] logitGradient(HeadRow row) {
    double[] logP = logSoftmax(row.source());
    double scalar = scalar(row);
    double[] dz = new double[vocabulary];
    if (row.kind() == RowKind.STATISTICS) {
      return dz;
    }
    double largest = Arrays.stream(logP).max().orElseThrow();
    double[] logQ = row.reference() < 0 ? logP : logSoftmax(row.reference());
    for (int v = 0; v < vocabulary; v++) {
      double p = Math.exp(logP[v]);
      dz[v] =
          switch (row.kind()) {
            case STATISTICS -> 0;
            case NLL -> p - (v == row.label() ? 1 : 0);
            case UNIFORM_KL -> p - 1.0 / vocabulary;
            case KL_UNIFORM -> p * (logP[v] + Math.log(vocabulary) - scalar);
            case REFERENCE_KL -> p - Math.exp(logQ[v]);
            case KL_REFERENCE -> p * (logP[v] - logQ[v] - scalar);
            case LOGIT_MARGIN -> (logP[v] == largest ? 1 : 0) - 1.0 / vocabulary;
            case UNIFORM_KL_EPS -> Double.NaN;
          };
    }
    return dz;
  }

  private static double divergence(double[] logP, double[] logQ) {
    double sum = 0;
    for (int v = 0; v < logP.length; v++) {
      sum += Math.exp(logP[v]) * (logP[v] - logQ[v]);
    }
    return sum;
  }

  private double[] logSoftmax(int source) {
    double[] z = new double[vocabulary];
    double max = Double.NEGATIVE_INFINITY;
    for (int v = 0; v < vocabulary; v++) {
      for (int j = 0; j < weight[v].length; j++) {
        z[v] += hidden[source][j] * weight[v][j];
      }
      max = Math.max(max, z[v]);
    }
    double sum = 0;
    for (double value : z) {
      sum += Math.exp(value - max);
    }
    double lse = max + Math.log(sum);
    for (int v = 0; v < vocabulary; v++) {
      z[v] -= lse;
    }
    return z;
  }
}
