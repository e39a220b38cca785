package org.lethe.model;

import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.lethe.UserException;
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
  private final Ops ops;
  private final ModelConfig config;
  private final Layout layout;
  private final ModelMemory memory;
  private final BaseWeights weights;
  private final AdapterRoom room;
  private final Adapters adapters = new Adapters();
  private final Projections projections = new Projections(this, adapters);
  private Optional<String> sourceHash = Optional.empty();
  private Trainable trainable;
  private OptimizerConfig optimizer = OptimizerConfig.DEFAULT;

  private Model(Ops ops, ModelConfig config, WeightPlacement placement, AdapterRoom room) {
    this.ops = ops;
    this.config = config;
    this.layout = layout(config);
    this.room = room;
    this.memory = ModelMemory.take(ops, config, placement, room);
    this.weights = memory.weights();
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
    return ModelMemory.bytes(config, dtype, placement, room);
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
      model.memory.rotary().write();
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
    projections.close();
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
    carried.addAll(adapters.configs());
    room.requireFit(config, ops.dtype(), carried);
  }

  private Lora own(Lora lora) {
    adapters.own(lora);
    projections.close();
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

  /** The update that the backward pass of all weights does itself; null where it does none. */
  FusedUpdate fusedUpdate() {
    return trainable == null ? null : trainable.fused();
  }

  /** Makes every weight trainable: the same code as adapters, with dense gradients. */
  public Trainable trainWeights() {
    requireFrozen();
    trainable = FullParameters.train(ops, config, weights, adapters, optimizer);
    projections.close();
    return trainable;
  }

  /** Recomputes what is derived from the weights; called after they were updated. */
  public void refreshHeadMean() {
    ops.head().mean(config.hiddenSize(), config.vocabularySize(), headWeight(), headMean());
  }

  /** The ref of a weight in storage; one that is kept in codes has none. */
  public long weight(String name) {
    return weights.at(name);
  }

  /** The linear of a group, without adapters. */
  long linear(int layer, Projection.Group group) {
    return weights.linear(ops, layer, group, this::gradient);
  }

  /** Bytes of its device that the weights take, with what is derived of them. */
  public long bytes() {
    return memory.bytes();
  }

  /**
   * Copies a parameter, in storage, to little-endian host memory: {@code staging} limits the
   * pieces. One that is kept in codes is dequantised, room for adapters left out.
   */
  public void readWeight(String name, Staging staging, PieceConsumer consumer) {
    new WeightTransfer(ops, weights, staging).read(name, consumer);
  }

  /**
   * SHA-256 over the sizes, the storage, every weight as it stands now and the adapters that {@link
   * #reference} has, in hexadecimal: two models with the same fingerprint give the same numbers.
   */
  public String fingerprint() {
    return Fingerprint.of(this, adapters);
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
    return memory.headMean();
  }

  /** What positions turn by. */
  RotaryTables rotary() {
    return memory.rotary();
  }

  /** The widths of u that hold whatever the view: no view has more than every adapter. */
  public AdapterWidths adapterWidths() {
    return projections.widths(adapters.widest());
  }

  /** What its ops take of its engine's scratch memory, with all that it carries. */
  public ScratchPlan scratch() {
    boolean adaptersTrain = lora() != null && lora().trainable() != null;
    return new ScratchPlan(
        config,
        ops.dtype(),
        adapters.configs(),
        room,
        adaptersTrain ? lora().config() : null,
        trainable() == null ? null : optimizer,
        ops.backend().isHost());
  }

  /** The layers as a view has them. */
  List<Projections.Layer> layers(View view) {
    return projections.of(view);
  }

  @Override
  public void close() {
    projections.close();
    adapters.close();
    if (trainable != null) {
      trainable.close();
    }
    memory.close();
  }

  private void requireFrozen() {
    if (lora() != null || trainable != null) {
      throw new UserException("this model already trains; load a second one");
    }
  }
}
