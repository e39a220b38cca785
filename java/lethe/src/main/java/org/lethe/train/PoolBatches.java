package org.lethe.train;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.data.CounterRng;
import org.lethe.data.Counterpart;
import org.lethe.data.TokenSequence;
import org.lethe.method.Role;

/**
 * Quark's loop (Lu et al., NeurIPS 2022, arXiv 2205.13636; main.py and data_pool.py of
 * GXimingLu/Quark): before every {@code every}-th step the model answers each prompt once, the
 * rewarded answers join the {@link QuantilePool}, and until the next round the steps go through the
 * whole pool, each answer behind the control token of its quantile.
 *
 * <p>A sequence is {@code [bos] control prompt answer}: the control token comes first, as in the
 * published code, but behind the bos token where the prompt begins with one, since models that know
 * bos know it at the start alone. What a reference reads is the same without the control token.
 *
 * <p>Unlike other sources this one follows the model: {@link #prepare} samples. Everything else is
 * a function of (seed, round, epoch of the round, place). The last batch of an epoch may be short;
 * the published code drops it, which pools of few answers would feel.
 */
public final class PoolBatches implements BatchSource {
  /** Keys of the order in which a round's epochs visit the pool, apart from other streams. */
  private static final long ORDER = 11;

  /** Where answers come from. */
  public interface Rounds {
    /**
     * Answers every prompt with the model as it is, and keeps the answers.
     *
     * @param round from 0; in it the reference answers, without a control token
     */
    List<QuantilePool.Item> sample(int round);

    /** The answers that {@link #sample} gave in a round of the run that is resumed. */
    List<QuantilePool.Item> recall(int round);
  }

  /**
   * A prompt.
   *
   * @param ids token ids, at least one
   * @param place index in front of which a control token goes: 1 behind a bos token, else 0
   * @param source where it comes from, for messages
   */
  // The ids are read once per sequence; copies would guard nothing.
  @SuppressWarnings("ArrayRecordComponent")
  public record Prompt(int[] ids, int place, String source) {
    /** The ids with a control token in its place. */
    public int[] behind(int control) {
      int[] all = new int[ids.length + 1];
      System.arraycopy(ids, 0, all, 0, place);
      all[place] = control;
      System.arraycopy(ids, place, all, place + 1, ids.length - place);
      return all;
    }
  }

  /**
   * What happens when.
   *
   * @param every steps between two rounds, at least 1
   * @param controls a token id for each quantile, the best one's first
   * @param maxNewTokens the most tokens of an answer
   * @param batchSize answers in a step; fewer where an epoch of the pool ends
   */
  public record Plan(
      int every, List<Integer> controls, int maxNewTokens, int batchSize, long seed) {
    public Plan {
      controls = List.copyOf(controls);
    }
  }

  private final List<Prompt> prompts;
  private final Plan plan;
  private final Rounds rounds;
  private final QuantilePool pool;
  private List<QuantilePool.Ranked> ranked = List.of();
  private int known;

  /** With an empty pool. */
  public PoolBatches(List<Prompt> prompts, Plan plan, Rounds rounds) {
    this.prompts = List.copyOf(prompts);
    this.plan = plan;
    this.rounds = rounds;
    this.pool = new QuantilePool(plan.controls().size());
  }

  /** Steps in which as many answers are visited as there are prompts. */
  @Override
  public int stepsPerEpoch() {
    return StepCount.batches(prompts.size(), plan.batchSize());
  }

  /** Brings the pool to where it is at a step. */
  @Override
  public void prepare(int index) {
    int wanted = index / plan.every() + 1;
    for (; known < wanted; known++) {
      // A round is due before the step it is first needed in: an earlier one was, in this run's
      // past.
      boolean now = Math.multiplyExact(known, plan.every()) == index;
      pool.add(now ? rounds.sample(known) : rounds.recall(known));
      ranked = pool.ranked();
    }
    if (ranked.isEmpty()) {
      throw new UserException(
          "none of the sampled answers has a reward, so there is nothing to learn from; choose"
              + " another quark.reward");
    }
  }

  @Override
  public List<StepSequence> step(int index) {
    int round = index / plan.every();
    if (round + 1 != known) {
      throw new InternalFaultException("step " + index + " of a pool of " + known + " rounds");
    }
    int size = ranked.size();
    int batches = StepCount.batches(size, plan.batchSize());
    int within = index % plan.every();
    int[] order =
        CounterRng.permutation(size, plan.seed(), ORDER, round, (long) (within / batches));
    int first = within % batches * plan.batchSize();
    List<StepSequence> step = new ArrayList<>();
    for (int i = first; i < Math.min(first + plan.batchSize(), size); i++) {
      QuantilePool.Ranked r = ranked.get(order[i]);
      step.add(
          sequence(
              i - first,
              prompts.get(r.item().row()),
              plan.controls().get(r.quantile()),
              r.item().answer()));
    }
    return step;
  }

  /** A step of the longest prompt with the longest answer, since no answer is known before. */
  @Override
  public Iterable<List<StepSequence>> sizes(int count) {
    Prompt longest = prompts.get(0);
    for (Prompt prompt : prompts) {
      longest = prompt.ids().length > longest.ids().length ? prompt : longest;
    }
    List<StepSequence> step = new ArrayList<>();
    for (int i = 0; i < plan.batchSize(); i++) {
      step.add(sequence(i, longest, plan.controls().get(0), new int[plan.maxNewTokens()]));
    }
    return List.of(step);
  }

  private static StepSequence sequence(int pair, Prompt prompt, int control, int[] answer) {
    int[] asked = prompt.behind(control);
    int[] ids = Arrays.copyOf(asked, asked.length + answer.length);
    System.arraycopy(answer, 0, ids, asked.length, answer.length);
    return new StepSequence(
            Role.TARGET, pair, new TokenSequence(ids, asked.length), prompt.source())
        .with(Counterpart.without(ids, prompt.place()));
  }
}
