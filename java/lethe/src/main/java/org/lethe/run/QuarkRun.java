package org.lethe.run;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.config.MethodSection;
import org.lethe.config.QuarkSection;
import org.lethe.config.RunConfig;
import org.lethe.config.TrainConfig;
import org.lethe.data.CounterRng;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Tokenizer;
import org.lethe.kernels.HeadOps;
import org.lethe.method.Targets;
import org.lethe.metric.Reward;
import org.lethe.model.Generator;
import org.lethe.train.PoolBatches;
import org.lethe.train.QuantilePool;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The rounds of a Quark run: who is asked what, what an answer earns, and where answers are kept.
 *
 * <p>The first round asks the reference without a control token, every later one the model as it
 * has become, behind the best quantile's token. Draws are keyed by (seed, round, prompt, position).
 * An answer that the model ended carries the end token that closes a row's answer; the published
 * code (main.py of GXimingLu/Quark) keeps answers as text and learns no end. A retain question,
 * where those are asked, earns 1 − reward: of what is to be kept, as much as possible is to be
 * said.
 */
final class QuarkRun implements PoolBatches.Rounds {
  private static final Logger LOG = LoggerFactory.getLogger(QuarkRun.class);
  private static final String KEY = "quark.";

  /** Keys of a round's draws, apart from other streams. */
  private static final long DRAWS = 12;

  /** A question with what is to be said, or not to be said, in answer to it. */
  private record Asked(Example example, boolean forget, PoolBatches.Prompt prompt) {}

  private final RunConfig config;
  private final LoadedModel loaded;
  private final List<Asked> asked;
  private final List<Integer> controls;
  private final Reward reward;
  private final PoolFiles files;

  private QuarkRun(
      RunConfig config, LoadedModel loaded, List<Asked> asked, List<Integer> controls) {
    this.config = config;
    this.loaded = loaded;
    this.asked = asked;
    this.controls = controls;
    this.reward = Reward.named(config.quark().reward(), Evaluate.isRefusal(config));
    this.files = new PoolFiles(Inputs.real(config.output()).resolve("pool"));
  }

  /** Whether a method is Quark. */
  static boolean isMethod(MethodSection method) {
    return Targets.sampled(Settings.methodConfig(method));
  }

  /** The batches of a run; refuses what cannot be. */
  static PoolBatches batches(RunConfig config, Unlearn.Rows rows, LoadedModel loaded) {
    requireSettings(config);
    List<Integer> controls = controls(config.quark(), loaded.tokenizer());
    if (rows.forget().isEmpty()) {
      throw new UserException(
          "the forget set is empty: there is nothing to unlearn; give data.forget a file with"
              + " rows");
    }
    if (config.quark().retainPrompts() && rows.retain().isEmpty()) {
      throw new UserException(
          KEY
              + "retain_prompts asks retain questions, but there are none; give data.retain a file"
              + " with rows, or set it to false");
    }
    List<Asked> asked = new ArrayList<>();
    rows.forget().forEach(e -> asked.add(asked(e, true, loaded, config.quark())));
    if (config.quark().retainPrompts()) {
      rows.retain().forEach(e -> asked.add(asked(e, false, loaded, config.quark())));
    }
    return new PoolBatches(
        asked.stream().map(Asked::prompt).toList(),
        new PoolBatches.Plan(
            config.quark().every(),
            controls,
            config.quark().maxNewTokens(),
            Settings.batchSize(config.train(), asked.size()),
            config.seed()),
        new QuarkRun(config, loaded, asked, controls));
  }

  /**
   * What can be refused before a model is read.
   *
   * @throws UserException naming the key
   */
  static void requireSettings(RunConfig config) {
    QuarkSection quark = config.quark();
    Reward.requireKnown(quark.reward(), KEY + "reward");
    if (quark.tokens().size() != quark.quantiles()) {
      throw new UserException(
          KEY
              + "tokens names "
              + quark.tokens().size()
              + " control tokens, but "
              + KEY
              + "quantiles is "
              + quark.quantiles()
              + "; name one for each quantile, the best one's first: tokens of the vocabulary that"
              + " the texts do not use, such as reserved ones");
    }
    if (config.train().turns() != TrainConfig.Turns.JOINT) {
      throw new UserException("Quark has no retain loss to take turns with; set train.turns=joint");
    }
    if (config.train().stepsPerBatch() != 1) {
      throw new UserException(
          "Quark samples anew every "
              + KEY
              + "every steps and goes through the pool between; set train.steps_per_batch=1");
    }
  }

