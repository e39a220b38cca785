package org.lethe.bench.scaling;

import java.util.ArrayList;
import java.util.List;
import java.util.function.BiFunction;
import org.lethe.model.ModelConfig;

/** The curves that are measured, for a processor, for an accelerator, and tiny ones for tests. */
final class Curves {
  private static final int[] TOKENS = {256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
  private static final int[] VOCABULARIES = {32000, 45248, 64000, 90496, 128256, 181248, 256000};
  private static final int[] RANKS = {4, 8, 16, 32, 64, 128, 256};
  private static final int[] LENGTHS = {64, 128, 256, 512, 1024, 2048, 4096, 8192};

  private Curves() {}

  /** Some five minutes on two quiet cores. */
  static List<Curve> forHost() {
    ModelConfig small = llama(32000, 256, 4, 4, 4, 64, 704);
    Sizes kernel = new Sizes(1024, 512, 256, 16000, 8, small);
    Sizes linear = new Sizes(2048, 512, 1024, 16000, 8, small);
    Sizes attention = new Sizes(1024, 512, 256, 16000, 8, small);
    Sizes step = new Sizes(256, 128, 256, 32000, 8, small);
    return curves(kernel, linear, attention, 64, step);
  }

  static List<Curve> forDevice() {
    ModelConfig one = llama(128256, 2048, 16, 32, 8, 64, 8192);
    Sizes kernel = new Sizes(8192, 512, 4096, 128256, 8, one);
    Sizes linear = new Sizes(8192, 512, 4096, 128256, 8, one);
    Sizes attention = new Sizes(8192, 512, 4096, 128256, 8, one);
    Sizes step = new Sizes(2048, 128, 2048, 128256, 8, one);
    return curves(kernel, linear, attention, 128, step);
  }

  private static List<Curve> curves(
      Sizes head, Sizes linear, Sizes attention, int headDim, Sizes step) {
    Subject heads = new HeadSubject();
    Subject linears = new LinearSubject();
    Subject attentions = new AttentionSubject(headDim);
    Subject steps = new StepSubject();
    List<Curve> all = new ArrayList<>();
    all.add(curve(heads, Sizes.Axis.TOKENS, head, TOKENS, Sizes::tokens));
    all.add(curve(heads, Sizes.Axis.VOCABULARY, head, VOCABULARIES, Sizes::vocabulary));
    all.add(curve(linears, Sizes.Axis.TOKENS, linear, TOKENS, Sizes::tokens));
    all.add(curve(linears, Sizes.Axis.RANK, linear, RANKS, Sizes::rank));
    all.add(curve(attentions, Sizes.Axis.SEQUENCE, attention, LENGTHS, Sizes::length));
    all.add(curve(steps, Sizes.Axis.RANK, step, RANKS, Sizes::rank));
    all.add(curve(steps, Sizes.Axis.VOCABULARY, step, VOCABULARIES, Sizes::vocabulary));
    all.add(curve(steps, Sizes.Axis.SEQUENCE, step, LENGTHS, Sizes::length));
    all.add(curve(steps, Sizes.Axis.TOKENS, step, TOKENS, Sizes::tokens));
    all.add(models(steps, step, allModels(step.vocabulary())));
    return all;
  }

  /** Everything at sizes that take moments: that it runs, no figures. */
  static List<Curve> tiny() {
    ModelConfig model = llama(307, 64, 2, 4, 2, 16, 96);
    Sizes s = new Sizes(32, 8, 64, 307, 4, model);
    int[] tokens = {16, 32, 64};
    Subject steps = new StepSubject();
    return List.of(
        curve(new HeadSubject(), Sizes.Axis.TOKENS, s, tokens, Sizes::tokens),
        curve(
            new HeadSubject(), Sizes.Axis.VOCABULARY, s, new int[] {307, 1003}, Sizes::vocabulary),
        curve(new LinearSubject(), Sizes.Axis.RANK, s, new int[] {4, 8}, Sizes::rank),
        curve(
            new AttentionSubject(16), Sizes.Axis.SEQUENCE, s, new int[] {4, 8, 16}, Sizes::length),
        curve(steps, Sizes.Axis.TOKENS, s, tokens, Sizes::tokens),
        models(steps, s, List.of(model, llama(307, 96, 3, 4, 4, 24, 160))));
  }

  private static Curve curve(
      Subject subject,
      Sizes.Axis axis,
      Sizes fixed,
      int[] values,
      BiFunction<Sizes, Integer, Sizes> with) {
    List<Sizes> sizes = new ArrayList<>();
    for (int value : values) {
      sizes.add(with.apply(fixed, value));
    }
    return new Curve(subject, axis, sizes);
  }

  private static Curve models(Subject subject, Sizes fixed, List<ModelConfig> models) {
    return new Curve(subject, Sizes.Axis.MODEL, models.stream().map(fixed::model).toList());
  }

  /** From a tenth of a billion parameters to thirteen, with the proportions of Llamas. */
  private static List<ModelConfig> allModels(int v) {
    return List.of(
        llama(v, 768, 8, 12, 12, 64, 2048),
        llama(v, 1024, 16, 16, 16, 64, 2816),
        llama(v, 1536, 20, 24, 24, 64, 4096),
        llama(v, 2048, 22, 32, 32, 64, 5632),
        llama(v, 3072, 28, 24, 24, 128, 8192),
        llama(v, 4096, 32, 32, 32, 128, 11008),
        llama(v, 5120, 40, 40, 40, 128, 13824));
  }

  private static ModelConfig llama(
      int v, int d, int layers, int heads, int kv, int headDim, int f) {
    return ModelConfig.llama(
        new ModelConfig.Sizes(v, d, layers, heads, kv, headDim, f, 2048), 1e-5f, 10000, false);
  }
}
