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
import org.lethe.method.Role;
import org.lethe.method.Use;

/**
 * Unlearning: every epoch visits every forget row once; each brings its retain row and, for methods
 * that teach a refusal, both questions again with a refusal for an answer. Only the roles that the
 * method looks at are in a step; with {@link Turns}, only those of the side whose turn it is.
 */
public final class UnlearnBatches implements BatchSource {
  private static final Set<Role> FILLED =
      EnumSet.of(Role.FORGET, Role.FORGET_IDK, Role.FORGET_MISMATCH, Role.RETAIN, Role.RETAIN_IDK);

  private final List<Example> forget;
  private final List<Example> retain;
  private final List<String> refusals;
  private final ExampleEncoder encoder;
  private final int batchSize;
  private final Pairing pairing;
  private final Turns turns;
  private final Set<Role> roles = EnumSet.noneOf(Role.class);
  private final Map<Example, TokenSequence> encoded = new HashMap<>();

  /** Refuses sets that the method cannot work with. */
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
    if (forget.isEmpty()) {
      throw new UserException(
          "the forget set is empty: there is nothing to unlearn; give data.forget a file with"
              + " rows");
    }
    for (Use use : method.uses()) {
      roles.add(use.role());
    }
    requireFilled(method);
    if (retain.isEmpty() && needsRetain()) {
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
    this.refusals = refusals;
    this.encoder = encoder;
    this.batchSize = batchSize;
    this.pairing = new Pairing(pairing, seed, retain.size(), refusals.size());
  }

  @Override
  public int stepsPerEpoch() {
    return turns.stepsPerEpoch(batchesPerEpoch());
  }

  @Override
  public List<StepSequence> step(int index) {
    Turns.Place place = turns.at(index, batchesPerEpoch());
    int epoch = place.batch() / batchesPerEpoch();
    int first = place.batch() % batchesPerEpoch() * batchSize;
    int[] permutation = pairing.order(forget.size(), epoch);
    List<StepSequence> step = new ArrayList<>();
    for (int i = first; i < Math.min(first + batchSize, forget.size()); i++) {
      int row = permutation[i];
      int pair = i - first;
      if (place.forget()) {
        add(step, Role.FORGET, Role.FORGET_IDK, pair, forget.get(row), epoch, row);
        if (roles.contains(Role.FORGET_MISMATCH)) {
          step.add(mismatch(pair, forget.get(row), retain.get(pairing.retainRow(epoch, row))));
        }
      }
      if (place.retain() && keeps()) {
        Example partner = retain.get(pairing.retainRow(epoch, row));
        add(step, Role.RETAIN, Role.RETAIN_IDK, pair, partner, epoch, row);
      }
    }
    return step;
  }

  private int batchesPerEpoch() {
    return (forget.size() + batchSize - 1) / batchSize;
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

  private boolean needsRetain() {
    return keeps() || roles.contains(Role.FORGET_MISMATCH);
  }

  /** A forget question with the answer of the retain row that goes with it. */
  private StepSequence mismatch(int pair, Example example, Example partner) {
    TokenSequence tokens = encoder.encode(example.question(), partner.answer(), example.source());
    return new StepSequence(Role.FORGET_MISMATCH, pair, tokens, example.source());
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
      String refusal = refusals.get(pairing.refusal(epoch, row));
      TokenSequence tokens = encoder.encode(example.question(), refusal, example.source());
      step.add(new StepSequence(refused, pair, tokens, example.source()));
    }
  }

  /** A row with its own answer, encoded once: an epoch meets it again. */
  private TokenSequence tokens(Example example) {
    return encoded.computeIfAbsent(example, encoder::encode);
  }
}
