package org.lethe.train;

import java.util.ArrayList;
import java.util.List;
import org.lethe.UserException;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Pairing;
import org.lethe.data.TokenSequence;
import org.lethe.method.Role;

/** Ordinary training: every epoch visits every row once, in an order of its own. */
public final class FineTuneBatches implements BatchSource {
  private final List<TokenSequence> rows = new ArrayList<>();
  private final List<String> sources = new ArrayList<>();
  private final int batchSize;
  private final EpochOrder order;

  /** Encodes all rows; an empty list is refused. */
  public FineTuneBatches(List<Example> examples, ExampleEncoder encoder, int batchSize, long seed) {
    if (examples.isEmpty()) {
      throw new UserException("the training set is empty; give data.train a file with rows");
    }
    for (Example example : examples) {
      rows.add(encoder.encode(example.question(), example.answer(), example.source()));
      sources.add(example.source());
    }
    this.batchSize = batchSize;
    this.order = new EpochOrder(new Pairing(Pairing.Kind.FRESH, seed, 0, 0), rows.size());
  }

  @Override
  public int stepsPerEpoch() {
    return StepCount.batches(rows.size(), batchSize);
  }

  @Override
  public boolean knownAhead() {
    return true;
  }

  @Override
  public List<StepSequence> step(int index) {
    int epoch = index / stepsPerEpoch();
    int first = index % stepsPerEpoch() * batchSize;
    int[] permutation = order.of(epoch);
    List<StepSequence> step = new ArrayList<>();
    for (int i = first; i < Math.min(first + batchSize, rows.size()); i++) {
      int row = permutation[i];
      step.add(new StepSequence(Role.RETAIN, i - first, rows.get(row), sources.get(row)));
    }
    return step;
  }
}
