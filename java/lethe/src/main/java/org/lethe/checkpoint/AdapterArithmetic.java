package org.lethe.checkpoint;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.lethe.UserException;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;

/**
 * Sums of adapters, as adapters: Σ cᵢ·sᵢ·BᵢAᵢ is one product of the A stacked and the B side by
 * side, [r₁ + r₂ + ..., in] and [out, r₁ + r₂ + ...], so nothing of a sum is lost, and nothing is
 * merged into weights that may be stored in 8 or 4 bits.
 *
 * <p>Negated task vectors (Ilharco et al., arXiv 2212.04089: θ − α·τ; MUSE's code has α = 1) are
 * one adapter with coefficient −α, the mixtures u·before + (1 − u)·after of "Unlearning with
 * Control" (arXiv 2406.09179) one with 1 − u, "forgetting before learning" (arXiv 2311.08011) two
 * with −λ and 1.
 */
public final class AdapterArithmetic {
  private AdapterArithmetic() {}

  /**
   * A summand.
   *
   * @param directory in PEFT's layout
   * @param coefficient what its product is multiplied by, besides its own scale
   */
  public record Summand(Path directory, double coefficient) {
    public Summand {
      if (!Double.isFinite(coefficient)) {
        throw new UserException(
            "the coefficient of " + directory + " is " + coefficient + "; give a finite number");
      }
    }
  }

  /**
   * What was written.
   *
   * @param rank of every module, the sum of the summands'
   * @param modules adapted
   * @param bytes of both files
   */
  public record Result(int rank, int modules, long bytes) {}

  /** One module's factors on the host, in fp32: A [rank, in], B [out, rank]. */
  private record Factors(float[] a, float[] b) {}

  /** A summand read whole. */
  private record Operand(
      Summand summand,
      PeftConfig config,
      Map<String, LoraConfig.Adapter> adapters,
      Map<String, LinearShape> linears,
      Map<String, float[]> tensors) {

    /** The largest rank of its modules: those of a smaller one leave zeros behind theirs. */
    int rank() {
      return adapters.values().stream().mapToInt(LoraConfig.Adapter::rank).max().orElse(0);
    }
  }

  /**
   * Writes the sum for PEFT, in fp32. A is copied; each number of B is multiplied by coefficient
   * and scale in fp64 and rounded once; lora_alpha is the rank, so that the scale is 1.
   *
   * @param baseModel what PEFT shall call the base; empty: what the summands call it
   * @throws UserException when the summands are not of one base
   */
  public static Result write(
      List<Summand> summands, String baseModel, Path target, boolean overwrite) {
    if (summands.isEmpty()) {
      throw new UserException("there is no adapter to add up; name at least one");
    }
    Optional<String> mark = mark(summands);
    List<Operand> operands = summands.stream().map(AdapterArithmetic::read).toList();
    Map<String, LinearShape> linears = linears(operands);
    int rank = operands.stream().mapToInt(Operand::rank).sum();
    PeftConfig config =
        new PeftConfig(
            base(operands, baseModel), new LoraConfig(rank, rank, targets(operands, linears)));
    Map<String, float[]> sums = new LinkedHashMap<>();
    linears.forEach(
        (module, shape) -> {
          Factors sum = sum(operands, module, shape, rank);
          sums.put(PeftAdapter.tensorA(module), sum.a());
          sums.put(PeftAdapter.tensorB(module), sum.b());
        });
    long bytes = PeftAdapter.fileBytes(config, linears, name -> StoredDtype.F32);
    OutputDirectory.write(
        target,
        overwrite,
        bytes,
        out -> {
          PeftAdapter.write(
              out,
              config,
              linears,
              name -> StoredDtype.F32,
              (name, first, into) ->
                  into.put(sums.get(name), Math.toIntExact(first), into.remaining()));
          if (mark.isPresent()) {
            out.writeString(BaseMark.FILE, BaseMark.json(mark.get()));
          }
        });
    return new Result(rank, linears.size(), bytes);
  }

