package org.lethe.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.function.Supplier;
import org.lethe.UserException;
import org.lethe.kernels.HeadOps;

/**
 * Continues prompts token by token from cached keys and values, several prompts at a time. Greedy
 * by default; sampled draws come from a counter-based stream keyed by seed, prompt and position, so
 * that a prompt's continuation depends on neither its neighbours nor their number. Only the
 * backend's thread may call it.
 */
public final class Generator implements AutoCloseable {
  private final int slots;
  private final int length;
  private final Decoder decoder;
  private final Head head;
  private final KvCache cache;
  private final Rotary rotary;
  private final View view;
  private final Mixture mixture;
  private final KvCache reinforced;

  /**
   * Takes the memory of all slots.
   *
   * @param slots prompts continued at a time, at least 1; fewer where the device has no room for
   *     them
   * @param length the most tokens of a prompt and its continuation together, at least 2; no more
   *     than the model's context counts
   * @param adapted whether the model's adapters act; without them this is the reference model
   */
  public Generator(Model model, int slots, long length, boolean adapted) {
    this(model, slots, length, adapted ? model.view() : model.reference());
  }

  /** The same, in any view of the model. */
  public Generator(Model model, int slots, long length, View view) {
    this(model, slots, length, view, null);
  }

  /** The same, from the logits of two views together; greedily only. */
  public Generator(Model model, int slots, long length, Mixture mixture) {
    this(model, slots, length, mixture.baseline(), mixture);
  }

  private Generator(Model model, int slots, long length, View view, Mixture mixture) {
    this.length = (int) Math.min(length, model.config().contextLength());
    if (slots < 1 || this.length < 2) {
      throw new UserException(
          slots
              + " prompts of "
              + this.length
              + " tokens at a time: generation needs at least 1 prompt, and 2 tokens for it and its"
              + " continuation");
    }
    int views = mixture == null ? 1 : 2;
    this.slots =
        InferenceMemory.of(model).slots(slots, this.length, views, model.ops().backend().room());
    this.view = view;
    this.mixture = mixture;
    this.rotary = model.config().rotary();
    List<AutoCloseable> taken = new ArrayList<>();
    try {
      this.decoder = taken(taken, () -> new Decoder(model, this.slots * this.length, false));
      // A mixture has a row of each of its views.
      this.head = taken(taken, () -> new Head(model, views * this.slots));
      this.cache = taken(taken, () -> new KvCache(model, this.slots, this.length));
      this.reinforced =
          mixture == null ? null : taken(taken, () -> new KvCache(model, this.slots, this.length));
    } catch (RuntimeException e) {
      for (AutoCloseable each : taken) {
        try {
          each.close();
        } catch (Exception closing) {
          e.addSuppressed(closing);
        }
      }
      throw e;
    }
  }

  private <T extends AutoCloseable> T taken(List<AutoCloseable> all, Supplier<T> make) {
    T made =
        MemoryPlan.take(
            make,
            () ->
                new MemoryPlan()
                    .remedy(
                        "fewer prompts at a time than "
                            + slots
                            + " (evaluate.batch_size), fewer new tokens"
                            + " (evaluate.max_new_tokens), dtype=bf16, or device=cpu"));
    all.add(made);
    return made;
  }

  /**
   * Greedy continuations.
   *
   * @param prompts token ids, none empty
   * @param maxNewTokens stop after as many, or when the length is full
   * @param stop token ids that end a continuation; they are not part of it
   * @return the new tokens of each prompt
   */
  public List<int[]> greedy(List<int[]> prompts, int maxNewTokens, Set<Integer> stop) {
    return generate(prompts, maxNewTokens, stop, null);
  }

  /** Continuations drawn as {@code sampling} says. */
  public List<int[]> sample(
      List<int[]> prompts, int maxNewTokens, Set<Integer> stop, HeadOps.Sampling sampling) {
    if (mixture != null) {
      throw new UserException(
          "a mixture of two models is decoded greedily; leave the temperature at 0");
    }
    return generate(prompts, maxNewTokens, stop, sampling);
  }

  private List<int[]> generate(
      List<int[]> prompts, int maxNewTokens, Set<Integer> stop, HeadOps.Sampling sampling) {
    if (maxNewTokens < 0) {
      throw new UserException(maxNewTokens + " new tokens are none; give 0 or more");
    }
    if (prompts.stream().anyMatch(p -> p.length == 0)) {
      throw new UserException("a prompt has no tokens, so nothing can continue it; fill it in");
    }
    List<int[]> continuations = new ArrayList<>();
    for (int first = 0; first < prompts.size(); first += slots) {
      List<int[]> group = prompts.subList(first, Math.min(first + slots, prompts.size()));
      continuations.addAll(generateGroup(group, first, maxNewTokens, stop, sampling));
    }
    return continuations;
  }

