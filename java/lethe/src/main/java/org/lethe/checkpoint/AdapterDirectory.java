package org.lethe.checkpoint;

import java.nio.file.Path;
import java.util.Map;
import java.util.function.BiFunction;
import org.lethe.model.Layout;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;

/** A model's adapters in PEFT's layout, in and out. */
public final class AdapterDirectory {
  private AdapterDirectory() {}

  /**
   * Loads adapters onto a frozen model, which must be the one they were trained on where they say
   * so.
   *
   * @param trains whether they get optimizer state
   */
  public static Lora load(Model model, Path directory, boolean trains) {
    return with(model, directory, (config, values) -> model.addLora(config, values, trains));
  }

  /** Loads a frozen adapter that acts in the views that name it. */
  public static Lora loadFrozen(Model model, String name, Path directory) {
    return with(model, directory, (config, values) -> model.addFrozen(name, config, values));
  }

  /** What a directory's adapter is, by its configuration alone. */
  public static LoraConfig config(Path directory) {
    return PeftConfigFile.read(AdapterFiles.configFile(directory)).lora();
  }

  /** A directory's adapter as this model would hold it, its values read when they are asked for. */
  private static Lora with(
      Model model, Path directory, BiFunction<LoraConfig, Lora.Values, Lora> added) {
    Map<String, LinearShape> linears = ModelDirectory.linears(model.config());
    try (PeftAdapter adapter = PeftAdapter.open(directory, linears)) {
      model.sourceHash().ifPresent(hash -> BaseMark.require(directory, hash));
      LoraConfig config = adapter.config().lora();
      Layout layout = Lora.layout(model.config(), config);
      return added.apply(
          config,
          sink ->
              adapter.read(
                  (name, first, piece) ->
                      sink.put(layout.parameter(name).offset() + first, piece)));
    }
  }

  /**
   * Writes adapters that PEFT loads unchanged, in fp32, and beside them which weights they were
   * trained on, by which loading finds out when it is given others.
   *
   * @param baseModel what PEFT shall call the base; a name or a path
   */
  public static void save(
      Lora lora, Model model, String baseModel, Path target, boolean overwrite) {
    Map<String, LinearShape> linears = ModelDirectory.linears(model.config());
    PeftConfig config = new PeftConfig(baseModel, lora.config());
    OutputDirectory.write(
        target,
        overwrite,
        PeftAdapter.fileBytes(config, linears, name -> StoredDtype.F32),
        out -> {
          PeftAdapter.write(
              out,
              config,
              linears,
              name -> StoredDtype.F32,
              (name, first, into) ->
                  lora.read(lora.layout().parameter(name).offset() + first, into));
          if (model.sourceHash().isPresent()) {
            out.writeString(BaseMark.FILE, BaseMark.json(model.sourceHash().get()));
          }
        });
  }
}
