package org.lethe.model;

import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;

/**
 * A decoder's weights on a device, with the adapters or the optimizer state that make it trainable.
 *
 * <p>Owns all of them. The reference model is not a second model: it is this one with its adapters
 * left out ({@link Decoder}). Only the backend's thread may call it.
 */
public final class Model implements AutoCloseable {
  private static final int STAGING_BYTES = 4 << 20;

  private final Ops ops;
  private final ModelConfig config;
  private final Layout layout;
  private final Arena arena;
  private final BaseWeights weights;
  private final AdapterRoom room;
  private final Offsets offsets;
  private final Adapters adapters = new Adapters();
  private final Map<View, List<Layer>> layers = new HashMap<>();
  private Optional<String> sourceHash = Optional.empty();
  private Trainable trainable;
  private OptimizerConfig optimizer = OptimizerConfig.DEFAULT;

  /** The projections of one layer. */
  record Layer(Projection qkv, Projection o, Projection gateUp, Projection down) {}

  /** Projections that read the same input of width {@code in}; all or none have a bias. */
  record Group(int in, List<Projection.Part> parts, boolean bias) {
    /** Output width of all parts. */
    int out() {
      return parts.stream().mapToInt(Projection.Part::out).sum();
    }
  }

  private Model(Ops ops, ModelConfig config, WeightPlacement placement, AdapterRoom room) {
    placement.requirePossible(config, ops.backend().isHost());
    this.ops = ops;
    this.config = config;
    this.layout = layout(config);
    this.room = room;
    this.arena = new Arena(ops.backend(), "weights");
    this.weights = BaseWeights.reserve(arena, config, ops.dtype(), placement, room);
    this.offsets = Offsets.reserve(arena, config);
    MemoryPlan.take(arena::allocate, this::plan);
    try {
      weights.takeHost(ops.backend());
    } catch (RuntimeException e) {
      arena.close();
      throw e;
    }
  }

  private MemoryPlan plan() {
    WeightPlacement own = weights.placement();
    WeightPlacement codes = own.with(BaseStorage.NF4_DOUBLE);
    WeightPlacement moved = own.withEmbeddingOnHost();
    boolean moves = WeightPlacement.embeddingMayMove(config, ops.backend().isHost());
    return new MemoryPlan()
        .part("weights", arena.bytes())
        .remedy("dtype=bf16", arena.bytes() - bytes(config, Dtype.BF16, own, room))
        .remedy(
            "quantize_base=nf4_double, under adapters,",
            arena.bytes() - bytes(config, ops.dtype(), codes, room))
        .remedy(
            "memory.embedding=host, under adapters,",
            moves ? arena.bytes() - bytes(config, ops.dtype(), moved, room) : 0)
        .remedy("a model with fewer parameters, another device, or device=cpu");
  }

  /** Byte offsets in the model's arena. */
  private record Offsets(long cos, long sin, long headMean) {
    static Offsets reserve(Arena arena, ModelConfig config) {
      long positions = config.rotaryRows() * (config.rotary().width() / 2);
      return new Offsets(
          arena.reserve(positions, Dtype.F32),
          arena.reserve(positions, Dtype.F32),
          arena.reserve(config.hiddenSize(), Dtype.F32));
    }
  }

  /** Bytes on its device of a frozen model of these sizes: what loading it will take. */
  public static long bytes(ModelConfig config, Dtype dtype) {
    return bytes(config, dtype, WeightPlacement.PLAIN);
  }

  /** The same with weights kept in another way; what is on the host does not count. */
  public static long bytes(ModelConfig config, Dtype dtype, WeightPlacement placement) {
    return bytes(config, dtype, placement, AdapterRoom.NONE);
  }

  /** The same with room for adapters in the weights of its linears. */
  public static long bytes(
      ModelConfig config, Dtype dtype, WeightPlacement placement, AdapterRoom room) {
    Arena planned = new Arena(null);
    BaseWeights.reserve(planned, config, dtype, placement, room);
    Offsets.reserve(planned, config);
    return planned.bytes();
  }

