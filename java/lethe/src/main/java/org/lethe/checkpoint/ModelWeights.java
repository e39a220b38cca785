package org.lethe.checkpoint;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.model.Nf4Codes;

/**
 * The weights of a model directory as plain tensors. Those that bitsandbytes quantised (4-bit,
 * LLM.int8()) are dequantised as they are read, piece by piece, bit for bit as bitsandbytes
 * dequantises them: 4-bit weights in the type they had before, 8-bit weights in fp32.
 */
public final class ModelWeights implements TensorSource {
  private static final int PIECE_ELEMENTS = 1 << 18;

  private final TensorSource stored;
  private final Map<String, QuantizedTensor> quantized;
  private final Set<String> names;

  private ModelWeights(TensorSource stored, Map<String, QuantizedTensor> quantized) {
    this.stored = stored;
    this.quantized = quantized;
    Set<String> plain = new LinkedHashSet<>(stored.names());
    quantized.values().forEach(tensor -> plain.removeAll(tensor.companions()));
    this.names = Collections.unmodifiableSet(plain);
  }

  /**
   * Opens the weights and holds what is quantised to config.json and to itself.
   *
   * @throws UserException naming file, tensor or key, if the directory does not hold a model, its
   *     weights are quantised in a way Lethe does not read, or parts of them are missing or damaged
   */
  public static ModelWeights open(Path directory) {
    Optional<QuantizationConfig> config = QuantizationConfig.read(directory);
    ShardedSafetensors stored = ShardedSafetensors.open(directory);
    try {
      return new ModelWeights(stored, quantized(directory, stored, config));
    } catch (RuntimeException e) {
      stored.close();
      throw e;
    }
  }

  private static Map<String, QuantizedTensor> quantized(
      Path directory, TensorSource stored, Optional<QuantizationConfig> config) {
    Map<String, QuantizedTensor> found = new HashMap<>();
    for (String name : stored.names()) {
      boolean fourBit = name.contains(FourBitTensor.STATE);
      boolean eightBit = stored.info(name).dtype() == StoredDtype.I8 || isScales(stored, name);
      if (!fourBit && !eightBit) {
        continue;
      }
      if (config.isEmpty() || config.get().fourBit() != fourBit) {
        throw new UserException(
            stored.file(name)
                + ": tensor '"
                + name
                + "' belongs to a "
                + (fourBit ? "4-bit" : "8-bit")
                + " weight, which "
                + directory.resolve(HuggingFaceConfig.FILE)
                + " does not announce under '"
                + QuantizationConfig.KEY
                + "'; get the config.json that was saved with the weights");
      }
      QuantizedTensor tensor =
          fourBit
              ? FourBitTensor.open(stored, name)
              : Int8Tensor.open(stored, weightOf(stored, name));
      found.put(tensor.info().name(), tensor);
    }
    config.ifPresent(announced -> requireComplete(directory, stored, announced, found.keySet()));
    return found;
  }

  private static boolean isScales(TensorSource stored, String name) {
    return name.endsWith(Int8Tensor.SCALES) && stored.info(name).dtype() == StoredDtype.F32;
  }

  private static String weightOf(TensorSource stored, String name) {
    if (!name.endsWith(Int8Tensor.SCALES)) {
      return name;
    }
    String module = name.substring(0, name.length() - Int8Tensor.SCALES.length());
    String weight = module + Int8Tensor.WEIGHT;
    if (!stored.names().contains(weight)) {
      throw QuantizedTensor.error(stored, name, "lacks '" + weight + "'");
    }
    if (stored.info(weight).dtype() != StoredDtype.I8) {
      throw QuantizedTensor.error(
          stored, weight, "is of type " + stored.info(weight).dtype() + ", with scales for I8");
    }
    return weight;
  }

  private static void requireComplete(
      Path directory, TensorSource stored, QuantizationConfig config, Set<String> quantized) {
    for (String name : stored.names()) {
      boolean packed =
          name.endsWith(Int8Tensor.WEIGHT) && stored.info(name).dtype() == StoredDtype.U8;
      if (packed && !quantized.contains(name)) {
        throw QuantizedTensor.error(
            stored, name, "lacks '" + name + FourBitTensor.STATE + "nf4', its quant_state");
      }
    }
    if (quantized.isEmpty()) {
      throw new UserException(
          directory.resolve(HuggingFaceConfig.FILE)
              + ": key '"
              + QuantizationConfig.KEY
              + "' announces "
              + (config.fourBit() ? "4-bit" : "8-bit")
              + " weights, but none is stored so; remove the key to load the weights as they are");
    }
  }

  /** The weights that stand quantised in the files. */
  public Set<String> quantizedNames() {
    return Collections.unmodifiableSet(quantized.keySet());
  }

  /**
   * A weight that stands as NF4 codes in blocks of 64, as transformers has bitsandbytes write them,
   * its scales quantised in their turn or not; empty for any other.
   */
  Optional<Nf4Codes> nf4(String name, boolean nested) {
    return Optional.ofNullable(quantized.get(name)).flatMap(tensor -> tensor.nf4(nested));
  }

  @Override
  public Set<String> names() {
    return names;
  }

  @Override
  public TensorInfo info(String name) {
    QuantizedTensor tensor = quantized.get(name);
    return tensor == null ? stored.info(name) : tensor.info();
  }

  @Override
  public Path file(String name) {
    return stored.file(name);
  }

  @Override
  public int readInto(String name, long offset, ByteBuffer into) {
    QuantizedTensor tensor = quantized.get(name);
    if (tensor == null) {
      return stored.readInto(name, offset, into);
    }
    TensorInfo info = tensor.info();
    int size = info.dtype().bits() / 8;
    int bytes = (int) Math.min(into.remaining(), info.bytes() - offset);
    if (offset < 0 || bytes < 0 || offset % size != 0 || bytes % size != 0) {
      throw new InternalFaultException(
          bytes + " bytes from " + offset + " of '" + name + "' are no whole numbers of " + size);
    }
    ByteBuffer target = into.duplicate().order(ByteOrder.LITTLE_ENDIAN);
    for (int done = 0; done < bytes; ) {
      int count = Math.min(PIECE_ELEMENTS, (bytes - done) / size);
      for (float value : tensor.values((offset + done) / size, count)) {
        FloatStream.put(info.dtype(), value, target);
      }
      done += count * size;
    }
    into.position(into.position() + bytes);
    return bytes;
  }

  /** For a quantised tensor: its dequantised bytes, not mapped but in memory. */
  @Override
  public List<ByteBuffer> slices(String name) {
    if (!quantized.containsKey(name)) {
      return stored.slices(name);
    }
    List<ByteBuffer> slices = new ArrayList<>();
    long bytes = info(name).bytes();
    for (long at = 0; at < bytes; at += 1 << 20) {
      ByteBuffer slice = ByteBuffer.allocate((int) Math.min(1 << 20, bytes - at));
      readInto(name, at, slice);
      slices.add(slice.flip().asReadOnlyBuffer().order(ByteOrder.LITTLE_ENDIAN));
    }
    return slices;
  }

  @Override
  public void close() {
    stored.close();
  }
}
