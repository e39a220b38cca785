package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.lethe.UserException;
import org.lethe.checkpoint.quant.FourBit;
import org.lethe.checkpoint.quant.FourBitBlocks;
import org.lethe.checkpoint.quant.Int8Rows;
import org.lethe.checkpoint.quant.QuantState;
import org.lethe.model.quant.DynamicMap;
import org.lethe.model.quant.NestedScales;

/**
 * Writes a linear's weight in bitsandbytes' layout, the tensors that {@code Linear4bit} and {@code
 * Linear8bitLt} keep. The weight passes through in pieces; its scales alone stay in memory.
 */
final class QuantizedWriter {
  /** What transformers always takes. */
  private static final int BLOCK_SIZE = 64;

  /** A multiple of every block size. */
  private static final int PIECE_ELEMENTS = 1 << 18;

  private final Path target;
  private final Quantization scheme;

  /**
   * @param target named in errors
   */
  QuantizedWriter(Path target, Quantization scheme) {
    this.target = target;
    this.scheme = scheme;
  }

  /**
   * The tensors a weight becomes. Double quantisation reads the values once for it: the length of
   * the quant_state depends on the mean of the scales.
   *
   * @param plain the weight, of a type {@link FloatStream} writes
   * @param values its values before they are rounded to that type
   */
  List<TensorSpec> specs(TensorSpec plain, FloatStream.Supplier values) {
    String name = plain.name();
    if (scheme.fourBit().isEmpty()) {
      String module = name.substring(0, name.length() - Int8Tensor.WEIGHT.length());
      return List.of(
          new TensorSpec(name, StoredDtype.I8, plain.shape()),
          TensorSpec.of(module + Int8Tensor.SCALES, StoredDtype.F32, plain.shape().get(0)),
          TensorSpec.of(module + Int8Tensor.FORMAT, StoredDtype.U8));
    }
    long elements = elements(plain);
    long blocks = FourBitBlocks.blocks(elements, BLOCK_SIZE);
    StoredDtype scales = scheme.nested() ? StoredDtype.U8 : StoredDtype.F32;
    List<TensorSpec> specs = new ArrayList<>();
    specs.add(TensorSpec.of(name, StoredDtype.U8, FourBitBlocks.packedBytes(elements), 1));
    specs.add(TensorSpec.of(name + FourBitTensor.ABSMAX, scales, blocks));
    Optional<Float> offset = Optional.empty();
    if (scheme.nested()) {
      long nested = FourBitBlocks.blocks(blocks, NestedScales.BLOCK_SIZE);
      specs.add(TensorSpec.of(name + FourBitTensor.NESTED_ABSMAX, StoredDtype.F32, nested));
      specs.add(
          TensorSpec.of(name + FourBitTensor.NESTED_QUANT_MAP, StoredDtype.F32, DynamicMap.SIZE));
      offset = Optional.of(NestedScales.of(scales(plain, values)).offset());
    }
    specs.add(TensorSpec.of(name + FourBitTensor.QUANT_MAP, StoredDtype.F32, FourBit.CODES));
    byte[] state = state(plain, offset).json();
    specs.add(TensorSpec.of(stateName(name), StoredDtype.U8, state.length));
    return specs;
  }

  /**
   * Writes them, in that order.
   *
   * @throws UserException if a value is not finite, or too large for the fp16 that LLM.int8() goes
   *     through
   * @throws IOException if the writer's channel fails
   */
  void write(SafetensorsWriter writer, TensorSpec plain, FloatStream.Supplier values)
      throws IOException {
    if (scheme.fourBit().isEmpty()) {
      writeRows(writer, plain, values);
    } else {
      writeBlocks(writer, plain, values, scheme.fourBit().get());
    }
  }

  private void writeBlocks(
      SafetensorsWriter writer, TensorSpec plain, FloatStream.Supplier values, FourBit code)
      throws IOException {
    String name = plain.name();
    long elements = elements(plain);
    float[] scales = new float[Math.toIntExact(FourBitBlocks.blocks(elements, BLOCK_SIZE))];
    for (long at = 0; at < elements; at += PIECE_ELEMENTS) {
      float[] piece = piece(plain, values, at, count(elements, at, PIECE_ELEMENTS));
      float[] some = scales(piece, scales, at);
      byte[] packed = new byte[(int) FourBitBlocks.packedBytes(piece.length)];
      FourBitBlocks.pack(code, piece, piece.length, BLOCK_SIZE, some, packed);
      writer.write(name, ByteBuffer.wrap(packed));
    }
    Optional<Float> offset = Optional.empty();
    if (scheme.nested()) {
      NestedScales nested = NestedScales.of(scales);
      offset = Optional.of(nested.offset());
      writer.write(name + FourBitTensor.ABSMAX, ByteBuffer.wrap(nested.codes()));
      writer.write(name + FourBitTensor.NESTED_ABSMAX, floats(nested.scales()));
      writer.write(name + FourBitTensor.NESTED_QUANT_MAP, floats(DynamicMap.values()));
    } else {
      writer.write(name + FourBitTensor.ABSMAX, floats(scales));
    }
    float[] map = new float[FourBit.CODES];
    for (int i = 0; i < map.length; i++) {
      // Adding 0 makes FP4's -0 the 0 that bitsandbytes stores.
      map[i] = code.value(i) + 0f;
    }
    writer.write(name + FourBitTensor.QUANT_MAP, floats(map));
    writer.write(stateName(name), ByteBuffer.wrap(state(plain, offset).json()));
  }

