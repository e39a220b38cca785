package org.lethe.bench.jmh;

import java.util.List;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.ModelConfig;
import org.lethe.run.Bench;
import org.lethe.train.StepSequence;

/** The models and sequences that steps are timed on. */
public final class Models {
  private Models() {}

  /** "tiny", for smoke runs, or a size of {@code lethe bench}. */
  public static ModelConfig config(String size) {
    return size.equals("tiny")
        ? ModelConfig.llama(
            new ModelConfig.Sizes(300, 32, 2, 4, 2, 8, 48, 512), 1e-5f, 10000, false)
        : Bench.size(size);
  }

  /** A method with all defaults. */
  public static Method method(String name) {
    return Methods.create(MethodConfig.of(name));
  }

  /**
   * A step whose sequences all have {@code length} tokens, a third of them question; both answers
   * to a question follow the same tokens.
   *
   * @param pairs forget sequences, and as many of each other role that the method looks at
   */
  public static List<StepSequence> dense(Method method, int vocabulary, int pairs, int length) {
    return Bench.sequences(method, vocabulary, pairs, length);
  }
}
