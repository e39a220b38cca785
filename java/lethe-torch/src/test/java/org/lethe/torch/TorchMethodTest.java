package org.lethe.torch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.kernels.Backend;
import org.lethe.method.EntropyDirection;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.MethodStep;
import org.lethe.method.Methods;
import org.lethe.method.ReferenceUse;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.method.Totals;
import org.lethe.method.Use;
import org.lethe.method.Weighted;

/** Every loss of the literature that Lethe has, written in libtorch's operators, in fp64. */
@SuppressWarnings("try") // Scopes work by being open.
class TorchMethodTest {
  private static final int VOCABULARY = 149;
  private static final int D = 40;
  private static final int[] ROWS = {4, 1, 6};
  private static final double BETA = 0.3;
  // The project's bound for fp32 against fp64, per tensor.
  private static final double FP32 = 1e-5;

  /** A step: its sequences with their rows, and hidden states of model and reference. */
  private static final class Step {
    final Random random = new Random(41);
    final List<Sequence> sequences = new ArrayList<>();
    final TorchRows rows = new TorchRows();
    final List<Long> labels = new ArrayList<>();
    final Tensor hidden;
    final Tensor reference;
    final Tensor weight = Oracle.normal(random, 0.4, VOCABULARY, D);

    Step(Method method) {
      for (int pair = 0; pair < ROWS.length; pair++) {
        for (Use use : method.uses()) {
          add(use, pair);
        }
      }
      hidden = Oracle.normal(random, 1, rows.size(), D);
      reference = hidden.add(Oracle.normal(random, 0.3, rows.size(), D));
    }

    private void add(Use use, int pair) {
      int first = rows.size();
      int n = ROWS[2 * sequences.size() % ROWS.length];
      for (int i = 0; i < n; i++) {
        int label = random.nextInt(VOCABULARY);
        int other = use.reference() == ReferenceUse.HIDDEN ? first + i : -1;
        rows.add(first + i, label, use.kind(), other);
        labels.add((long) label);
      }
      double nll = use.reference() == ReferenceUse.SEQUENCE_NLL ? 6 * n : Double.NaN;
      sequences.add(new Sequence(use.role(), pair, first, n, nll));
    }
  }

  /** The losses over the rows' scalars, from the formulas in {@link Loss}'s implementations. */
  private record Formulas(Step step, Tensor z, Tensor reference) {
    Tensor rows(RowKind kind, Sequence s) {
      long[] labels = step.labels.stream().mapToLong(Long::longValue).toArray();
      Tensor label = TorchWeights.of(labels, labels.length);
      return Oracle.values(
          kind,
          z.narrow(0, s.firstRow(), s.rows()),
          reference.narrow(0, s.firstRow(), s.rows()),
          label.narrow(0, s.firstRow(), s.rows()));
    }

    List<Sequence> of(Role role) {
      return step.sequences.stream().filter(s -> s.role() == role).toList();
    }

    Tensor mean(Role role, RowKind kind) {
      TensorVector all = new TensorVector();
      of(role).forEach(s -> all.push_back(rows(kind, s)));
      return torch.cat(all).mean();
    }

    /** −(factor/β)·mean log σ(β·margin). */
    Tensor logistic(double factor, List<Tensor> margins) {
      Tensor m = torch.stack(new TensorVector(margins.toArray(new Tensor[0])));
      return torch.log_sigmoid(m.mul(new Scalar(BETA))).mean().mul(new Scalar(-factor / BETA));
    }

    /** nll − nll of the reference, summed over a sequence. */
    Tensor drift(Sequence s) {
      double base = Double.isNaN(s.referenceNll()) ? 0 : s.referenceNll();
      return rows(RowKind.NLL, s).sum().sub(new Scalar(base));
    }

