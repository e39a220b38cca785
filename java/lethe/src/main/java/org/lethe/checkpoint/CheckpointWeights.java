package org.lethe.checkpoint;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.kernels.Dtype;
import org.lethe.model.Nf4Codes;
import org.lethe.model.WeightSource;

/** A checkpoint's tensors as a model takes them; F16 is widened to fp32 on the way. */
final class CheckpointWeights implements WeightSource {
  private final ModelWeights source;
  private final Path directory;

  /** The tensors of a model directory, which messages name. */
  CheckpointWeights(ModelWeights source, Path directory) {
    this.source = source;
    this.directory = directory;
  }

  @Override
  public String place() {
    return directory.toString();
  }

  @Override
  public Optional<String> hash() {
    return Optional.of(BaseMark.of(source));
  }

  @Override
  public Set<String> names() {
    return source.names();
  }

  @Override
  public long[] shape(String name) {
    return source.info(name).shape().stream().mapToLong(Long::longValue).toArray();
  }

  @Override
  public Dtype dtype(String name) {
    return switch (source.info(name).dtype()) {
      case F32, F16 -> Dtype.F32;
      case BF16 -> Dtype.BF16;
      default ->
          throw new UserException(
              source.file(name)
                  + ": tensor '"
                  + name
                  + "' is of type "
                  + source.info(name).dtype()
                  + "; convert it to F32, BF16 or F16");
    };
  }

  @Override
  public Optional<Nf4Codes> nf4(String name, boolean nested) {
    return source.nf4(name, nested);
  }

  @Override
  public void read(String name, long offset, ByteBuffer target) {
    if (source.info(name).dtype() != StoredDtype.F16) {
      source.readInto(name, offset, target);
      return;
    }
    ByteBuffer halves = ByteBuffer.allocate(target.remaining() / 2).order(ByteOrder.LITTLE_ENDIAN);
    source.readInto(name, offset / 2, halves);
    halves.flip();
    while (halves.hasRemaining()) {
      target.putFloat(FloatStream.halfToFloat(halves.getShort()));
    }
  }
}
