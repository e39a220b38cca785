package org.lethe.model;

import java.nio.ByteBuffer;
import java.util.Optional;
import org.lethe.NativeException;
import org.lethe.UserException;
import org.lethe.kernels.Arena;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.model.quant.DynamicMap;
import org.lethe.model.quant.NestedScales;

/**
 * Fills the linears of a model that are kept in 4-bit codes: from codes as they are stored, or from
 * plain weights, which are quantised piece by piece in the type they are stored in. No plain weight
 * is ever whole on the device, but for those that are made there.
 */
final class Nf4Loader {
  // Whole blocks.
  private static final int PIECE_ELEMENTS = 1 << 19;

  private final Ops ops;
  private final BaseWeights weights;
  private final Arena arena;
  private final Staging staging;
  private final Buffer other;

  /**
   * @param other memory of the device: a piece of plain weights and its scales
   */
  Nf4Loader(Ops ops, BaseWeights weights, Staging staging, Buffer other) {
    this.ops = ops;
    this.weights = weights;
    this.arena = weights.arena();
    this.staging = staging;
    this.other = other;
  }

  /** Fills what all weights share. */
  void writeMap() {
    if (weights.storage().nested()) {
      staging.upload(DynamicMap.values(), DynamicMap.SIZE, arena.buffer(), weights.map());
    }
  }

  /**
   * Fills a weight.
   *
   * @throws UserException when it is not finite
   */
  void load(WeightSource source, String name) {
    BaseWeights.Codes to = weights.codes(name);
    Optional<Nf4Codes> stored = source.nf4(name, weights.storage().nested());
    if (stored.isPresent()) {
      copy(stored.get(), to);
      return;
    }
    try {
      quantize(source, to);
      ops.backend().synchronize();
    } catch (NativeException e) {
      if (!e.trace().contains("only finite numbers have codes")) {
        throw e;
      }
      throw new UserException(
          source.place()
              + ": tensor '"
              + name
              + "' holds numbers that are not finite, which have no 4-bit codes; mend the weights,"
              + " or load them with quantize_base=none",
          e);
    }
  }

  private void copy(Nf4Codes codes, BaseWeights.Codes to) {
    long bytes = Nf4Codes.packedBytes(to.parameter().elements());
    for (long done = 0; done < bytes; ) {
      int n = (int) Math.min(staging.capacity(), bytes - done);
      codes.packed().read(done, staging.bytes().clear().limit(n));
      staging.write(arena.buffer(), to.packed() + done, n);
      done += n;
    }
    if (codes.nested().isPresent()) {
      write(codes.nested().get(), to);
    } else {
      write(codes.scales(), to.scales());
    }
  }

  private void quantize(WeightSource source, BaseWeights.Codes to) {
    Parameter p = to.parameter();
    float[] scales =
        new float[weights.storage().nested() ? (int) Nf4Codes.blocks(p.elements()) : 0];
    boolean made = source.write(p.name(), ops, arena.at(weights.scratch()), p.columns());
    Dtype stored = made ? ops.dtype() : source.dtype(p.name());
    Ops quantizing = new Ops(ops.backend(), stored);
    for (long done = 0; done < p.elements(); ) {
      int n = (int) Math.min(PIECE_ELEMENTS, p.elements() - done);
      long at = done * stored.bytes();
      long from = made ? arena.at(weights.scratch()) + at : other.at(0);
      if (!made) {
        source.read(p.name(), at, staging.bytes().clear().limit(n * stored.bytes()));
        staging.write(other, 0, (long) n * stored.bytes());
      }
      quantize(quantizing, n, done, from, to, scales);
      done += n;
    }
    if (weights.storage().nested()) {
      write(NestedScales.of(scales), to);
    }
  }

  /**
   * Quantises the {@code n} numbers {@code from} a ref on, which are those from {@code done} on.
   */
  private void quantize(
      Ops quantizing, int n, long done, long from, BaseWeights.Codes to, float[] scales) {
    long packed = arena.at(to.packed() + done / 2);
    long firstBlock = done / Nf4Codes.BLOCK_SIZE;
    if (!weights.storage().nested()) {
      long scale = arena.at(to.scales() + firstBlock * Float.BYTES);
      quantizing.nf4Quantize(n, Nf4Codes.BLOCK_SIZE, from, packed, scale);
      return;
    }
    long behind = (long) PIECE_ELEMENTS * Float.BYTES;
    quantizing.nf4Quantize(n, Nf4Codes.BLOCK_SIZE, from, packed, other.at(behind));
    int blocks = (int) Nf4Codes.blocks(n);
    staging.read(other, behind, (long) blocks * Float.BYTES);
    staging.bytes().clear().asFloatBuffer().get(scales, (int) firstBlock, blocks);
  }

  private void write(NestedScales nested, BaseWeights.Codes to) {
    weights.nestedOffset(to.parameter().name(), nested.offset());
    byte[] codes = nested.codes();
    for (int done = 0; done < codes.length; ) {
      int n = Math.min(staging.capacity(), codes.length - done);
      ByteBuffer bytes = staging.bytes().clear();
      bytes.put(codes, done, n);
      staging.write(arena.buffer(), to.scales() + done, n);
      done += n;
    }
    write(nested.scales(), to.nestedScales());
  }

  private void write(float[] values, long offset) {
    int most = staging.capacity() / Float.BYTES;
    for (int done = 0; done < values.length; ) {
      int n = Math.min(most, values.length - done);
      staging.bytes().clear().asFloatBuffer().put(values, done, n);
      staging.write(arena.buffer(), offset + (long) done * Float.BYTES, (long) n * Float.BYTES);
      done += n;
    }
  }
}
