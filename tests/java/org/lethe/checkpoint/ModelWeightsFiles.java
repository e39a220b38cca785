package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/** Model directories changed tensor by tensor, for tests. */
final class ModelWeightsFiles {
  private ModelWeightsFiles() {}

  /** A tensor and its bytes. */
  record Tensor(TensorSpec spec, ByteBuffer bytes) {}

  /** Changes a tensor; empty: leaves it out. */
  @FunctionalInterface
  interface Edit {
    Optional<Tensor> apply(TensorSpec spec, ByteBuffer bytes);
  }

  static Optional<Tensor> tensor(TensorSpec spec, ByteBuffer bytes) {
    return Optional.of(new Tensor(spec, bytes));
  }

  static Path copy(Path from, Path to) throws IOException {
    Files.createDirectories(to);
    try (Stream<Path> files = Files.list(from)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, to.resolve(file.getFileName()));
      }
    }
    return to;
  }

  static boolean holds(Path model, String part) {
    try (ShardedSafetensors source = ShardedSafetensors.open(model)) {
      return source.names().stream().anyMatch(name -> name.contains(part));
    }
  }

  /** Writes {@code model.safetensors} anew with one tensor changed. */
  static void edit(Path model, String name, Edit edit) throws IOException {
    Path file = model.resolve("model.safetensors");
    List<Tensor> tensors = new ArrayList<>();
    try (SafetensorsFile source = SafetensorsFile.open(file)) {
      if (!source.names().contains(name)) {
        throw new IllegalArgumentException(name + " is not in " + file);
      }
      for (String each : source.names()) {
        TensorInfo info = source.info(each);
        ByteBuffer bytes = ByteBuffer.allocate((int) info.bytes()).order(ByteOrder.LITTLE_ENDIAN);
        source.readInto(each, 0, bytes);
        TensorSpec spec = new TensorSpec(each, info.dtype(), info.shape());
        bytes.flip();
        (each.equals(name) ? edit.apply(spec, bytes) : tensor(spec, bytes)).ifPresent(tensors::add);
      }
    }
    try (var channel =
        Files.newByteChannel(
            file,
            java.nio.file.StandardOpenOption.WRITE,
            java.nio.file.StandardOpenOption.TRUNCATE_EXISTING)) {
      SafetensorsWriter writer =
          new SafetensorsWriter(channel, tensors.stream().map(Tensor::spec).toList());
      for (Tensor tensor : tensors) {
        writer.write(tensor.spec().name(), tensor.bytes().rewind());
      }
      writer.finish();
    }
  }
}