  /**
   * Bytes on its device while it is loaded: what weights pass through is given back, and what its
   * ops took of an engine's scratch memory stays.
   */
  public static long loadingBytes(
      ModelConfig config, Dtype dtype, WeightPlacement placement, AdapterRoom room, boolean host) {
    return bytes(config, dtype, placement, room)
        + WeightLoader.STAGING_BYTES
        + ScratchPlan.loading(config, host);
  }

  /**
   * A frozen model with the weights of {@code source}; missing, extra and misshapen tensors are
   * errors.
   */
  public static Model load(Ops ops, ModelConfig config, WeightSource source) {
    return load(ops, config, source, WeightPlacement.PLAIN);
  }

  /** The same with weights kept in another way. */
  public static Model load(
      Ops ops, ModelConfig config, WeightSource source, WeightPlacement placement) {
    return load(ops, config, source, placement, List.of());
  }

  /**
   * The same for a model that is to carry adapters: a device that wants them in the products of its
   * weights gets room for them there. Without, or where it wants none, adapters have products of
   * their own.
   *
   * @param adapters all that it will carry at one time
   */
  public static Model load(
      Ops ops,
      ModelConfig config,
      WeightSource source,
      WeightPlacement placement,
      List<LoraConfig> adapters) {
    AdapterRoom room = AdapterRoom.of(SpareRule.of(ops), config, adapters);
    Model model = new Model(ops, config, placement, room);
    try {
      WeightLoader.load(ops, model.weights, config, source);
      model.writeRotaryTables();
      model.refreshHeadMean();
      model.sourceHash = source.hash();
    } catch (RuntimeException e) {
      model.close();
      throw e;
    }
    return model;
  }

  /** Where a model's parameters stand, by Hugging Face's names. */
  public static Layout layout(ModelConfig config) {
    return ModelLayout.of(config);
  }

  /** The weights that adapters may sit on, by their modules' full names; [out, in] each. */
  public static Map<String, Parameter> projections(ModelConfig config) {
    return ModelLayout.projections(config);
  }

  /**
   * The projections of a layer in the order it runs them, grouped by the GEMM that computes them.
   */
  static List<Group> groups(ModelConfig config) {
    return ModelLayout.groups(config);
  }

  /** Its sizes. */
  public ModelConfig config() {
    return config;
  }

  /** The ops of its device, in its storage. */
  public Ops ops() {
    return ops;
  }

  /** How and where it keeps its weights. */
  public WeightPlacement placement() {
    return weights.placement();
  }

  /** How it keeps the weights of its layers' linears. */
  public BaseStorage storage() {
    return weights.storage();
  }

  /** The {@link WeightSource#hash} of the weights it was loaded with. */
  public Optional<String> sourceHash() {
    return sourceHash;
  }

  /** Where its parameters stand. */
  public Layout layout() {
    return layout;
  }

  /** The adapter that trains, or was given as the model's own; null without one. */
  public Lora lora() {
    return adapters.own();
  }

  /** What the model computes, and trains: {@link #reference} and its own adapter. */
  public View view() {
    return adapters.all();
  }

  /** What it is compared with, and started from: the base, or what {@link #startFrom} said. */
  public View reference() {
    return adapters.reference();
  }

  /** Starts from a view of frozen adapters instead of from the base. */
  public void startFrom(View view) {
    adapters.startFrom(view);
    closeProjections();
  }

  /** Gives a view a name, by which a method asks for it. */
  public void name(String name, View view) {
    adapters.name(name, view);
  }

  /**
   * The view of that name; "" is {@link #reference}.
   *
   * @throws UserException when there is none
   */
  public View view(String name) {
    return adapters.view(name);
  }

  /** A frozen adapter that {@link #addFrozen} added. */
  public Lora frozen(String name) {
    return adapters.named(name);
  }

  /**
   * Adds a frozen adapter, which acts in the views that name it and nowhere else.
   *
   * @param name by which {@link #frozen} finds it
   * @param values fp32 in the order of {@link Lora#layout}
   */
  public Lora addFrozen(String name, LoraConfig loraConfig, float[] values) {
    return addFrozen(name, loraConfig, all(values));
  }