  /** The weights that the summands were trained on, where they say so. */
  private static Optional<String> mark(List<Summand> summands) {
    Optional<String> mark = Optional.empty();
    for (Summand summand : summands) {
      if (mark.isPresent()) {
        BaseMark.require(summand.directory(), mark.get());
      } else {
        mark = BaseMark.read(summand.directory());
      }
    }
    return mark;
  }

  private static Operand read(Summand summand) {
    Map<String, LinearShape> linears = AdapterFiles.linears(summand.directory());
    try (PeftAdapter adapter = PeftAdapter.open(summand.directory())) {
      Map<String, float[]> tensors = new LinkedHashMap<>();
      linears.forEach(
          (module, shape) -> {
            int rank = adapter.adapters().get(module).rank();
            tensors.put(PeftAdapter.tensorA(module), new float[Math.toIntExact(rank * shape.in())]);
            tensors.put(
                PeftAdapter.tensorB(module), new float[Math.toIntExact(rank * shape.out())]);
          });
      adapter.read(
          (name, first, piece) ->
              piece.get(tensors.get(name), Math.toIntExact(first), piece.remaining()));
      return new Operand(summand, adapter.config(), adapter.adapters(), linears, tensors);
    }
  }

  private static Map<String, LinearShape> linears(List<Operand> operands) {
    Map<String, LinearShape> all = new TreeMap<>();
    for (Operand operand : operands) {
      operand
          .linears()
          .forEach(
              (module, shape) -> {
                LinearShape other = all.putIfAbsent(module, shape);
                if (other != null && !other.equals(shape)) {
                  throw new UserException(
                      operand.summand().directory()
                          + ": "
                          + module
                          + " is "
                          + shape.out()
                          + " by "
                          + shape.in()
                          + ", but "
                          + other.out()
                          + " by "
                          + other.in()
                          + " in "
                          + operands.get(0).summand().directory()
                          + "; give adapters of one base model");
                }
              });
    }
    return all;
  }

  private static String base(List<Operand> operands, String given) {
    if (!given.isEmpty()) {
      return given;
    }
    Set<String> names = new TreeSet<>();
    operands.forEach(o -> names.add(o.config().baseModel()));
    names.remove("");
    if (names.size() > 1) {
      throw new UserException(
          "the adapters name different base models, "
              + names
              + "; if these are one model, say what it is to be called by --base-model NAME");
    }
    return names.isEmpty() ? "" : names.iterator().next();
  }

  /** Last parts of names where a summand's are in all layers; else every module by its name. */
  private static List<String> targets(List<Operand> operands, Map<String, LinearShape> linears) {
    Set<String> names = new TreeSet<>();
    for (Operand operand : operands) {
      LoraTargets targets = operand.config().named(operand.linears().keySet()).lora().targets();
      boolean everywhere =
          targets.regex().isEmpty()
              && targets.layers().isEmpty()
              && targets.excludedNames().isEmpty()
              && targets.excludedRegex().isEmpty();
      if (!everywhere) {
        return List.copyOf(linears.keySet());
      }
      names.addAll(targets.names());
    }
    return List.copyOf(names);
  }

  /** The A one below the other, the B side by side; zeros where a summand leaves a module alone. */
  private static Factors sum(List<Operand> operands, String module, LinearShape shape, int rank) {
    int in = Math.toIntExact(shape.in());
    int out = Math.toIntExact(shape.out());
    Factors sum = new Factors(new float[rank * in], new float[out * rank]);
    int first = 0;
    for (Operand operand : operands) {
      LoraConfig.Adapter adapter = operand.adapters().get(module);
      float[] a = operand.tensors().get(PeftAdapter.tensorA(module));
      float[] b = operand.tensors().get(PeftAdapter.tensorB(module));
      if (adapter != null) {
        int own = adapter.rank();
        System.arraycopy(a, 0, sum.a(), first * in, own * in);
        double factor = operand.summand().coefficient() * adapter.scale();
        for (int row = 0; row < out; row++) {
          for (int k = 0; k < own; k++) {
            sum.b()[row * rank + first + k] = (float) (factor * b[row * own + k]);
          }
        }
      }
      first += operand.rank();
    }
    return sum;
  }
}
