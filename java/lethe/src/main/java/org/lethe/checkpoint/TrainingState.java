package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Ops;
import org.lethe.kernels.Staging;
import org.lethe.model.Trainable;

/**
 * What trains, as tensors: {@code master/NAME}, {@code moment1/NAME} and {@code moment2/NAME} in
 * fp32 for every parameter, by PEFT's or Hugging Face's names and in their shapes, and {@code
 * update_state}[{@link Ops#UPDATE_STATE}]. Without an fp32 master {@code master/NAME} is bf16; with
 * 8-bit moments those of matrices are {@code moment1_codes}, {@code moment1_scales} and the
 * second's, in the order of the layout. Only the backend's thread may call it.
 */
public final class TrainingState {
  private static final String UPDATE_STATE = "update_state";
  private static final int PIECE_BYTES = 4 << 20;

  private TrainingState() {}

  /** Bytes of {@link #write}. */
  public static long bytes(Trainable trainable) {
    return SafetensorsWriter.fileBytes(specs(trainable));
  }

  /** Writes a safetensors file. */
  public static void write(Trainable trainable, WritableByteChannel channel) throws IOException {
    SafetensorsWriter writer = new SafetensorsWriter(channel, specs(trainable));
    Backend backend = trainable.ops().backend();
    try (Staging staging = new Staging(PIECE_BYTES)) {
      for (Trainable.Stored array : trainable.stored()) {
        for (long done = 0; done < array.bytes(); done += PIECE_BYTES) {
          int piece = (int) Math.min(PIECE_BYTES, array.bytes() - done);
          staging.read(backend, array.ref() + done, piece);
          writer.write(array.name(), staging.bytes().clear().limit(piece));
        }
      }
      float[] update = trainable.updateState();
      staging.bytes().clear().asFloatBuffer().put(update);
      writer.write(UPDATE_STATE, staging.bytes().clear().limit(update.length * Float.BYTES));
    }
    writer.finish();
  }

  /**
   * Puts what {@link #write} wrote back.
   *
   * @throws UserException if the file's parameters are not the ones that train here
   */
  public static void read(Path file, Trainable trainable) {
    try (SafetensorsFile source = SafetensorsFile.open(file);
        Staging staging = new Staging(PIECE_BYTES)) {
      check(file, source, trainable);
      Backend backend = trainable.ops().backend();
      for (Trainable.Stored array : trainable.stored()) {
        for (long done = 0; done < array.bytes(); done += PIECE_BYTES) {
          int piece = (int) Math.min(PIECE_BYTES, array.bytes() - done);
          source.readInto(array.name(), done, staging.bytes().clear().limit(piece));
          staging.write(backend, array.ref() + done, piece);
        }
      }
      float[] update = new float[Ops.UPDATE_STATE];
      source.readInto(UPDATE_STATE, 0, staging.bytes().clear().limit(update.length * Float.BYTES));
      staging.bytes().clear().asFloatBuffer().get(update);
      trainable.restored(update);
    }
  }

  private static void check(Path file, SafetensorsFile source, Trainable trainable) {
    Set<String> wanted = new TreeSet<>();
    for (TensorSpec spec : specs(trainable)) {
      wanted.add(spec.name());
      requireSameDtype(file, source, spec);
      if (source.names().contains(spec.name())
          && !source.info(spec.name()).shape().equals(spec.shape())) {
        throw new UserException(
            file
                + ": "
                + spec.name()
                + " has shape "
                + source.info(spec.name()).shape()
                + " where this run trains "
                + spec.shape()
                + "; it is a checkpoint of another model or adapter");
      }
    }
    Set<String> differ = new TreeSet<>(wanted);
    differ.removeAll(source.names());
    if (differ.isEmpty()) {
      differ.addAll(source.names());
      differ.removeAll(wanted);
    }
    if (!differ.isEmpty()) {
      throw new UserException(
          file
              + ": its parameters are not the ones that this run trains ("
              + differ.iterator().next()
              + "); it is a checkpoint of another model or adapter");
    }
  }

  private static void requireSameDtype(Path file, SafetensorsFile source, TensorSpec spec) {
    if (source.names().contains(spec.name()) && source.info(spec.name()).dtype() != spec.dtype()) {
      throw new UserException(
          file
              + ": "
              + spec.name()
              + " is "
              + source.info(spec.name()).dtype()
              + " where this run keeps "
              + spec.dtype()
              + "; resume with the train.master that it was made with");
    }
  }

  private static List<TensorSpec> specs(Trainable trainable) {
    List<TensorSpec> specs = new ArrayList<>();
    for (Trainable.Stored array : trainable.stored()) {
      specs.add(
          new TensorSpec(array.name(), StoredDtype.valueOf(array.kind().name()), array.shape()));
    }
    specs.add(TensorSpec.of(UPDATE_STATE, StoredDtype.F32, Ops.UPDATE_STATE));
    return specs;
  }
}