    List<Tensor> margins(Role role, Role twin) {
      List<Tensor> margins = new ArrayList<>();
      for (Sequence s : of(role)) {
        Sequence other =
            of(twin).stream().filter(t -> t.pair() == s.pair()).findFirst().orElseThrow();
        margins.add(drift(s).sub(drift(other)));
      }
      return margins;
    }

    Tensor loss(String name, EntropyDirection direction) {
      RowKind entropy =
          direction == EntropyDirection.UNIFORM_TO_MODEL ? RowKind.UNIFORM_KL : RowKind.KL_UNIFORM;
      return switch (name) {
        case "GA" -> mean(Role.FORGET, RowKind.NLL).neg();
        case "IDK" -> mean(Role.FORGET_IDK, RowKind.NLL);
        case "ME" -> mean(Role.FORGET, entropy);
        case "NPO" -> logistic(2, of(Role.FORGET).stream().map(this::drift).toList());
        case "DPO" -> logistic(2, margins(Role.FORGET, Role.FORGET_IDK));
        case "GD" -> mean(Role.RETAIN, RowKind.NLL);
        case "KL" -> mean(Role.RETAIN, RowKind.REFERENCE_KL);
        case "AP" -> logistic(1, margins(Role.RETAIN_IDK, Role.RETAIN));
        default -> throw new IllegalArgumentException(name);
      };
    }
  }

  @ParameterizedTest
  @CsvSource({
    "GA, UNIFORM_TO_MODEL",
    "NPO, UNIFORM_TO_MODEL",
    "DPO, UNIFORM_TO_MODEL",
    "IDK, UNIFORM_TO_MODEL",
    "ME, UNIFORM_TO_MODEL",
    "ME, MODEL_TO_UNIFORM",
    "none+GD, UNIFORM_TO_MODEL",
    "none+KL, UNIFORM_TO_MODEL",
    "none+AP, UNIFORM_TO_MODEL",
    "ME+GD, UNIFORM_TO_MODEL",
    "NPO+KL, UNIFORM_TO_MODEL",
    "DPO+AP, UNIFORM_TO_MODEL",
  })
  void lossAndGradientAreThoseOfAutograd(String name, EntropyDirection direction) {
    MethodConfig config =
        MethodConfig.of(name).withBeta(BETA).withDirection(direction).withCoefficients(0.7, 1.3);
    Method method = Methods.create(config);
    try (PointerScope scope = new PointerScope();
        Backend backend = Backend.open("cpu", 2)) {
      Step step = new Step(method);
      Tensor h = Oracle.leaf(step.hidden);
      Tensor w = step.weight.to(ScalarType.Double);
      Formulas formulas =
          new Formulas(
              step, torch.linear(h, w), torch.linear(step.reference.to(ScalarType.Double), w));
      List<Tensor> terms = new ArrayList<>();
      for (Weighted part : method.losses()) {
        Tensor term = formulas.loss(part.loss().name(), direction);
        terms.add(term.mul(new Scalar(part.weight())));
      }
      Tensor expected = terms.stream().reduce(Tensor::add).orElseThrow();
      expected.backward();
      try (TorchHead head = TorchHead.frozen(backend, step.weight, step.rows.size())) {
        RowStatistics statistics = head.forward(step.hidden, step.reference, step.rows);
        MethodStep objective = method.begin(Totals.of(step.sequences));
        double[] coefficients = objective.add(statistics, step.sequences);
        double loss = expected.item_double();
        assertEquals(loss, objective.loss(), FP32 * Math.max(1, Math.abs(loss)));
        double error = Oracle.relativeError(head.backward(coefficients), h.grad());
        assertTrue(error <= FP32, name + " differs by " + error);
        for (int i = 0; i < coefficients.length; i++) {
          coefficients[i] *= i < step.sequences.get(0).rows() ? -1 : 1;
        }
        double flipped = Oracle.relativeError(head.backward(coefficients), h.grad());
        assertTrue(flipped > 1e3 * FP32, name + ": a flipped term shows as " + flipped);
      }
    }
  }
}
