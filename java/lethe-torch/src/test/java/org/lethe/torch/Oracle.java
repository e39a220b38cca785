package org.lethe.torch;

import java.util.Random;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.lethe.method.RowKind;

/** What rows are worth, in libtorch's own operators and in fp64; autograd differentiates it. */
final class Oracle {
  private Oracle() {}

  /** Numbers of a normal distribution, in fp32. */
  static Tensor normal(Random random, double deviation, long... shape) {
    long elements = 1;
    for (long extent : shape) {
      elements *= extent;
    }
    float[] values = new float[Math.toIntExact(elements)];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (deviation * random.nextGaussian());
    }
    return TorchWeights.of(values, shape);
  }

  /** A leaf of the same values in fp64, whose gradient is wanted. */
  static Tensor leaf(Tensor values) {
    return values.detach().to(ScalarType.Double).clone().set_requires_grad(true);
  }

  /**
   * The scalars of rows of one kind, [N].
   *
   * @param z logits [N, V]
   * @param reference the reference's logits [N, V]; null where the kind needs none
   * @param labels int64 [N]
   */
  static Tensor values(RowKind kind, Tensor z, Tensor reference, Tensor labels) {
    Tensor logP = torch.log_softmax(z, 1);
    Scalar logV = new Scalar(Math.log((double) z.size(1)));
    return switch (kind) {
      case STATISTICS -> z.sum(1).mul(new Scalar(0.0));
      case NLL -> logP.gather(1, labels.view(-1, 1)).view(-1).neg();
      case UNIFORM_KL -> logP.mean(1).neg().sub(logV);
      case KL_UNIFORM -> logP.exp().mul(logP).sum(1).add(logV);
      case REFERENCE_KL -> {
        Tensor logQ = torch.log_softmax(reference, 1);
        yield logQ.exp().mul(logQ.sub(logP)).sum(1);
      }
      case KL_REFERENCE -> {
        Tensor logQ = torch.log_softmax(reference, 1);
        yield logP.exp().mul(logP.sub(logQ)).sum(1);
      }
      case LOGIT_MARGIN -> z.amax(new long[] {1}, false).sub(z.mean(1));
      case UNIFORM_KL_EPS -> throw new IllegalArgumentException(kind + " needs an epsilon");
    };
  }

  /** ‖x − reference‖ / ‖reference‖. */
  static double relativeError(Tensor x, Tensor reference) {
    Tensor wide = x.detach().to(ScalarType.Double);
    Tensor expected = reference.detach().to(ScalarType.Double);
    return wide.sub(expected).norm().item_double() / expected.norm().item_double();
  }

  static double norm(Tensor x) {
    return x.detach().to(ScalarType.Double).norm().item_double();
  }

  /** The numbers of a tensor, flattened. */
  static double[] doubles(Tensor x) {
    Tensor wide = x.detach().to(ScalarType.Double).contiguous();
    double[] values = new double[Math.toIntExact(wide.numel())];
    wide.data_ptr_double().get(values);
    return values;
  }
}