  /**
   * The ids of the control tokens, the best quantile's first.
   *
   * @throws UserException when one is unknown, named twice or ends an answer
   */
  static List<Integer> controls(QuarkSection quark, Tokenizer tokenizer) {
    List<Integer> ids = new ArrayList<>();
    Set<String> seen = new HashSet<>();
    for (String token : quark.tokens()) {
      OptionalInt id = tokenizer.tokenId(token);
      if (id.isEmpty()) {
        throw new UserException(
            KEY
                + "tokens: \""
                + token
                + "\" is no token of the model's vocabulary, and none is added, since embeddings"
                + " do not train; name one that tokenizer.json has");
      }
      if (!seen.add(token) || (tokenizer.hasEos() && id.getAsInt() == tokenizer.eosId())) {
        throw new UserException(
            KEY
                + "tokens: \""
                + token
                + "\" is named twice or ends a text; name a different token for each quantile");
      }
      ids.add(id.getAsInt());
    }
    return ids;
  }

  private static Asked asked(
      Example example, boolean forget, LoadedModel loaded, QuarkSection quark) {
    int[] ids = loaded.encoder().encodePrompt(example.question());
    int place = loaded.encoder().controlPlace(ids);
    int context = loaded.model().config().contextLength();
    if (ids.length + 1 + quark.maxNewTokens() > context) {
      throw new UserException(
          example.source()
              + ": its prompt of "
              + ids.length
              + " tokens, a control token and "
              + KEY
              + "max_new_tokens="
              + quark.maxNewTokens()
              + " do not go into a context of "
              + context
              + "; sample shorter answers, or leave the row out");
    }
    return new Asked(example, forget, new PoolBatches.Prompt(ids, place, example.source()));
  }

  @Override
  public List<QuantilePool.Item> sample(int round) {
    List<int[]> prompts = new ArrayList<>();
    int longest = 0;
    for (Asked a : asked) {
      prompts.add(round == 0 ? a.prompt().ids() : a.prompt().behind(controls.get(0)));
      longest = Math.max(longest, prompts.get(prompts.size() - 1).length);
    }
    QuarkSection quark = config.quark();
    HeadOps.Sampling sampling =
        new HeadOps.Sampling(
            (float) quark.temperature(),
            0,
            (float) quark.topP(),
            CounterRng.bits(config.seed(), DRAWS, round));
    int slots = Math.max(1, Math.min(config.evaluate().batchSize(), prompts.size()));
    List<int[]> sampled;
    try (Generator generator =
        new Generator(loaded.model(), slots, (long) longest + quark.maxNewTokens(), round > 0)) {
      sampled =
          generator.sample(prompts, quark.maxNewTokens(), loaded.encoder().stopIds(), sampling);
    }
    return keep(round, sampled);
  }

  private List<QuantilePool.Item> keep(int round, List<int[]> sampled) {
    List<PoolFiles.Line> lines = new ArrayList<>();
    for (int row = 0; row < asked.size(); row++) {
      Asked a = asked.get(row);
      String text = loaded.tokenizer().decode(sampled.get(row)).strip();
      double own = reward.of(a.example().question(), a.example().answer(), text);
      int[] answer = closed(sampled.get(row), config.quark().maxNewTokens(), loaded.encoder());
      QuantilePool.Item item = new QuantilePool.Item(row, answer, a.forget() ? own : 1 - own);
      lines.add(new PoolFiles.Line(item, a.prompt().source(), text));
    }
    files.write(round, lines);
    List<QuantilePool.Item> items = lines.stream().map(PoolFiles.Line::item).toList();
    LOG.info(
        "round {}: {} answers of mean reward {}",
        round,
        items.size(),
        items.stream().mapToDouble(QuantilePool.Item::reward).average().orElse(Double.NaN));
    return items;
  }

  /** With the end token where the model ended the answer itself. */
  private static int[] closed(int[] sampled, int most, ExampleEncoder encoder) {
    if (sampled.length >= most) {
      return sampled;
    }
    int[] closed = Arrays.copyOf(sampled, sampled.length + 1);
    closed[sampled.length] = encoder.endId();
    return closed;
  }

  @Override
  public List<QuantilePool.Item> recall(int round) {
    return files.read(round);
  }
}
