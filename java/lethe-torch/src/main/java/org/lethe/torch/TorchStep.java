package org.lethe.torch;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.AdamW;
import org.bytedeco.pytorch.AdamWOptions;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.lethe.UserException;
import org.lethe.method.Loss;
import org.lethe.method.Method;
import org.lethe.method.Role;
import org.lethe.method.RowKind;
import org.lethe.method.Sequence;
import org.lethe.method.Totals;
import org.lethe.method.Use;
import org.lethe.method.Weighted;
import org.lethe.train.StepSequence;
import org.lethe.train.TrainSettings;

/**
 * One training step in libtorch alone: forward, loss, backward, clip, AdamW. The yardstick of
 * Lethe's own step in benchmarks, and its oracle in tests; not a way to train.
 *
 * <p>It computes what {@link org.lethe.train.Step} computes for the methods whose losses are means
 * over rows. Only rows that a loss looks at go through the head, which many scripts do not do; the
 * rest is plain: padding is computed, logits exist whole. Any one thread at a time.
 */
public final class TorchStep implements AutoCloseable {
  private static final Set<String> MEANS_OVER_ROWS = Set.of("GA", "GD", "IDK", "ME");
  private static final long REDUCE_SUM = 2;
  private static final long IGNORE_NONE = -100;

  private final TorchLlama llama;
  private final Method method;
  private final TrainSettings settings;
  private final Batching batching;
  private final TensorVector parameters;
  private final AdamW optimizer;

  /** How the sequences of a step reach the model. */
  public enum Batching {
    /** All in one batch, padded to the longest. */
    PADDED,
    /** One after the other, gradients added up. */
    PER_SEQUENCE
  }

  /**
   * A step over the adapters of a model.
   *
   * @param method of losses that are means over rows: GA, IDK or ME with GD, or one of them alone
   * @param settings learning rate, AdamW's and the clip; the schedule and the budget mean nothing
   *     here
   */
  @SuppressWarnings("try") // The scope works by being open.
  public TorchStep(TorchLlama llama, Method method, TrainSettings settings, Batching batching) {
    if (llama.adapters().isEmpty()) {
      throw new UserException("nothing trains; add adapters to the model (addLora)");
    }
    for (Weighted part : method.losses()) {
      Loss loss = part.loss();
      if (!MEANS_OVER_ROWS.contains(loss.name())) {
        throw new UserException(
            method.name() + " has " + loss.name() + "; this step does " + MEANS_OVER_ROWS);
      }
    }
    this.llama = llama;
    this.method = method;
    this.settings = settings;
    this.batching = batching;
    try (PointerScope scope = new PointerScope()) {
      AdamWOptions options = new AdamWOptions(settings.learningRate());
      // A std::tuple, which libstdc++ lays out from its last element to its first.
      options.betas().put(0, settings.beta2()).put(1, settings.beta1());
      options.eps().put(settings.eps());
      options.weight_decay().put(settings.weightDecay());
      this.parameters = Ownership.keep(llama.parameters());
      this.optimizer = Ownership.keep(new AdamW(parameters, options));
    }
  }

  /**
   * Runs one step.
   *
   * @return the objective before the update
   */
  @SuppressWarnings("try") // The scope works by being open.
  public double run(List<StepSequence> sequences) {
    double loss = gradients(sequences);
    try (PointerScope scope = new PointerScope()) {
      if (settings.maxGradientNorm() > 0) {
        torch.clip_grad_norm_(parameters, settings.maxGradientNorm());
      }
      optimizer.step();
    }
    return loss;
  }

  /**
   * The forward and the backward pass alone; gradients are those of {@link TorchLlama#adapters}.
   *
   * @return the objective
   */
  @SuppressWarnings("try") // The scope works by being open.
  public double gradients(List<StepSequence> sequences) {
    optimizer.zero_grad();
    Totals totals = Totals.of(outline(sequences));
    double objective = 0;
    List<List<StepSequence>> batches = new ArrayList<>();
    if (batching == Batching.PADDED) {
      batches.add(sequences);
    } else {
      sequences.forEach(sequence -> batches.add(List.of(sequence)));
    }
    for (List<StepSequence> batch : batches) {
      try (PointerScope scope = new PointerScope()) {
        Tensor loss = loss(batch, totals);
        loss.backward();
        objective += loss.item_double();
      }
    }
    return objective;
  }

