package org.lethe.train;

import java.util.ArrayList;
import java.util.List;
import org.lethe.method.Method;

/**
 * What memory depends on in all steps of a run. They pass by one after the other, each once, and
 * are not kept: a run may have more than the heap has room for.
 */
final class StepSizes {
  // More steps than that differ as these do: one of those behind them may be cut into a piece more,
  // which costs a little and takes nothing.
  static final int STEPS = 4096;

  /** 256 MB of what cutting the steps anew looks at. */
  static final long NUMBERS = 64L << 20;

  private final MicroBatch.Layout layout;
  private final int mostSteps;
  private final long mostNumbers;
  private final List<StepCut> cuts = new ArrayList<>();
  private long numbers;
  private int total;
  private int group;

  /**
   * Of no step yet.
   *
   * @param mostSteps steps that are looked at for every limit; of what follows only the sizes bound
   *     it
   * @param mostNumbers that those may hold, four bytes each
   */
  StepSizes(MicroBatch.Layout layout, int mostSteps, long mostNumbers) {
    this.layout = layout;
    this.mostSteps = mostSteps;
    this.mostNumbers = mostNumbers;
  }

  /** Of all these steps. */
  static StepCuts cuts(Iterable<List<StepSequence>> steps, MicroBatch.Layout layout) {
    StepSizes sizes = new StepSizes(layout, STEPS, NUMBERS);
    steps.forEach(sizes::add);
    return sizes.cuts();
  }

  void add(List<StepSequence> step) {
    StepCut cut = new StepCut(step, layout);
    total = Math.max(total, cut.total());
    group = Math.max(group, cut.largestGroup());
    if (cuts.size() < mostSteps && numbers + cut.numbers() <= mostNumbers) {
      numbers += cut.numbers();
      cuts.add(cut.withoutSequences());
    }
  }

  /** How they can be cut. */
  StepCuts cuts() {
    return new All(List.copyOf(cuts), total, group);
  }

  /** Of some steps, and of others whose largest numbers alone are known. */
  private record All(List<StepCut> cuts, int total, int group) implements StepCuts {
    @Override
    public int largest(int limit) {
      return Math.max(group, Math.min(total, limit));
    }

    @Override
    public int tightest(int limit) {
      // Where all steps are whole, all of them stay so.
      if (total <= limit) {
        return Math.max(1, total);
      }
      int tightest = 1;
      for (StepCut cut : cuts) {
        tightest = cut.tightest(limit, tightest);
      }
      return tightest;
    }
  }

  /**
   * The most sequences that a step has in the trained batch, those of the reference among them. As
   * the steps pass by.
   */
  static final class Sequences {
    private final MicroBatch.Layout layout;
    private int most;

    Sequences(Method method, ReferenceCache reference) {
      this.layout = new MicroBatch.Layout(method, reference == null ? null : reference::nll);
    }

    void add(List<StepSequence> step) {
      int sequences = 0;
      for (StepSequence s : step) {
        sequences += layout.trains(s.role()) ? 1 : 0;
        sequences += layout.needsTwin(s.role()) ? 1 : 0;
      }
      most = Math.max(most, sequences);
    }

    int most() {
      return most;
    }
  }
}
