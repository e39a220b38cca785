package org.lethe.checkpoint;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.lethe.checkpoint.quant.FourBit;
import org.lethe.checkpoint.quant.FourBitBlocks;
import org.lethe.checkpoint.quant.QuantState;
import org.lethe.model.Nf4Codes;
import org.lethe.model.quant.DynamicMap;
import org.lethe.model.quant.NestedScales;

/**
 * A 4-bit weight {@code W}: packed codes under its own name, and {@code W.absmax}, {@code
 * W.quant_map}, {@code W.nested_absmax}, {@code W.nested_quant_map}, {@code
 * W.quant_state.bitsandbytes__nf4} beside it. Scales are read with the piece they belong to, so
 * that no tensor is ever whole in memory.
 */
final class FourBitTensor implements QuantizedTensor {
  static final String STATE = ".quant_state.bitsandbytes__";
  static final String ABSMAX = ".absmax";
  static final String QUANT_MAP = ".quant_map";
  static final String NESTED_ABSMAX = ".nested_absmax";
  static final String NESTED_QUANT_MAP = ".nested_quant_map";

  private static final int LARGEST_STATE = 1 << 16;
  private static final Map<String, StoredDtype> DTYPES =
      Map.of("float32", StoredDtype.F32, "float16", StoredDtype.F16, "bfloat16", StoredDtype.BF16);

  private final TensorSource source;
  private final String name;
  private final QuantState state;
  private final TensorInfo info;
  private final float[] nestedMap;

  private FourBitTensor(TensorSource source, String name, QuantState state, float[] nestedMap) {
    this.source = source;
    this.name = name;
    this.state = state;
    this.nestedMap = nestedMap;
    StoredDtype dtype = DTYPES.get(state.dtype());
    this.info =
        new TensorInfo(name, dtype, state.shape(), 0, state.elements() * (dtype.bits() / 8));
  }

  /**
   * Opens the weight to which a {@code quant_state} belongs.
   *
   * @param stateName of a tensor whose name contains {@link #STATE}
   * @throws org.lethe.UserException naming file and tensor, if a part is missing, too long, too
   *     short or not what the state says
   */
  static FourBitTensor open(TensorSource source, String stateName) {
    int cut = stateName.indexOf(STATE);
    String name = stateName.substring(0, cut);
    String tag = stateName.substring(cut + STATE.length());
    if (!source.names().contains(name)) {
      throw QuantizedTensor.error(source, stateName, "lacks '" + name + "'");
    }
    FourBit code =
        QuantizationConfig.fourBit(tag)
            .orElseThrow(
                () ->
                    QuantizedTensor.error(
                        source, name, "is of quant_type '" + tag + "', Lethe reads nf4 and fp4"));
    QuantState state = state(source, name, stateName, code);
    long elements = state.elements();
    if (source.info(name).bytes() != FourBitBlocks.packedBytes(elements)) {
      throw QuantizedTensor.error(
          source,
          name,
          "has "
              + source.info(name).bytes()
              + " bytes, by its quant_state "
              + FourBitBlocks.packedBytes(elements)
              + " for the shape "
              + state.shape());
    }
    checkMap(source, name, code);
    long blocks = FourBitBlocks.blocks(elements, state.blockSize());
    float[] nestedMap = new float[0];
    if (state.nested().isPresent()) {
      int nestedSize = state.nested().get().blockSize();
      QuantizedTensor.require(source, name, name + ABSMAX, StoredDtype.U8, blocks);
      QuantizedTensor.require(
          source,
          name,
          name + NESTED_ABSMAX,
          StoredDtype.F32,
          FourBitBlocks.blocks(blocks, nestedSize));
      String map = name + NESTED_QUANT_MAP;
      QuantizedTensor.require(source, name, map, StoredDtype.F32, DynamicMap.SIZE);
      nestedMap = QuantizedTensor.floats(source, map, 0, DynamicMap.SIZE);
    } else {
      checkNotNested(source, name);
      QuantizedTensor.require(source, name, name + ABSMAX, StoredDtype.F32, blocks);
    }
    return new FourBitTensor(source, name, state, nestedMap);
  }

  private static QuantState state(
      TensorSource source, String name, String stateName, FourBit code) {
    TensorInfo info = source.info(stateName);
    if (info.dtype() != StoredDtype.U8 || info.bytes() > LARGEST_STATE) {
      throw QuantizedTensor.error(
          source, name, "has a quant_state of " + info.bytes() + " " + info.dtype());
    }
    try {
      return QuantState.parse(
          code, QuantizedTensor.bytes(source, stateName, 0, (int) info.bytes()));
    } catch (IllegalArgumentException e) {
      throw QuantizedTensor.error(source, name, "has a quant_state that " + e.getMessage());
    }
  }