  private void writeRows(SafetensorsWriter writer, TensorSpec plain, FloatStream.Supplier values)
      throws IOException {
    String name = plain.name();
    int rows = Math.toIntExact(plain.shape().get(0));
    int columns = Math.toIntExact(plain.shape().get(1));
    int together = Math.max(1, PIECE_ELEMENTS / columns);
    float[] scales = new float[rows];
    for (int row = 0; row < rows; row += together) {
      int some = Math.min(together, rows - row);
      float[] piece = piece(plain, values, (long) row * columns, some * columns);
      Halves.requireRange(target, name, StoredDtype.F16, FloatBuffer.wrap(piece));
      for (int i = 0; i < piece.length; i++) {
        piece[i] = FloatStream.round(StoredDtype.F16, piece[i]);
      }
      byte[] codes = new byte[piece.length];
      for (int i = 0; i < some; i++) {
        scales[row + i] = Int8Rows.pack(piece, i * columns, columns, codes);
      }
      writer.write(name, ByteBuffer.wrap(codes));
    }
    String module = name.substring(0, name.length() - Int8Tensor.WEIGHT.length());
    writer.write(module + Int8Tensor.SCALES, floats(scales));
    writer.write(module + Int8Tensor.FORMAT, ByteBuffer.wrap(new byte[1]));
  }

  private float[] scales(TensorSpec plain, FloatStream.Supplier values) {
    long elements = elements(plain);
    float[] scales = new float[Math.toIntExact(FourBitBlocks.blocks(elements, BLOCK_SIZE))];
    for (long at = 0; at < elements; at += PIECE_ELEMENTS) {
      scales(piece(plain, values, at, count(elements, at, PIECE_ELEMENTS)), scales, at);
    }
    return scales;
  }

  /** The scales of a piece, which are also put to their place among all. */
  private static float[] scales(float[] piece, float[] all, long at) {
    float[] some = new float[(int) FourBitBlocks.blocks(piece.length, BLOCK_SIZE)];
    FourBitBlocks.scales(piece, piece.length, BLOCK_SIZE, some);
    System.arraycopy(some, 0, all, (int) (at / BLOCK_SIZE), some.length);
    return some;
  }

  private float[] piece(TensorSpec plain, FloatStream.Supplier values, long first, int count) {
    FloatBuffer buffer =
        ByteBuffer.allocateDirect(count * Float.BYTES)
            .order(ByteOrder.nativeOrder())
            .asFloatBuffer();
    values.get(plain.name(), first, buffer.slice());
    float[] piece = new float[count];
    buffer.get(piece);
    for (int i = 0; i < count; i++) {
      piece[i] = FloatStream.round(plain.dtype(), piece[i]);
      if (!Float.isFinite(piece[i])) {
        throw new UserException(
            target
                + ": tensor '"
                + plain.name()
                + "' holds "
                + piece[i]
                + ", which cannot be quantised; mend the weights or write them unquantised");
      }
    }
    return piece;
  }

  private QuantState state(TensorSpec plain, Optional<Float> offset) {
    return new QuantState(
        scheme.fourBit().orElseThrow(),
        BLOCK_SIZE,
        HuggingFaceConfig.dtypeName(plain.dtype()),
        plain.shape(),
        offset.map(value -> new QuantState.Nested(NestedScales.BLOCK_SIZE, value)));
  }

  private String stateName(String weight) {
    return weight + FourBitTensor.STATE + scheme.fourBit().orElseThrow().tag();
  }

  private static long elements(TensorSpec plain) {
    return plain.bytes() / (plain.dtype().bits() / 8);
  }

  private static int count(long elements, long at, int piece) {
    return (int) Math.min(piece, elements - at);
  }

  private static ByteBuffer floats(float[] values) {
    ByteBuffer bytes =
        ByteBuffer.allocate(values.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(values);
    return bytes;
  }
}
