package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterFiles;
import org.lethe.checkpoint.CheckpointState;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.ModelExport;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.checkpoint.StoredDtype;
import org.lethe.config.ExportConfig;

/** Writes models and adapters anew, for others to load. */
public final class Export {
  private Export() {}

  /**
   * Writes {@code config.model}, with {@code config.adapter} merged where it is given.
   *
   * @throws UserException when an input is wrong or the target may not be written
   */
  public static ModelExport.Result model(ExportConfig config) {
    Path model =
        config
            .model()
            .orElseThrow(() -> new UserException("model is not set; give model=DIR to write"));
    List<Path> inputs = new ArrayList<>(List.of(model));
    config.adapter().ifPresent(inputs::add);
    requireOutside(config, inputs);
    return ModelExport.write(
        new ModelExport.Request(
            model,
            config.adapter(),
            config.output(),
            config.overwrite(),
            dtype(config.dtype()),
            config.maxShardBytes()));
  }

  /**
   * Writes the adapter of {@code config.from} in PEFT's layout. Where the configuration says
   * "stored", an adapter keeps its types, and a checkpoint's master values stay fp32.
   *
   * @return bytes written
   */
  public static long adapter(ExportConfig config) {
    Path from =
        config.from().orElseThrow(() -> new UserException("from is not set; give from=DIR"));
    requireOutside(config, List.of(from));
    Optional<StoredDtype> dtype = dtype(config.dtype());
    if (Files.exists(from.resolve(CheckpointStore.MANIFEST))) {
      requireWhole(from);
      try (CheckpointState checkpoint = CheckpointState.open(from)) {
        return checkpoint.writeAdapter(
            config.output(), dtype.orElse(StoredDtype.F32), config.overwrite());
      }
    }
    return AdapterFiles.rewrite(adapterDirectory(from), config.output(), dtype, config.overwrite());
  }

  private static void requireWhole(Path checkpoint) {
    try {
      CheckpointStore.verify(checkpoint);
    } catch (IOException e) {
      throw new EnvironmentException(
          checkpoint + ": cannot be read (" + e + "); check the disk", e);
    }
  }

  private static Path adapterDirectory(Path from) {
    for (Path candidate : List.of(from, from.resolve("adapter"))) {
      if (Files.exists(candidate.resolve("adapter_config.json"))) {
        return candidate;
      }
    }
    throw new UserException(
        from
            + ": holds no adapter (no adapter_config.json, and none in adapter/); give a run that"
            + " trained adapters");
  }

  private static Optional<StoredDtype> dtype(ExportConfig.Storage storage) {
    return switch (storage) {
      case STORED -> Optional.empty();
      case FP32 -> Optional.of(StoredDtype.F32);
      case BF16 -> Optional.of(StoredDtype.BF16);
      case FP16 -> Optional.of(StoredDtype.F16);
    };
  }

  private static void requireOutside(ExportConfig config, List<Path> inputs) {
    OutputDirectory.check(config.output(), config.overwrite(), 0);
    Path output = Inputs.real(config.output());
    for (Path input : inputs) {
      if (Inputs.real(input).startsWith(output)) {
        throw new UserException(
            input
                + ": lies in the output directory "
                + config.output()
                + ", which would be replaced; choose another output");
      }
    }
  }
}