  /** The same with values that come in pieces. */
  public Lora addFrozen(String name, LoraConfig loraConfig, Lora.Values values) {
    requireRoom(loraConfig);
    Lora added = Lora.of(ops, config, loraConfig, values, null);
    adapters.add(name, added);
    return added;
  }

  /**
   * What a step updates: the adapters' or the weights' optimizer state; null while everything is
   * frozen.
   */
  public Trainable trainable() {
    return lora() != null ? lora().trainable() : trainable;
  }

  /** Whether the base weights themselves train. */
  public boolean trainsWeights() {
    return trainable != null;
  }

  /** Adds fresh adapters; the base stays frozen. */
  public Lora addLora(LoraConfig loraConfig, long seed) {
    requireFrozen();
    requireRoom(loraConfig);
    return own(Lora.fresh(ops, config, loraConfig, seed, adapterOptimizer()));
  }

  /**
   * Adds adapters with given values.
   *
   * @param values fp32 in the order of {@link Lora#layout}
   * @param trains whether they get optimizer state
   */
  public Lora addLora(LoraConfig loraConfig, float[] values, boolean trains) {
    return addLora(loraConfig, all(values), trains);
  }

  private static Lora.Values all(float[] values) {
    return sink -> sink.put(0, FloatBuffer.wrap(values));
  }

  /** The same with values that come in pieces. */
  public Lora addLora(LoraConfig loraConfig, Lora.Values values, boolean trains) {
    requireFrozen();
    requireRoom(loraConfig);
    return own(Lora.of(ops, config, loraConfig, values, trains ? adapterOptimizer() : null));
  }

  private void requireRoom(LoraConfig added) {
    List<LoraConfig> carried = new ArrayList<>(List.of(added));
    adapters.widest().adapters().forEach(w -> carried.add(w.adapter().config()));
    room.requireFit(config, ops.dtype(), carried);
  }

  private Lora own(Lora lora) {
    adapters.own(lora);
    closeProjections();
    return lora;
  }

  /**
   * What the optimizer of whatever begins to train from here on keeps; {@link
   * OptimizerConfig#DEFAULT} where nothing is said.
   */
  public void optimizer(OptimizerConfig value) {
    optimizer = value;
  }

  /** Adapters' gradients are small and exist at once. */
  private OptimizerConfig adapterOptimizer() {
    if (optimizer.fused()) {
      throw new UserException(
          "train.fused_update is for training all weights, but adapters train here; set"
              + " train.full_parameters=true, or train.fused_update=false");
    }
    return optimizer;
  }

  private MemoryPlan trainablePlan() {
    Dtype storage = ops.dtype();
    long bytes = Trainable.bytes(config, storage, optimizer);
    OptimizerConfig o = optimizer;
    MemoryPlan plan = new MemoryPlan().part("gradients and optimizer of all weights", bytes);
    OptimizerConfig coded =
        new OptimizerConfig(o.master(), OptimizerConfig.Moments.EIGHT_BIT, o.fused());
    plan.remedy("train.optimizer_state=8bit", bytes - Trainable.bytes(config, storage, coded));
    OptimizerConfig fused = new OptimizerConfig(o.master(), o.moments(), true);
    plan.remedy("train.fused_update=true", bytes - Trainable.bytes(config, storage, fused));
    if (storage == Dtype.BF16) {
      OptimizerConfig none =
          new OptimizerConfig(OptimizerConfig.Master.NONE, o.moments(), o.fused());
      plan.remedy("train.master=none", bytes - Trainable.bytes(config, storage, none));
    }
    return plan.remedy("adapters instead (train.full_parameters=false)", bytes);
  }

  /** The gradients of the head and the final norm are whole, but for a tied embedding's. */
  void endGradientsDone() {
    if (trainable != null && trainable.fused() != null) {
      trainable.fused().endDone();
    }
  }

  /** A layer's gradients are whole. */
  void layerGradientsDone(int layer) {
    if (trainable != null && trainable.fused() != null) {
      trainable.fused().layerDone(layer);
    }
  }

  /** The embedding's gradient is whole. */
  void embeddingGradientDone() {
    if (trainable != null && trainable.fused() != null) {
      trainable.fused().embeddingDone();
    }
  }

