package org.lethe.train;

import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Pairing;
import org.lethe.data.TokenSequence;
import org.lethe.method.Method;
import org.lethe.method.Positions;
import org.lethe.method.Role;
import org.lethe.method.Use;

/**
 * Unlearning: every epoch visits every forget row once; each brings its retain row and, for methods
 * that teach other answers, the question again with a refusal (both questions), with answers of
 * others, or with an alternate answer of its own. What goes with a row is a function of seed, epoch
 * and row, see {@link Pairing}. Only the roles that the method looks at are in a step; with {@link
 * Turns}, only those of the side whose turn it is.
 */
public final class UnlearnBatches implements BatchSource {
  private static final Set<Role> FILLED =
      EnumSet.of(
          Role.FORGET,
          Role.FORGET_IDK,
          Role.FORGET_MISMATCH,
          Role.FORGET_ALTERNATE,
          Role.NEW,
          Role.TARGET,
          Role.RETAIN,
          Role.RETAIN_IDK);

  private final List<Example> forget;
  private final List<Example> retain;
  private final Companions companions;
  private final List<String> mismatches;
  private final ExampleEncoder encoder;
  private final int batchSize;
  private final Pairing pairing;
  private final EpochOrder order;
  private final Turns turns;
  private final Set<Role> roles = EnumSet.noneOf(Role.class);
  private final Map<Example, TokenSequence> encoded;

  /** With refusals alone; refuses sets that the method cannot work with. */
  public UnlearnBatches(
      Method method,
      List<Example> forget,
      List<Example> retain,
      List<String> refusals,
      ExampleEncoder encoder,
      int batchSize,
      Pairing.Kind pairing,
      Turns turns,
      long seed) {
    this(method, forget, retain, Companions.of(refusals), encoder, batchSize, pairing, turns, seed);
  }

  /** Refuses sets that the method cannot work with. */
  public UnlearnBatches(
      Method method,
      List<Example> forget,
      List<Example> retain,
      Companions companions,
      ExampleEncoder encoder,
      int batchSize,
      Pairing.Kind pairing,
      Turns turns,
      long seed) {
    if (forget.isEmpty()) {
      throw new UserException(
          "the forget set is empty: there is nothing to unlearn; give data.forget a file with"
              + " rows");
    }
    for (Use use : method.uses()) {
      roles.add(use.role());
    }
    requireFilled(method);
    boolean borrows = roles.contains(Role.FORGET_MISMATCH) && companions.mismatches().isEmpty();
    if (retain.isEmpty() && (keeps() || borrows)) {
      throw new UserException(
          "the retain set is empty, but "
              + method.name()
              + " pairs every forget row with a retain row; give data.retain a file with rows, or"
              + " set method.retain=none");
    }
    if (turns.unit() != Turns.Unit.JOINT && !(keeps() && method.forgets())) {
      throw new UserException(
          "train.turns takes a forget and a retain loss in turns, but the method is "
              + method.name()
              + "; set train.turns=joint, or give both losses");
    }
    this.turns = turns;
    this.forget = forget;
    this.retain = retain;
    this.companions = companions;
    this.mismatches =
        (companions.mismatches().isEmpty()
                ? retain.stream().map(Example::answer)
                : companions.mismatches().stream())
            .distinct()
            .toList();
    // Epochs bring the same texts in other pairs.
    this.encoder = encoder.remembering();
    this.batchSize = batchSize;
    this.pairing = new Pairing(pairing, seed, retain.size(), companions.refusals().size());
    this.order = new EpochOrder(this.pairing, forget.size());
    this.encoded = new HashMap<>(companions.marked());
    requireCompanions(method);
  }

  @Override
  public int stepsPerEpoch() {
    return turns.stepsPerEpoch(batchesPerEpoch());
  }

  @Override
  public boolean knownAhead() {
    return true;
  }

  @Override
  public List<StepSequence> step(int index) {
    Turns.Place place = turns.at(index, batchesPerEpoch());
    int epoch = place.batch() / batchesPerEpoch();
    int first = place.batch() % batchesPerEpoch() * batchSize;
    int[] permutation = order.of(epoch);
    List<StepSequence> step = new ArrayList<>();
    for (int i = first; i < Math.min(first + batchSize, forget.size()); i++) {
      int row = permutation[i];
      int pair = i - first;
      if (place.forget()) {
        add(step, Role.FORGET, Role.FORGET_IDK, pair, forget.get(row), epoch, row);
        addMismatches(step, pair, forget.get(row), epoch, row);
        addAlternate(step, pair, forget.get(row), epoch, row);
        addUnseen(step, pair, epoch, row);
        addTarget(step, pair, forget.get(row));
      }
      if (place.retain() && keeps()) {
        for (int k = 0; k < companions.retainPerForget(); k++) {
          // The partners of a row are spread over the set, and the first is what one alone would
          // be.
          int spread = k * (retain.size() / companions.retainPerForget());
          int partner = (pairing.retainRow(epoch, row) + spread) % retain.size();
          int twin = pair + k * batchSize;
          add(step, Role.RETAIN, Role.RETAIN_IDK, twin, retain.get(partner), epoch, row);
        }
      }
    }
    return step;
  }

