package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.lethe.EnvironmentException;
import org.lethe.UserException;
import org.lethe.checkpoint.AdapterArithmetic;
import org.lethe.checkpoint.AdapterFiles;
import org.lethe.checkpoint.CheckpointState;
import org.lethe.checkpoint.CheckpointStore;
import org.lethe.checkpoint.ModelExport;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.checkpoint.Quantization;
import org.lethe.checkpoint.StoredDtype;
import org.lethe.config.AdapterSection;
import org.lethe.config.ExportConfig;
import org.lethe.config.RunConfig;

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
    requireOutside(config.output(), config.overwrite(), inputs);
    return ModelExport.write(
        new ModelExport.Request(
            model,
            config.adapter(),
            config.output(),
            config.overwrite(),
            dtype(config.dtype()),
            config.maxShardBytes(),
            quantization(config.quantize()),
            config.quantizeSkip()));
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
    requireOutside(config.output(), config.overwrite(), List.of(from));
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
    List<String> named = AdapterFiles.named(from);
    throw new UserException(
        from
            + ": holds no adapter (no adapter_config.json, and none in adapter/); "
            + (named.isEmpty()
                ? "give a run that trained adapters"
                : "give one of its adapters, such as " + from.resolve(named.get(0))));
  }

  private static Optional<Quantization> quantization(ExportConfig.Quantize quantize) {
    return switch (quantize) {
      case NONE -> Optional.empty();
      case NF4 -> Optional.of(Quantization.NF4);
      case NF4_DOUBLE -> Optional.of(Quantization.NF4_DOUBLE);
      case FP4 -> Optional.of(Quantization.FP4);
      case FP4_DOUBLE -> Optional.of(Quantization.FP4_DOUBLE);
      case INT8 -> Optional.of(Quantization.INT8);
    };
  }

  private static Optional<StoredDtype> dtype(ExportConfig.Storage storage) {
    return switch (storage) {
      case STORED -> Optional.empty();
      case FP32 -> Optional.of(StoredDtype.F32);
      case BF16 -> Optional.of(StoredDtype.BF16);
      case FP16 -> Optional.of(StoredDtype.F16);
    };
  }

  /**
   * Writes one adapter that is the sum of adapters, each times its coefficient.
   *
   * @param baseModel what PEFT shall call the base; empty: what the adapters call it
   */
  public static AdapterArithmetic.Result combine(
      List<AdapterSection> adapters, String baseModel, Path output, boolean overwrite) {
    requireOutside(output, overwrite, adapters.stream().map(AdapterSection::path).toList());
    List<AdapterArithmetic.Summand> summands =
        adapters.stream()
            .map(a -> new AdapterArithmetic.Summand(a.path(), a.coefficient()))
            .toList();
    return AdapterArithmetic.write(summands, baseModel, output, overwrite);
  }

  /**
   * Writes {@code combined/} beside {@code adapter/} of a run that started from adapters: what it
   * trained means something only together with those.
   */
  static void withStart(RunConfig config, String baseModel, RunFolder folder) {
    if (config.adapters().isEmpty()) {
      return;
    }
    List<AdapterArithmetic.Summand> summands = new ArrayList<>();
    config
        .adapters()
        .forEach(a -> summands.add(new AdapterArithmetic.Summand(a.path(), a.coefficient())));
    summands.add(new AdapterArithmetic.Summand(folder.resolve("adapter"), 1));
    AdapterArithmetic.write(summands, baseModel, folder.resolve("combined"), true);
  }

  private static void requireOutside(Path target, boolean overwrite, List<Path> inputs) {
    OutputDirectory.check(target, overwrite, 0);
    Path output = Inputs.real(target);
    for (Path input : inputs) {
      if (Inputs.real(input).startsWith(output)) {
        throw new UserException(
            input
                + ": lies in the output directory "
                + target
                + ", which would be replaced; choose another output");
      }
    }
  }
}