  /** Makes every weight trainable: the same code as adapters, with dense gradients. */
  public Trainable trainWeights() {
    requireFrozen();
    if (storage().quantized()) {
      throw new UserException(
          "all weights are to train, but those of the layers are kept in 4-bit codes, which have"
              + " no gradients; load them plain (quantize_base=none), or train adapters"
              + " (train.full_parameters=false)");
    }
    if (weights.placement().embeddingOnHost()) {
      throw new UserException(
          "all weights are to train, but the embedding is kept on the host, where it is frozen; set"
              + " memory.embedding=device, or train adapters (train.full_parameters=false)");
    }
    if (adapters.hasFrozen()) {
      throw new UserException(
          "all weights train, and adapters lie on them; merge the adapters into the model first");
    }
    if (!weights.standAs(layout)) {
      throw new UserException(
          "all weights are to train, but those of the layers were loaded with room for adapters;"
              + " load the model without (LoadOptions.withAdapters of none)");
    }
    UpdateGroups groups = UpdateGroups.of(config, layout);
    trainable =
        MemoryPlan.take(
            () -> new Trainable(ops, layout, groups, optimizer, arena.at(weights.first())),
            this::trainablePlan);
    closeProjections();
    return trainable;
  }

  /** Recomputes what is derived from the weights; called after they were updated. */
  public void refreshHeadMean() {
    ops.headMean(config.hiddenSize(), config.vocabularySize(), headWeight(), headMean());
  }

  /** The ref of a weight in storage; one that is kept in codes has none. */
  public long weight(String name) {
    return weights.buffer(name).at(weights.offset(name));
  }

  /** The linear of a group, without adapters. */
  long linear(int layer, Group group) {
    String module = group.parts().get(0).module();
    String bias = ParameterNames.bias(layer, module);
    long b = group.bias() ? weight(bias) : 0;
    Ops.Spare spare = room.of(ops.dtype(), layer, group);
    if (storage().quantized()) {
      return weights.linear(ops, layer, group, spare, b);
    }
    String first = ParameterNames.weight(layer, module);
    if (spare.any(group.in())) {
      return ops.linearCreateStrided(group.out(), group.in(), spare, weight(first), b);
    }
    long db = group.bias() ? gradient(bias) : 0;
    return ops.linearCreate(group.out(), group.in(), weight(first), gradient(first), b, db);
  }

  /** Bytes of its device that the weights take, with what is derived of them. */
  public long bytes() {
    return arena.bytes();
  }

  /**
   * Copies a parameter, in storage, to little-endian host memory: {@code staging} limits the
   * pieces. One that is kept in codes is dequantised, room for adapters left out.
   */
  public void readWeight(String name, Staging staging, PieceConsumer consumer) {
    if (!weights.isQuantized(name)) {
      new WeightTransfer(ops, weights, staging).read(name, consumer);
      return;
    }
    weights.dequantize(ops, name);
    long size = layout.parameter(name).elements() * ops.dtype().bytes();
    for (long done = 0; done < size; ) {
      int piece = (int) Math.min(staging.capacity(), size - done);
      staging.read(arena.buffer(), weights.scratch() + done, piece);
      consumer.accept(staging.bytes().clear().limit(piece));
      done += piece;
    }
  }

  /**
   * SHA-256 over the sizes, the storage, every weight as it stands now and the adapters that {@link
   * #reference} has, in hexadecimal: two models with the same fingerprint give the same numbers.
   */
  public String fingerprint() {
    MessageDigest digest = Hashes.sha256();
    digest.update(ops.dtype().name().getBytes(StandardCharsets.UTF_8));
    digest.update(config.toString().getBytes(StandardCharsets.UTF_8));
    if (storage().quantized()) {
      digest.update(storage().name().getBytes(StandardCharsets.UTF_8));
    }
    try (Staging staging = new Staging(STAGING_BYTES)) {
      for (String name : layout.parameters().keySet()) {
        readWeight(name, staging, digest::update);
      }
    }
    adapters.digestStart(digest);
    return HexFormat.of().formatHex(digest.digest());
  }

  /** Takes one piece of a tensor's bytes. */
  @FunctionalInterface
  public interface PieceConsumer {
    /** Takes a piece, which is overwritten after the call. */
    void accept(java.nio.ByteBuffer piece);
  }