  private int batchesPerEpoch() {
    return StepCount.batches(forget.size(), batchSize);
  }

  /** Refuses roles that neither set can fill. */
  private static void requireFilled(Method method) {
    for (Use use : method.uses()) {
      if (!FILLED.contains(use.role())) {
        throw new UserException(
            method.name()
                + " needs sequences of the kind "
                + use.role()
                + ", which forget and retain rows do not hold; choose another method");
      }
    }
  }

  /** Refuses forget rows that lack what the method asks of them. */
  private void requireCompanions(Method method) {
    if (roles.contains(Role.NEW) && companions.unseen().isEmpty()) {
      throw new UserException(
          method.name()
              + " compares with what the model never saw; give data.unseen a file with rows");
    }
    if (roles.contains(Role.TARGET) && companions.targets().isEmpty()) {
      throw new UserException(
          method.name()
              + " learns from texts that are made for it (for Quark, sampled answers), and"
              + " there are none here; run lethe unlearn, which makes them, or choose another"
              + " method");
    }
    boolean spans =
        method.uses().stream()
            .anyMatch(u -> u.role() == Role.FORGET && u.positions() == Positions.SPANS);
    for (Example row : forget) {
      if (spans && tokens(row).spans().isEmpty()) {
        throw new UserException(
            row.source()
                + ": "
                + method.name()
                + " looks at sensitive spans, but this row has none; give it"
                + " \"sensitive_spans\", or set data.sensitive=low_probability");
      }
      if (roles.contains(Role.FORGET_ALTERNATE) && row.alternateAnswers().isEmpty()) {
        throw new UserException(
            row.source()
                + ": "
                + method.name()
                + " needs another plausible answer, but this row has none; give it \"alternate\","
                + " for example by lethe alternates");
      }
      if (roles.contains(Role.FORGET_MISMATCH)) {
        long others = mismatches.stream().filter(a -> !a.equals(row.answer())).count();
        if (others < companions.mismatchesPerRow()) {
          throw new UserException(
              row.source()
                  + ": "
                  + method.name()
                  + " gives a forget question "
                  + companions.mismatchesPerRow()
                  + " answers of others, but there are only "
                  + others
                  + "; give more in data.mismatch, or set data.mismatches="
                  + Math.max(1, others));
        }
      }
    }
  }

  /** A forget question with answers of others. */
  private void addMismatches(
      List<StepSequence> step, int pair, Example example, int epoch, int row) {
    if (!roles.contains(Role.FORGET_MISMATCH)) {
      return;
    }
    int wanted = companions.mismatchesPerRow();
    for (int index : pairing.mismatches(epoch, row, mismatches.size())) {
      String answer = mismatches.get(index);
      if (wanted > 0 && !answer.equals(example.answer())) {
        TokenSequence tokens = encoder.encode(example.question(), answer, example.source());
        step.add(new StepSequence(Role.FORGET_MISMATCH, pair, tokens, example.source()));
        wanted--;
      }
    }
  }

  /** A forget question with another plausible answer. */
  private void addAlternate(
      List<StepSequence> step, int pair, Example example, int epoch, int row) {
    if (roles.contains(Role.FORGET_ALTERNATE)) {
      List<String> alternates = example.alternateAnswers();
      String answer = alternates.get(pairing.alternate(epoch, row, alternates.size()));
      TokenSequence tokens = encoder.encode(example.question(), answer, example.source());
      step.add(new StepSequence(Role.FORGET_ALTERNATE, pair, tokens, example.source()));
    }
  }

  /** A row that the model never saw, in turn. */
  private void addUnseen(List<StepSequence> step, int pair, int epoch, int row) {
    if (roles.contains(Role.NEW)) {
      List<Example> unseen = companions.unseen();
      int index = (int) (((long) epoch * forget.size() + row) % unseen.size());
      step.add(
          new StepSequence(Role.NEW, pair, tokens(unseen.get(index)), unseen.get(index).source()));
    }
  }

  /** What a method made of a forget row. */
  private void addTarget(List<StepSequence> step, int pair, Example example) {
    if (roles.contains(Role.TARGET)) {
      StepSequence t = companions.targets().get(example);
      step.add(
          new StepSequence(Role.TARGET, pair, t.tokens(), t.source(), t.counterpart(), t.labels()));
    }
  }

  private boolean keeps() {
    return roles.contains(Role.RETAIN) || roles.contains(Role.RETAIN_IDK);
  }

  private void add(
      List<StepSequence> step,
      Role own,
      Role refused,
      int pair,
      Example example,
      int epoch,
      int row) {
    if (roles.contains(own)) {
      step.add(new StepSequence(own, pair, tokens(example), example.source()));
    }
    if (roles.contains(refused)) {
      String refusal = companions.refusals().get(pairing.refusal(epoch, row));
      TokenSequence tokens = encoder.encode(example.question(), refusal, example.source());
      step.add(new StepSequence(refused, pair, tokens, example.source()));
    }
  }

  /** A row with its own answer, encoded once: an epoch meets it again. */
  private TokenSequence tokens(Example example) {
    return encoded.computeIfAbsent(example, encoder::encode);
  }
}