  private Tensor loss(List<StepSequence> batch, Totals totals) {
    List<int[]> ids = batch.stream().map(sequence -> sequence.tokens().ids()).toList();
    int longest = ids.stream().mapToInt(sequence -> sequence.length).max().orElseThrow();
    Tensor hidden = llama.hidden(TorchWeights.ids(ids), true);
    Tensor rows = hidden.view(-1, llama.config().hiddenSize());
    Tensor sum = null;
    for (Weighted part : method.losses()) {
      Loss loss = part.loss();
      for (Use use : loss.uses()) {
        if (loss.count(totals) != totals.rows(use)) {
          throw new UserException(
              loss.name() + " is not the mean over its rows; this step does no other reduction");
        }
        List<Long> sources = new ArrayList<>();
        List<Long> labels = new ArrayList<>();
        for (int b = 0; b < batch.size(); b++) {
          if (batch.get(b).role() == use.role()) {
            for (int t = firstSource(use, batch.get(b)); t < ids.get(b).length - 1; t++) {
              sources.add((long) b * longest + t);
              labels.add((long) ids.get(b)[t + 1]);
            }
          }
        }
        if (!sources.isEmpty()) {
          Tensor term = value(use.kind(), rows.index_select(0, tensor(sources)), tensor(labels));
          Tensor weighted = term.mul(new Scalar(part.weight() * loss.scale() / loss.count(totals)));
          sum = sum == null ? weighted : sum.add(weighted);
        }
      }
    }
    if (sum == null) {
      throw new UserException("no sequence of the batch has a role of " + method.name());
    }
    return sum;
  }

  /** The sum of the rows' values, in fp32 or wider. */
  private Tensor value(RowKind kind, Tensor states, Tensor labels) {
    Tensor logits = llama.logits(states);
    Tensor z = logits.element_size() < Float.BYTES ? logits.to(torch.ScalarType.Float) : logits;
    double logVocabulary = Math.log(llama.config().vocabularySize());
    return switch (kind) {
      case NLL ->
          torch.cross_entropy_loss(z, labels, new TensorOptional(), REDUCE_SUM, IGNORE_NONE, 0);
      case UNIFORM_KL ->
          torch
              .logsumexp(z, new long[] {1}, false)
              .sub(z.mean(1))
              .sub(new Scalar(logVocabulary))
              .sum();
      case KL_UNIFORM -> {
        Tensor logP = torch.log_softmax(z, 1);
        yield logP.exp().mul(logP).sum(1).add(new Scalar(logVocabulary)).sum();
      }
      case STATISTICS, REFERENCE_KL, KL_REFERENCE, LOGIT_MARGIN, UNIFORM_KL_EPS ->
          throw new UserException(method.name() + " asks for " + kind + ", which is not here");
    };
  }

  /** The step as the reductions count it. */
  private List<Sequence> outline(List<StepSequence> sequences) {
    Map<Role, Use> uses = new EnumMap<>(Role.class);
    method.uses().forEach(use -> uses.put(use.role(), use));
    List<Sequence> outline = new ArrayList<>();
    for (StepSequence s : sequences) {
      int rows = s.tokens().ids().length - 1 - firstSource(uses.get(s.role()), s);
      outline.add(new Sequence(s.role(), s.pair(), 0, rows, Double.NaN));
    }
    return outline;
  }

  private static int firstSource(Use use, StepSequence sequence) {
    return switch (use.positions()) {
      case ANSWER -> sequence.tokens().answerStart() - 1;
      case ALL -> 0;
      case SPANS, ANSWER_UNSHIFTED, EVERY ->
          throw new UserException(use.positions() + " is not here; give positions answer or all");
    };
  }

  private static Tensor tensor(List<Long> values) {
    return TorchWeights.of(values.stream().mapToLong(Long::longValue).toArray(), values.size());
  }

  @Override
  public void close() {
    optimizer.close();
    parameters.close();
  }
}