  /** bitsandbytes dequantises by the tag alone; a file that says otherwise is not what it seems. */
  private static void checkMap(TensorSource source, String name, FourBit code) {
    String map = name + QUANT_MAP;
    QuantizedTensor.require(source, name, map, StoredDtype.F32, FourBit.CODES);
    float[] values = QuantizedTensor.floats(source, map, 0, FourBit.CODES);
    for (int i = 0; i < FourBit.CODES; i++) {
      // FP4's code 8 is stored as 0 and means -0.
      if (values[i] != code.value(i)) {
        throw QuantizedTensor.error(
            source,
            name,
            "is tagged "
                + code.tag()
                + ", but its quant_map says "
                + values[i]
                + " at "
                + i
                + ", not "
                + code.value(i));
      }
    }
  }

  private static void checkNotNested(TensorSource source, String name) {
    boolean nested =
        source.names().contains(name + NESTED_ABSMAX)
            || (source.names().contains(name + ABSMAX)
                && source.info(name + ABSMAX).dtype() == StoredDtype.U8);
    if (nested) {
      throw QuantizedTensor.error(
          source,
          name,
          "has scales that are quantised in their turn, but no nested_offset in its quant_state");
    }
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public Set<String> companions() {
    String tag = name + STATE + state.code().tag();
    List<String> names = new ArrayList<>(List.of(name + ABSMAX, name + QUANT_MAP, tag));
    if (state.nested().isPresent()) {
      names.add(name + NESTED_ABSMAX);
      names.add(name + NESTED_QUANT_MAP);
    }
    return Set.copyOf(names);
  }

  @Override
  public float[] values(long first, int count) {
    int size = state.blockSize();
    long block = first / size;
    int skip = (int) (first % size);
    int blocks = (skip + count + size - 1) / size;
    byte[] packed =
        QuantizedTensor.bytes(
            source,
            name,
            block * size / 2,
            Math.toIntExact(FourBitBlocks.packedBytes(skip + count)));
    float[] values = new float[count];
    FourBitBlocks.unpack(state.code(), packed, size, scales(block, blocks), skip, values);
    return values;
  }

  @Override
  public Optional<Nf4Codes> nf4(boolean nested) {
    boolean same =
        state.code() == FourBit.NF4
            && state.blockSize() == Nf4Codes.BLOCK_SIZE
            && state.nested().isPresent() == nested
            && (!nested || isUsual(state.nested().get()));
    if (!same) {
      return Optional.empty();
    }
    int blocks = Math.toIntExact(FourBitBlocks.blocks(state.elements(), state.blockSize()));
    Nf4Codes.Reader packed = (offset, target) -> source.readInto(name, offset, target);
    if (!nested) {
      float[] scales = QuantizedTensor.floats(source, name + ABSMAX, 0, blocks);
      return Optional.of(new Nf4Codes(packed, scales, Optional.empty()));
    }
    int groups = Math.toIntExact(FourBitBlocks.blocks(blocks, NestedScales.BLOCK_SIZE));
    NestedScales scales =
        new NestedScales(
            state.nested().get().offset(),
            QuantizedTensor.bytes(source, name + ABSMAX, 0, blocks),
            QuantizedTensor.floats(source, name + NESTED_ABSMAX, 0, groups));
    return Optional.of(new Nf4Codes(packed, new float[0], Optional.of(scales)));
  }

  /** Whether scales are quantised in the blocks and to the values that bitsandbytes has. */
  private boolean isUsual(QuantState.Nested nested) {
    return nested.blockSize() == NestedScales.BLOCK_SIZE
        && Arrays.equals(nestedMap, DynamicMap.values());
  }

  private float[] scales(long first, int count) {
    if (state.nested().isEmpty()) {
      return QuantizedTensor.floats(source, name + ABSMAX, first, count);
    }
    QuantState.Nested nested = state.nested().get();
    byte[] codes = QuantizedTensor.bytes(source, name + ABSMAX, first, count);
    long firstNested = first / nested.blockSize();
    int nestedCount = (int) ((first + count - 1) / nested.blockSize() - firstNested) + 1;
    float[] scales = QuantizedTensor.floats(source, name + NESTED_ABSMAX, firstNested, nestedCount);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      float scale = scales[(int) ((first + i) / nested.blockSize() - firstNested)];
      values[i] = NestedScales.scale(nestedMap, codes[i], scale, nested.offset());
    }
    return values;
  }
}
