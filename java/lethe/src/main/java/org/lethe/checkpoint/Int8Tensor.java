package org.lethe.checkpoint;

import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.lethe.checkpoint.quant.Int8Rows;

/**
 * A weight of LLM.int8(): {@code M.weight} I8 [out, in], {@code M.SCB} F32 [out], and {@code
 * M.weight_format} U8 when newer than bitsandbytes 0.37. Its plain values are fp32, as {@code
 * int8_vectorwise_dequant} gives them.
 */
final class Int8Tensor implements QuantizedTensor {
  static final String WEIGHT = ".weight";
  static final String SCALES = ".SCB";
  static final String FORMAT = ".weight_format";

  private final TensorSource source;
  private final String scales;
  private final TensorInfo info;
  private final Set<String> companions = new TreeSet<>();

  private Int8Tensor(TensorSource source, String name, String module) {
    this.source = source;
    this.scales = module + SCALES;
    TensorInfo stored = source.info(name);
    this.info =
        new TensorInfo(name, StoredDtype.F32, stored.shape(), 0, stored.elements() * Float.BYTES);
    companions.add(scales);
    if (source.names().contains(module + FORMAT)) {
      companions.add(module + FORMAT);
    }
  }

  /**
   * Opens an I8 weight.
   *
   * @throws org.lethe.UserException naming file and tensor, if scales are missing or of another
   *     length, or the weight is laid out for one kind of device
   */
  static Int8Tensor open(TensorSource source, String name) {
    TensorInfo info = source.info(name);
    if (!name.endsWith(WEIGHT) || info.shape().size() != 2 || info.elements() == 0) {
      throw QuantizedTensor.error(
          source, name, "is of type I8 and shape " + info.shape() + ", but no weight of a linear");
    }
    String module = name.substring(0, name.length() - WEIGHT.length());
    QuantizedTensor.require(source, name, module + SCALES, StoredDtype.F32, info.shape().get(0));
    String format = module + FORMAT;
    if (source.names().contains(format)) {
      QuantizedTensor.require(source, name, format, StoredDtype.U8, 1);
      byte found = QuantizedTensor.bytes(source, format, 0, 1)[0];
      if (found != 0) {
        throw QuantizedTensor.error(
            source,
            name,
            "has the weight_format "
                + found
                + " ("
                + (found > 0 && found < 4
                    ? List.of("row", "col32", "col_turing", "col_ampere").get(found)
                    : "unknown")
                + "), Lethe reads 0 (row)");
      }
    }
    return new Int8Tensor(source, name, module);
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public Set<String> companions() {
    return Set.copyOf(companions);
  }

  @Override
  public float[] values(long first, int count) {
    long columns = info.shape().get(1);
    long row = first / columns;
    int rows = (int) ((first + count - 1) / columns - row) + 1;
    float[] scale = QuantizedTensor.floats(source, scales, row, rows);
    byte[] codes = QuantizedTensor.bytes(source, info.name(), first, count);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = Int8Rows.value(codes[i], scale[(int) ((first + i) / columns - row)]);
    }
    return values;
  }
}