  private List<int[]> generateGroup(
      List<int[]> prompts,
      int first,
      int maxNewTokens,
      Set<Integer> stop,
      HeadOps.Sampling sampling) {
    int n = prompts.size();
    List<Continuation> all = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      all.add(new Continuation(i, first + i, truncate(prompts.get(i))));
    }
    List<Continuation> active = new ArrayList<>(all);
    while (!active.isEmpty()) {
      active.forEach(this::startAgainWhereAnglesChange);
      int[] chosen = step(active, sampling);
      List<Continuation> next = new ArrayList<>();
      for (int i = 0; i < active.size(); i++) {
        Continuation continuation = active.get(i);
        continuation.filled += continuation.pending.length;
        if (stop.contains(chosen[i]) || maxNewTokens == 0) {
          continue;
        }
        continuation.output.add(chosen[i]);
        continuation.all.add(chosen[i]);
        continuation.pending = new int[] {chosen[i]};
        if (continuation.output.size() < maxNewTokens && continuation.filled < length) {
          next.add(continuation);
        }
      }
      active = next;
    }
    return all.stream().map(k -> k.output.stream().mapToInt(Integer::intValue).toArray()).toList();
  }

  /** Feeds what is pending of every active sequence and chooses the next token of each. */
  private int[] step(List<Continuation> active, HeadOps.Sampling sampling) {
    int n = active.size();
    PackedBatch batch = PackedBatch.of(active.stream().map(k -> k.pending).toList(), 0);
    if (mixture != null) {
      return stepOfMixture(active, batch);
    }
    HeadRows.Builder builder = new HeadRows.Builder();
    for (int i = 0; i < n; i++) {
      builder.row(builder.source(batch.starts()[i + 1] - 1), -1, 0, -1);
    }
    HeadRows rows = builder.build(0);
    long x = decoder.forwardCached(view, batch, step(cache, active), rows.sourceTokens());
    float[] statistics = head.forward(x, rows, false);
    if (sampling != null) {
      long[] draws = new long[n];
      for (int i = 0; i < n; i++) {
        Continuation k = active.get(i);
        draws[i] = ((long) k.prompt << Integer.SIZE) + k.output.size();
      }
      return head.sample(n, sampling, draws);
    }
    int[] chosen = new int[n];
    for (int i = 0; i < n; i++) {
      chosen[i] = Head.argmax(statistics, i);
    }
    return chosen;
  }

  private static KvCache.Step step(KvCache cache, List<Continuation> active) {
    return cache.step(
        active.stream().mapToInt(k -> k.slot).toArray(),
        active.stream().mapToInt(k -> k.filled).toArray(),
        active.stream().mapToInt(k -> k.pending.length).toArray());
  }

  /**
   * The likeliest token of the mixture: the head's reference, of which the rows are the baseline.
   */
  private int[] stepOfMixture(List<Continuation> active, PackedBatch batch) {
    int n = active.size();
    HeadRows.Builder builder = new HeadRows.Builder();
    for (int i = 0; i < n; i++) {
      int token = batch.starts()[i + 1] - 1;
      int own = builder.source(token);
      int row = builder.row(own, -1, HeadOps.ROW_REFERENCE_KL, own);
      builder.second(row, builder.source(0, token));
      builder.parameters(row, 1, 0, (float) mixture.alpha(), 0);
    }
    HeadRows rows = builder.build(0);
    KvCache.Step ofReinforced = step(reinforced, active);
    int[] last = rows.passTokens().get(0);
    head.take(decoder.forwardCached(mixture.reinforced(), batch, ofReinforced, last), rows, 0);
    long u = decoder.forwardCached(view, batch, step(cache, active), rows.sourceTokens());
    float[] statistics = head.forward(u, rows, false);
    int[] chosen = new int[n];
    for (int i = 0; i < n; i++) {
      chosen[i] = (int) statistics[i * HeadOps.STATISTICS + HeadOps.REFERENCE_ARGMAX];
    }
    return chosen;
  }

  /**
   * A sequence that grows past the length where its rotary frequencies change is fed anew, since
   * its cached keys turned by the old ones: what transformers gives without a cache.
   */
  private void startAgainWhereAnglesChange(Continuation k) {
    int grown = k.filled + k.pending.length;
    if (k.filled > 0 && rotary.table(k.filled) != rotary.table(grown)) {
      k.pending = k.all.stream().mapToInt(Integer::intValue).toArray();
      k.filled = 0;
    }
  }

  /** A prompt too long for the cache keeps its end: the continuation belongs to that. */
  private int[] truncate(int[] prompt) {
    return prompt.length < length
        ? prompt
        : Arrays.copyOfRange(prompt, prompt.length - length + 1, prompt.length);
  }

  private static final class Continuation {
    private final int slot;
    private final int prompt;
    private final List<Integer> output = new ArrayList<>();
    private final List<Integer> all = new ArrayList<>();
    private int[] pending;
    private int filled;

    Continuation(int slot, int prompt, int[] ids) {
      this.slot = slot;
      this.prompt = prompt;
      this.pending = ids;
      for (int id : ids) {
        all.add(id);
      }
    }
  }

  @Override
  public void close() {
    if (reinforced != null) {
      reinforced.close();
    }
    cache.close();
    head.close();
    decoder.close();
  }
}
