package org.lethe.torch;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.List;
import java.util.function.LongFunction;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Staging;
import org.lethe.model.Model;
import org.lethe.model.Parameter;
import org.lethe.model.WeightSource;

/** Numbers of the JVM's and of Lethe's models as new tensors; everything here copies. */
final class TorchWeights {
  // A ByteBuffer spans 2 GiB at most, an embedding may be larger.
  private static final int PIECE_BYTES = 1 << 26;
  private static final int STAGING_BYTES = 1 << 20;

  private TorchWeights() {}

  /** fp32 of the given shape. */
  static Tensor of(float[] values, long... shape) {
    Tensor tensor = empty(ScalarType.Float, shape);
    FloatBuffer target = bytes(tensor, 0, values.length * (long) Float.BYTES).asFloatBuffer();
    target.put(values);
    return tensor;
  }

  /** int64 of the given shape. */
  static Tensor of(long[] values, long... shape) {
    Tensor tensor = empty(ScalarType.Long, shape);
    bytes(tensor, 0, values.length * (long) Long.BYTES).asLongBuffer().put(values);
    return tensor;
  }

  /** Sequences as int64 [sequences, longest], zeros behind the shorter ones. */
  static Tensor ids(List<int[]> sequences) {
    int longest = sequences.stream().mapToInt(s -> s.length).max().orElse(0);
    long[] ids = new long[sequences.size() * longest];
    for (int s = 0; s < sequences.size(); s++) {
      int[] sequence = sequences.get(s);
      for (int t = 0; t < sequence.length; t++) {
        ids[s * longest + t] = sequence[t];
      }
    }
    return of(ids, sequences.size(), longest);
  }

  /** A parameter in the dtype that it is stored in. */
  static Tensor read(WeightSource source, Parameter p) {
    Tensor tensor = empty(TorchTensors.scalarType(source.dtype(p.name())), p.shape());
    pieces(tensor, offset -> target -> source.read(p.name(), offset, target));
    return tensor;
  }

  /** A parameter of a model in its storage. */
  static Tensor read(Model model, Parameter p) {
    Dtype storage = model.ops().dtype();
    Tensor tensor = empty(TorchTensors.scalarType(storage), p.shape());
    long[] done = new long[1];
    try (Staging staging = new Staging(STAGING_BYTES)) {
      model.readWeight(
          p.name(),
          staging,
          piece -> {
            int n = piece.remaining();
            bytes(tensor, done[0], n).put(piece);
            done[0] += n;
          });
    }
    return tensor;
  }

  private interface Fill {
    void into(ByteBuffer target);
  }

  private static void pieces(Tensor tensor, LongFunction<Fill> from) {
    long size = tensor.nbytes();
    for (long done = 0; done < size; ) {
      long n = Math.min(PIECE_BYTES, size - done);
      from.apply(done).into(bytes(tensor, done, n));
      done += n;
    }
  }

  private static Tensor empty(ScalarType type, long... shape) {
    try (TensorOptions options = new TensorOptions(type)) {
      return torch.empty(shape, options, null);
    }
  }

  private static ByteBuffer bytes(Tensor tensor, long offset, long size) {
    // Not closed: the memory is the tensor's.
    BytePointer all = new BytePointer(tensor.data_ptr()).capacity(offset + size);
    return all.position(offset).asByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }
}