  long headWeight() {
    return weight(config.tiedHead() ? ParameterNames.EMBEDDING : ParameterNames.HEAD);
  }

  /** The ref of the head's fp32 gradient; 0 while it is frozen. */
  long headGradient() {
    return gradient(config.tiedHead() ? ParameterNames.EMBEDDING : ParameterNames.HEAD);
  }

  /** The ref of a base weight's fp32 gradient; 0 while it is frozen. */
  long gradient(String name) {
    return trainable == null ? 0 : trainable.gradient(name);
  }

  long headMean() {
    return arena.at(offsets.headMean());
  }

  long cos() {
    return arena.at(offsets.cos());
  }

  long sin() {
    return arena.at(offsets.sin());
  }

  /** A layer of {@link #view}. */
  Layer layer(int index) {
    return layers(view()).get(index);
  }

  /** The widths of u that hold whatever the view: no view has more than every adapter. */
  public AdapterWidths adapterWidths() {
    AdapterWidths widest = AdapterWidths.NONE;
    for (Layer layer : layers(adapters.widest())) {
      widest = widest.or(AdapterWidths.of(layer));
    }
    return widest;
  }

  /** What its ops take of its engine's scratch memory, with all that it carries. */
  public ScratchPlan scratch() {
    List<LoraConfig> carried = new ArrayList<>();
    adapters.widest().adapters().forEach(w -> carried.add(w.adapter().config()));
    boolean adaptersTrain = lora() != null && lora().trainable() != null;
    return new ScratchPlan(
        config,
        ops.dtype(),
        carried,
        room,
        adaptersTrain ? lora().config() : null,
        trainable() == null ? null : optimizer,
        ops.backend().isHost());
  }

  /** The layers as a view has them. */
  List<Layer> layers(View view) {
    List<Layer> made = layers.get(view);
    if (made == null) {
      adapters.requireOwned(view);
      made = createProjections(view);
      layers.put(view, made);
    }
    return made;
  }

  @Override
  public void close() {
    closeProjections();
    adapters.close();
    if (trainable != null) {
      trainable.close();
    }
    weights.close();
    arena.close();
  }

  private void requireFrozen() {
    if (lora() != null || trainable != null) {
      throw new UserException("this model already trains; load a second one");
    }
  }

  private List<Layer> createProjections(View view) {
    List<Layer> created = new ArrayList<>();
    for (int layer = 0; layer < config.layers(); layer++) {
      List<Projection> p = new ArrayList<>();
      for (Group group : groups(config)) {
        p.add(Projection.create(this, layer, group, view));
      }
      created.add(new Layer(p.get(0), p.get(1), p.get(2), p.get(3)));
    }
    return created;
  }

  // They are made again when they are next asked for.
  private void closeProjections() {
    for (List<Layer> ofView : layers.values()) {
      for (Layer layer : ofView) {
        for (Projection p : List.of(layer.qkv(), layer.o(), layer.gateUp(), layer.down())) {
          ops.linearClose(p.linear());
        }
      }
    }
    layers.clear();
  }

  // Angles are rounded to fp32 where Hugging Face rounds them, so that positions turn by the same.
  private void writeRotaryTables() {
    Rotary rotary = config.rotary();
    int half = rotary.width() / 2;
    float[] cos = new float[half];
    float[] sin = new float[half];
    long row = 0;
    try (Staging staging = new Staging(half * Float.BYTES)) {
      for (int table = 0; table < rotary.tables(); table++) {
        float[] frequencies = rotary.frequencies(table);
        for (int position = 0; position < config.contextLength(); position++, row++) {
          for (int j = 0; j < half; j++) {
            float angle = position * frequencies[j];
            cos[j] = (float) StrictMath.cos(angle) * rotary.attentionFactor();
            sin[j] = (float) StrictMath.sin(angle) * rotary.attentionFactor();
          }
          long at = row * half * Float.BYTES;
          staging.upload(cos, half, arena.buffer(), offsets.cos() + at);
          staging.upload(sin, half, arena.buffer(), offsets.sin() + at);
        }
      }
    }
  }
}
