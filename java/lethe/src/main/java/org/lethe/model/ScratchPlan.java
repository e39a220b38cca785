package org.lethe.model;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.LinearOps;
import org.lethe.kernels.NormKind;

/**
 * The most that a model's ops take of a CUDA engine's scratch memory, which is one block as large
 * as the largest request so far. The host's ops take none.
 */
public final class ScratchPlan {
  private final boolean host;
  private final ModelConfig c;
  private final Dtype storage;
  private final OptimizerConfig optimizer;
  private final long trained;
  private final boolean trainsWeights;
  private final boolean drops;
  private final boolean stacked;
  private final boolean fusedHead;
  private final Set<CudaScratch.Linear> linears = new LinkedHashSet<>();

  /**
   * Of a model with all that it carries.
   *
   * @param adapters that may be in one view
   * @param room for them in the weights
   * @param trains the adapters that train; null: all weights do, or nothing does
   * @param optimizer of what trains; null: nothing does
   * @param host whether the device is the host
   */
  public ScratchPlan(
      ModelConfig config,
      Dtype storage,
      List<LoraConfig> adapters,
      AdapterRoom room,
      LoraConfig trains,
      OptimizerConfig optimizer,
      boolean host) {
    this.host = host;
    this.c = config;
    this.storage = storage;
    this.optimizer = optimizer;
    this.trainsWeights = trains == null && optimizer != null;
    this.trained =
        trains != null
            ? Lora.layout(config, trains).elements()
            : trainsWeights ? Model.layout(config).elements() : 0;
    this.drops = trains != null && trains.dropout() > 0;
    this.stacked = adapters.size() <= 1;
    this.fusedHead = "fused".equals(System.getenv("LETHE_HEAD_FORM"));
    addLinears(adapters, room);
  }

  private void addLinears(List<LoraConfig> adapters, AdapterRoom room) {
    List<Map<String, LoraConfig.Adapter>> found = new ArrayList<>();
    adapters.forEach(lora -> found.add(lora.among(Lora.modules(c))));
    for (int layer = 0; layer < c.layers(); layer++) {
      for (Projection.Group group : ModelLayout.groups(c)) {
        LinearOps.Spare spare = room.of(storage, layer, group);
        long ranks = 0;
        long widest = 0;
        for (Projection.Part part : group.parts()) {
          for (Map<String, LoraConfig.Adapter> each : found) {
            LoraConfig.Adapter adapter = each.get(ParameterNames.module(layer, part.module()));
            if (adapter != null) {
              ranks += adapter.rank();
              widest = Math.max(widest, part.out());
            }
          }
        }
        linears.add(
            new CudaScratch.Linear(
                group.in(),
                group.out(),
                spare.stride(),
                spare.rows(),
                ranks,
                widest,
                group.bias()));
      }
    }
  }

  /** What loading takes, and keeps. */
  public long loading() {
    return loading(c, host);
  }

  static long loading(ModelConfig c, boolean host) {
    return host ? 0 : CudaScratch.headMean(c.hiddenSize(), c.vocabularySize());
  }

  /** What measuring a head on so many rows takes besides. */
  public long measuring(int rows) {
    return host || rows == 0 ? 0 : head(rows, false);
  }

  /**
   * What a step takes besides.
   *
   * @param tokens of its largest piece
   * @param rows of its head
   * @param sequences of a piece at most
   */
  public long step(int tokens, int rows, int sequences) {
    if (host) {
      return 0;
    }
    int segments = Math.min(tokens, sequences);
    int norms = trainsWeights ? (c.norms().kind() == NormKind.LAYER ? 2 : 1) : 0;
    long most = forward(tokens, segments, drops);
    most = Math.max(most, CudaScratch.attention(storage, c, tokens, tokens, segments, true));
    for (CudaScratch.Linear l : linears) {
      most =
          Math.max(
              most, CudaScratch.linearBackward(storage, l, tokens, drops, stacked, trainsWeights));
    }
    most = Math.max(most, head(rows, true));
    most = Math.max(most, CudaScratch.headNorm(rows, tokens, c.hiddenSize(), norms));
    most = Math.max(most, CudaScratch.norm(storage, tokens, c.hiddenSize(), norms));
    most = Math.max(most, CudaScratch.scatter(tokens, tokens));
    if (trainsWeights) {
      long heads = c.attention().queryKeyNorm() ? (long) tokens * c.heads() : 0;
      most = Math.max(most, CudaScratch.norm(storage, heads, c.headDim(), norms));
      most = Math.max(most, CudaScratch.embedding(tokens));
    }
    return Math.max(most, update());
  }

  private long update() {
    return optimizer.fused()
        ? CudaScratch.gradientNormPart(trained)
        : CudaScratch.gradientNorm(trained);
  }

  private long head(int rows, boolean references) {
    long biased = c.ends().headBias() ? c.vocabularySize() : 0;
    return CudaScratch.head(rows, references, biased, true, fusedHead);
  }

  private long forward(long tokens, long segments, boolean masked) {
    long most = CudaScratch.attention(storage, c, tokens, tokens, segments, false);
    for (CudaScratch.Linear l : linears) {
      most = Math.max(most, CudaScratch.linearForward(storage, l, tokens, masked));
    }
    return most;
  }

  /** What scoring takes besides, so many sequences of so many tokens in all at a time. */
  public long scoring(int tokens, int sequences) {
    if (host || tokens == 0) {
      return 0;
    }
    int segments = Math.min(tokens, sequences);
    return Math.max(forward(tokens, segments, false), head(tokens, false));
  }

  /** What continuing prompts takes besides, so many of such a length at a time. */
  public long generation(int slots, int length) {
    if (host || slots == 0) {
      return 0;
    }
    long tokens = (long) slots * length;
    long most = Math.max(forward(tokens, slots, false), head(slots, false));
    // Of so many cached keys, whatever queries there are at a time.
    most = Math.max(most, CudaScratch.attention(storage, c, tokens - 1, tokens, slots, false));
    most = Math.max(most, CudaScratch.scatter(tokens, tokens));
    long biased = c.ends().headBias() ? c.vocabularySize() : 0;
    return Math.max(most, CudaScratch.sample(slots, biased));
  }
}
