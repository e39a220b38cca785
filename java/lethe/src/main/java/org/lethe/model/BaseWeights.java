package org.lethe.model;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.ToLongFunction;
import org.lethe.InternalFaultException;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.LinearOps;
import org.lethe.kernels.Nf4Scales;
import org.lethe.kernels.Ops;
import org.lethe.model.quant.DynamicMap;
import org.lethe.model.quant.NestedScales;

/**
 * Where a model's parameters stand in its arena. Plain ones stand together, as their layout has
 * them; linears in 4-bit codes stand behind them, with one piece of memory for all, into which the
 * weight that is needed is dequantised. An embedding on the host has a buffer of its own.
 */
final class BaseWeights implements AutoCloseable {
  private final Arena arena;
  private final Dtype dtype;
  private final WeightPlacement placement;
  private final BaseStorage storage;
  private final AdapterRoom room;
  private final Parameter embedding;
  private final Layout plain;
  private final long first;
  private final Map<String, Codes> codes = new LinkedHashMap<>();
  private final Map<String, Float> offsets = new LinkedHashMap<>();
  private long scratch;
  private long map;
  private Buffer host;

  /**
   * A weight in codes: byte offsets of what it consists of.
   *
   * @param scales fp32, or bytes where they are quantised
   * @param nestedScales of the blocks of quantised scales
   */
  record Codes(Parameter parameter, long packed, long scales, long nestedScales) {}

  private BaseWeights(
      Arena arena, ModelConfig config, Dtype dtype, WeightPlacement placement, AdapterRoom room) {
    this.arena = arena;
    this.dtype = dtype;
    this.placement = placement;
    this.storage = placement.linears();
    this.room = room;
    this.plain = ModelLayout.of(config, dtype, placement, room);
    this.embedding = ModelLayout.of(config).parameter(ParameterNames.EMBEDDING);
    this.first = arena.reserve(plain.elements(), dtype);
  }

  /**
   * Reserves the device's memory of all parameters.
   *
   * @param room for adapters in the weights of the layers' linears, dequantised ones too
   */
  static BaseWeights reserve(
      Arena arena, ModelConfig config, Dtype dtype, WeightPlacement placement, AdapterRoom room) {
    BaseWeights made = new BaseWeights(arena, config, dtype, placement, room);
    if (!placement.linears().quantized()) {
      return made;
    }
    Model.projections(config).values().forEach(made::reserveCodes);
    long largest = 0;
    for (int layer = 0; layer < config.layers(); layer++) {
      for (Projection.Group group : ModelLayout.groups(config)) {
        LinearOps.Spare spare = room.of(dtype, layer, group);
        largest = Math.max(largest, (group.out() + spare.rows()) * spare.stride());
      }
    }
    made.scratch = arena.reserve(largest, dtype);
    made.map = arena.reserve(placement.linears().nested() ? DynamicMap.SIZE : 0, Dtype.F32);
    return made;
  }

  private void reserveCodes(Parameter p) {
    long blocks = Nf4Codes.blocks(p.elements());
    long groups = (blocks + NestedScales.BLOCK_SIZE - 1) / NestedScales.BLOCK_SIZE;
    long packed = arena.reserveBytes(Nf4Codes.packedBytes(p.elements()));
    codes.put(
        p.name(),
        storage.nested()
            ? new Codes(p, packed, arena.reserveBytes(blocks), arena.reserve(groups, Dtype.F32))
            : new Codes(p, packed, arena.reserve(blocks, Dtype.F32), 0));
  }

  /** Takes the host's memory of what stands there. */
  void takeHost(Backend backend) {
    if (placement.embeddingOnHost()) {
      host = backend.allocateHost(embedding.elements() * dtype.bytes(), "the embedding");
    }
  }

  WeightPlacement placement() {
    return placement;
  }

  BaseStorage storage() {
    return storage;
  }

  Arena arena() {
    return arena;
  }

  /** The byte offset of the plain parameters. */
  long first() {
    return first;
  }

