package org.lethe.train;

/** How a run's steps can be cut into pieces. */
public interface StepCuts {
  /** Tokens of the largest piece under a limit; never falls with the limit. */
  int largest(int limit);

  /** The least limit that cuts no step into more pieces than this one. */
  int tightest(int limit);

  /** Of steps that stay whole. */
  static StepCuts whole(StepCuts cuts) {
    int all = cuts.largest(Integer.MAX_VALUE);
    return new StepCuts() {
      @Override
      public int largest(int limit) {
        return all;
      }

      @Override
      public int tightest(int limit) {
        return limit;
      }
    };
  }
}
