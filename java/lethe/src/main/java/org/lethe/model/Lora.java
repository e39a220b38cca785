package org.lethe.model;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.lethe.Hashes;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Ops;

/**
 * LoRA adapters on a model's projections (Hu et al. 2021), initialised as PEFT does: A uniform in
 * ±1/√in, B zero, so that the adapted model starts as the base, to the bit.
 *
 * <p>Owns the working copy of A and B and, when it trains, their optimizer state. Only the
 * backend's thread may call it.
 */
public final class Lora implements AutoCloseable {
  private static final String PREFIX = "base_model.model.";

  private final Ops ops;
  private final LoraConfig config;
  private final Map<String, LoraConfig.Adapter> adapters;
  private final Layout layout;
  private final Arena arena;
  private final long working;
  private final Trainable trainable;

  /** Gives the values of adapters; what it does not give is 0. */
  @FunctionalInterface
  public interface Values {
    /** Gives all there are, in any order. */
    void to(Sink sink);
  }

  /** Takes values of adapters. */
  @FunctionalInterface
  public interface Sink {
    /** Takes fp32 values from an element of the layout on. */
    void put(long element, FloatBuffer values);
  }

  private Lora(
      Ops ops, ModelConfig model, LoraConfig config, Values initial, OptimizerConfig optimizer) {
    boolean trains = optimizer != null;
    this.ops = ops;
    this.config = config;
    this.adapters = config.resolve(modules(model));
    this.layout = layout(model, config);
    this.arena = new Arena(ops.backend(), "adapters");
    long offset = arena.reserve(layout.elements(), ops.dtype());
    MemoryPlan.take(arena::allocate, () -> plan(optimizer));
    this.working = arena.at(offset);
    try {
      ops.zero(working, layout.elements() * ops.dtype().bytes());
      this.trainable =
          trains
              ? MemoryPlan.take(
                  () ->
                      new Trainable(
                          ops, layout, UpdateGroups.one(layout), optimizer, arena.at(offset)),
                  () -> plan(optimizer))
              : null;
    } catch (RuntimeException e) {
      arena.close();
      throw e;
    }
    // The master keeps the values that storage rounds.
    try (LoraTransfer transfer = transfer()) {
      initial.to(transfer::put);
    } catch (RuntimeException e) {
      close();
      throw e;
    }
  }

  private LoraTransfer transfer() {
    boolean separate = trainable != null && trainable.hasSeparateMaster();
    Buffer master = separate ? trainable.arena().buffer() : null;
    return new LoraTransfer(ops, arena, master, layout.elements());
  }

  private MemoryPlan plan(OptimizerConfig optimizer) {
    long state = optimizer == null ? 0 : Trainable.bytes(layout, ops.dtype(), optimizer);
    long bytes = arena.bytes() + state;
    return new MemoryPlan()
        .part("adapters with their optimizer", bytes)
        .remedy("half of lora.rank", bytes / 2)
        .remedy("another device, or device=cpu");
  }

  /** Fresh adapters that train, drawn from {@code seed}. */
  static Lora fresh(
      Ops ops, ModelConfig model, LoraConfig config, long seed, OptimizerConfig optimizer) {
    Layout layout = layout(model, config);
    return new Lora(ops, model, config, sink -> initial(layout, seed, sink), optimizer);
  }

  /**
   * Adapters with given values.
   *
   * @param optimizer null for adapters that do not train
   */
  static Lora of(
      Ops ops, ModelConfig model, LoraConfig config, Values values, OptimizerConfig optimizer) {
    return new Lora(ops, model, config, values, optimizer);
  }

  /** What was asked for: ranks, alphas and targets. */
  public LoraConfig config() {
    return config;
  }

  /** Rank and scale of each adapted module, by Hugging Face's name. */
  public Map<String, LoraConfig.Adapter> adapters() {
    return adapters;
  }

  /** Names, shapes and offsets of all A and B, by PEFT's names. */
  public Layout layout() {
    return layout;
  }

  /** Whether a training step leaves out inputs of these adapters. */
  public boolean drops() {
    return trainable != null && config.dropout() > 0;
  }

  /** The optimizer's view; null for adapters that do not train. */
  public Trainable trainable() {
    return trainable;
  }

