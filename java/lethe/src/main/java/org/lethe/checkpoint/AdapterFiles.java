package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.stream.Stream;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.model.ModelConfig;

/** Adapter directories without a model on a device: what stands in them, written anew. */
public final class AdapterFiles {
  private static final String PREFIX = "base_model.model.";
  private static final String A = ".lora_A.weight";
  private static final String B = ".lora_B.weight";

  private AdapterFiles() {}

  /**
   * An adapter's configuration file. PEFT saves an adapter that is not called {@code default} in a
   * sub-folder of its name.
   *
   * @throws UserException when there is none, naming the sub-folders that have one
   */
  static Path configFile(Path directory) {
    Path file = directory.resolve(PeftAdapter.CONFIG_FILE);
    if (Files.exists(file)) {
      return file;
    }
    List<String> named = named(directory);
    throw new UserException(
        file
            + ": no such file; "
            + (named.isEmpty()
                ? "give a directory that PEFT or Lethe wrote"
                : "the adapters "
                    + named
                    + " lie in sub-folders, give one of these: "
                    + directory.resolve(named.get(0))));
  }

  /** The sub-folders that hold an adapter, as PEFT makes one for each that has a name. */
  public static List<String> named(Path directory) {
    if (!Files.isDirectory(directory)) {
      return List.of();
    }
    try (Stream<Path> entries = Files.list(directory)) {
      return entries
          .filter(entry -> Files.exists(entry.resolve(PeftAdapter.CONFIG_FILE)))
          .map(entry -> entry.getFileName().toString())
          .sorted()
          .toList();
    } catch (IOException e) {
      throw new EnvironmentException(
          directory + ": cannot be listed (" + e + "); check its permissions", e);
    }
  }

  /**
   * The linear modules that an adapter sits on, as its own tensors tell: in from A [r, in], out
   * from B [out, r].
   *
   * @throws UserException when the file cannot be read or a tensor is no half of such a pair
   */
  public static Map<String, LinearShape> linears(Path directory) {
    Path path = directory.resolve(PeftAdapter.WEIGHTS_FILE);
    Map<String, Long> in = new HashMap<>();
    Map<String, Long> out = new HashMap<>();
    try (SafetensorsFile file = SafetensorsFile.open(path)) {
      for (String name : file.names()) {
        TensorInfo info = file.info(name);
        boolean isA = name.endsWith(A);
        if (!name.startsWith(PREFIX) || !(isA || name.endsWith(B)) || info.shape().size() != 2) {
          throw new UserException(
              path
                  + ": tensor '"
                  + name
                  + "' of shape "
                  + info.shape()
                  + " is neither lora_A nor lora_B of a linear module; give a plain LoRA adapter");
        }
        String module = name.substring(PREFIX.length(), name.length() - A.length());
        if (isA) {
          in.put(module, info.shape().get(1));
        } else {
          out.put(module, info.shape().get(0));
        }
      }
    }
    Map<String, LinearShape> linears = new TreeMap<>();
    in.forEach(
        (module, width) -> {
          if (out.containsKey(module)) {
            linears.put(module, new LinearShape(out.get(module), width));
          }
        });
    if (linears.size() != in.size() || linears.size() != out.size()) {
      throw new UserException(
          path + ": some lora_A and lora_B tensors have no partner; get the file again");
    }
    return linears;
  }

  /** The module whose lora_A a tensor is, with {@code before} standing before PEFT's name. */
  static Optional<String> module(String tensor, String before) {
    String prefix = before + PREFIX;
    return tensor.startsWith(prefix) && tensor.endsWith(A)
        ? Optional.of(tensor.substring(prefix.length(), tensor.length() - A.length()))
        : Optional.empty();
  }

  /**
   * Checks an adapter against the model it is to sit on, reading headers only.
   *
   * @throws UserException naming what does not fit
   */
  public static PeftConfig check(Path directory, ModelConfig model) {
    try (PeftAdapter adapter = PeftAdapter.open(directory, ModelDirectory.linears(model))) {
      return adapter.config();
    }
  }

  /**
   * Writes an adapter again.
   *
   * @param dtype F32, BF16 or F16 for every tensor; empty: each keeps its own, to the bit
   * @return bytes of the written files
   */
  public static long rewrite(
      Path directory, Path target, Optional<StoredDtype> dtype, boolean overwrite) {
    Map<String, LinearShape> linears = linears(directory);
    try (PeftAdapter adapter = PeftAdapter.open(directory);
        SafetensorsFile weights =
            SafetensorsFile.open(directory.resolve(PeftAdapter.WEIGHTS_FILE))) {
      Function<String, StoredDtype> types = name -> dtype.orElseGet(() -> adapter.dtype(name));
      long bytes = PeftAdapter.fileBytes(adapter.config(), linears, types);
      OutputDirectory.write(
          target,
          overwrite,
          bytes,
          out -> {
            PeftAdapter.write(
                out,
                adapter.config(),
                linears,
                types,
                (name, first, into) -> {
                  FloatStream.read(weights, name, first, into.duplicate());
                  Halves.requireRange(target, name, types.apply(name), into.duplicate());
                });
            Optional<String> base = BaseMark.read(directory);
            if (base.isPresent()) {
              out.writeString(BaseMark.FILE, BaseMark.json(base.get()));
            }
          });
      return bytes;
    }
  }
}