  /** A plain parameter, where it stands among them. */
  Parameter parameter(String name) {
    return isOnHost(name) ? embedding : plain.parameter(name);
  }

  /** The memory in which a plain parameter stands. */
  Buffer buffer(String name) {
    return isOnHost(name) ? host : arena.buffer();
  }

  /** The byte offset of a plain parameter in its {@link #buffer}. */
  long offset(String name) {
    return isOnHost(name) ? 0 : first + plain.parameter(name).offset() * dtype.bytes();
  }

  /** The ref of a plain parameter. */
  long at(String name) {
    return buffer(name).at(offset(name));
  }

  private boolean isOnHost(String name) {
    return placement.embeddingOnHost() && name.equals(ParameterNames.EMBEDDING);
  }

  /** Whether the plain parameters stand as they do in another layout. */
  boolean standAs(Layout other) {
    return plain.elements() == other.elements();
  }

  /** Whether a parameter is kept in codes. */
  boolean isQuantized(String name) {
    return codes.containsKey(name);
  }

  /** A parameter that is kept in codes. */
  Codes codes(String name) {
    Codes found = codes.get(name);
    if (found == null) {
      throw new InternalFaultException(name + " is not kept in codes");
    }
    return found;
  }

  /** The byte offset of the memory into which weights are dequantised. */
  long scratch() {
    return scratch;
  }

  /** The byte offset of the values that quantised scales are codes of. */
  long map() {
    return map;
  }

  /** Keeps what is added to the quantised scales of a weight. */
  void nestedOffset(String name, float offset) {
    offsets.put(name, offset);
  }

  /** Dequantises a weight into {@link #scratch}. */
  void dequantize(Ops ops, String name) {
    Codes c = codes(name);
    ops.nf4Dequantize(
        c.parameter().elements(),
        Nf4Codes.BLOCK_SIZE,
        arena.at(c.packed()),
        scales(c),
        arena.at(scratch));
  }

  /**
   * The linear of a group, without adapters.
   *
   * @param gradient the ref of a parameter's fp32 gradient by its name; 0 while it is frozen
   */
  long linear(Ops ops, int layer, Projection.Group group, ToLongFunction<String> gradient) {
    String module = group.parts().get(0).module();
    String bias = ParameterNames.bias(layer, module);
    long b = group.bias() ? at(bias) : 0;
    LinearOps.Spare spare = room.of(ops.dtype(), layer, group);
    if (storage.quantized()) {
      return quantized(ops, layer, group, spare, b);
    }
    String first = ParameterNames.weight(layer, module);
    if (spare.any(group.in())) {
      return ops.linear().createStrided(group.out(), group.in(), spare, at(first), b);
    }
    long db = group.bias() ? gradient.applyAsLong(bias) : 0;
    return ops.linear()
        .create(group.out(), group.in(), at(first), gradient.applyAsLong(first), b, db);
  }

  private long quantized(
      Ops ops, int layer, Projection.Group group, LinearOps.Spare spare, long bias) {
    int block = Nf4Codes.BLOCK_SIZE;
    long linear =
        ops.linear().createNf4(group.out(), group.in(), spare, block, arena.at(scratch), bias);
    int firstOut = 0;
    for (Projection.Part part : group.parts()) {
      Codes c = codes(ParameterNames.weight(layer, part.module()));
      ops.linear().nf4Part(linear, firstOut, part.out(), arena.at(c.packed()), scales(c));
      firstOut += part.out();
    }
    return linear;
  }

  private Nf4Scales scales(Codes c) {
    if (!storage.nested()) {
      return Nf4Scales.plain(arena.at(c.scales()));
    }
    return new Nf4Scales(
        0,
        arena.at(c.scales()),
        arena.at(map),
        arena.at(c.nestedScales()),
        offsets.get(c.parameter().name()));
  }

  /** Gives the host's memory back; the arena is its owner's. */
  @Override
  public void close() {
    if (host != null) {
      host.close();
    }
  }
}