  /** All values in fp32, in layout order: the master's when there is one. */
  public float[] values() {
    int n = Math.toIntExact(layout.elements());
    float[] values = new float[n];
    read(0, FloatBuffer.wrap(values));
    return values;
  }

  /** Fills {@code into} with what {@link #values} has from an element on. */
  public void read(long element, FloatBuffer into) {
    try (LoraTransfer transfer = transfer()) {
      transfer.get(element, into);
    }
  }

  static String nameA(int layer, String module) {
    return PREFIX + ParameterNames.module(layer, module) + ".lora_A.weight";
  }

  static String nameB(int layer, String module) {
    return PREFIX + ParameterNames.module(layer, module) + ".lora_B.weight";
  }

  /**
   * Puts a projection's adapter on its linear.
   *
   * @param coefficient on its scale
   * @return its rank; 0 where the projection has none
   */
  int attach(long linear, int layer, String projection, int firstOut, int out, double coefficient) {
    LoraConfig.Adapter adapter = adapters.get(ParameterNames.module(layer, projection));
    if (adapter == null) {
      return 0;
    }
    String a = nameA(layer, projection);
    String b = nameB(layer, projection);
    ops.linear()
        .adapter(
            linear,
            firstOut,
            out,
            adapter.rank(),
            (float) (coefficient * adapter.scale()),
            // A frozen adapter acts whole, whatever it was trained with.
            trainable == null ? 0f : (float) config.dropout(),
            dropoutKey(ParameterNames.module(layer, projection)),
            ref(a),
            ref(b),
            trainable == null ? 0 : trainable.gradient(a),
            trainable == null ? 0 : trainable.gradient(b));
    return adapter.rank();
  }

  /** The stream of a module's dropout masks: the first 8 bytes of the SHA-256 of its name. */
  static long dropoutKey(String module) {
    byte[] digest = Hashes.sha256().digest(module.getBytes(StandardCharsets.UTF_8));
    return ByteBuffer.wrap(digest).getLong();
  }

  /** The linear modules of a model's layers by Hugging Face's names: where adapters may sit. */
  public static List<String> modules(ModelConfig model) {
    List<String> modules = new ArrayList<>();
    for (int layer = 0; layer < model.layers(); layer++) {
      for (Projection.Group group : ModelLayout.groups(model)) {
        for (Projection.Part part : group.parts()) {
          modules.add(ParameterNames.module(layer, part.module()));
        }
      }
    }
    return modules;
  }

  /**
   * Where A and B stand for a model: the A of projections that share an input side by side, then
   * their B.
   */
  public static Layout layout(ModelConfig model, LoraConfig config) {
    Map<String, LoraConfig.Adapter> adapters = config.resolve(modules(model));
    Layout.Builder builder = new Layout.Builder();
    for (int layer = 0; layer < model.layers(); layer++) {
      for (Projection.Group group : ModelLayout.groups(model)) {
        builder.align();
        for (Projection.Part part : group.parts()) {
          LoraConfig.Adapter adapter = adapters.get(ParameterNames.module(layer, part.module()));
          if (adapter != null) {
            builder.matrix(nameA(layer, part.module()), adapter.rank(), group.in());
          }
        }
        builder.align();
        for (Projection.Part part : group.parts()) {
          LoraConfig.Adapter adapter = adapters.get(ParameterNames.module(layer, part.module()));
          if (adapter != null) {
            builder.matrix(nameB(layer, part.module()), part.out(), adapter.rank());
          }
        }
      }
    }
    return builder.build();
  }

  private static void initial(Layout layout, long seed, Sink sink) {
    long tensor = 0;
    for (Parameter p : layout.parameters().values()) {
      if (p.name().endsWith(".lora_A.weight")) {
        double bound = 1 / StrictMath.sqrt((double) p.columns());
        for (long row = 0; row < p.elements() / p.columns(); row++) {
          long first = row * p.columns();
          float[] values = Initializer.uniform((int) p.columns(), bound, seed, tensor, first);
          sink.put(p.offset() + first, FloatBuffer.wrap(values));
        }
      }
      tensor++;
    }
  }

  private long ref(String name) {
    return working + layout.parameter(name).offset() * ops.dtype().bytes();
  }

  @Override
  public void close() {
    if (trainable != null) {
      trainable.close();
    }
    arena.close();
  }
}
