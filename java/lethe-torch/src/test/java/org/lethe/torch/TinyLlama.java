package org.lethe.torch;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Method;
import org.lethe.method.Use;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.LoraTargets;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;
import org.lethe.train.StepSequence;

/** A Llama with grouped queries, adapters of random A and B, and sequences of unequal length. */
final class TinyLlama {
  static final int VOCABULARY = 131;
  private static final int CONTEXT = 48;
  private static final int[] LENGTHS = {13, 40, 7, 22, 2, 31};

  private TinyLlama() {}

  /** Three query heads for each of two key heads; head width × heads is not the hidden size. */
  static ModelConfig config(boolean tied) {
    return ModelConfig.llama(
        new ModelConfig.Sizes(VOCABULARY, 40, 3, 6, 2, 8, 72, CONTEXT), 1e-5f, 10000.0, tied);
  }

  /** The weights, 0.02 wide, would give nearly uniform predictions: the sources are widened. */
  static Model model(Backend backend, boolean tied, Dtype dtype) {
    ModelConfig config = config(tied);
    return Model.load(new Ops(backend, dtype), config, new Widened(new RandomWeights(config, 7)));
  }

  /** Adapters whose B, too, is not zero. */
  static LoraConfig adapt(Model model, LoraTargets targets, long seed) {
    LoraConfig lora = LoraConfig.all(4, 8).withTargets(targets);
    Random random = new Random(seed);
    float[] values = new float[Math.toIntExact(Lora.layout(model.config(), lora).elements())];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (0.1 * random.nextGaussian());
    }
    model.addLora(lora, values, true);
    return lora;
  }

  /** The sequences of a step that a method looks at. */
  static List<StepSequence> step(Method method, long seed) {
    Random random = new Random(seed);
    List<StepSequence> step = new ArrayList<>();
    for (int pair = 0; pair < LENGTHS.length; pair++) {
      for (Use use : method.uses()) {
        // Twins and partners differ in length, too.
        int length = LENGTHS[step.size() * 5 % LENGTHS.length];
        int[] ids = random.ints(length, 0, VOCABULARY).toArray();
        TokenSequence tokens = new TokenSequence(ids, 1 + ids.length / 3);
        step.add(new StepSequence(use.role(), pair, tokens, "row " + pair));
      }
    }
    return step;
  }

  /** A file or directory of {@code tests/golden}. */
  static Path golden(String name) {
    return Path.of(System.getProperty("lethe.root"), "tests", "golden").resolve(name);
  }
}
