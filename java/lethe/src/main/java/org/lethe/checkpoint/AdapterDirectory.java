package org.lethe.checkpoint;

import java.nio.file.Path;
import java.util.Map;
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
    Values read = read(model, directory);
    return model.addLora(read.config(), read.values(), trains);
  }

  /** Loads a frozen adapter that acts in the views that name it. */
  public static Lora loadFrozen(Model model, String name, Path directory) {
    Values read = read(model, directory);
    return model.addFrozen(name, read.config(), read.values());
  }

  /** What a directory's adapter is, by its configuration alone. */
  public static LoraConfig config(Path directory) {
    return PeftConfigFile.read(AdapterFiles.configFile(directory)).lora();
  }

  /** A directory's adapter as this model would hold it. */
  private record Values(LoraConfig config, float[] values) {}

  private static Values read(Model model, Path directory) {
    Map<String, LinearShape> linears = ModelDirectory.linears(model.config());
    try (PeftAdapter adapter = PeftAdapter.open(directory, linears)) {
      model.sourceHash().ifPresent(hash -> BaseMark.require(directory, hash));
      LoraConfig config = adapter.config().lora();
      Layout layout = Lora.layout(model.config(), config);
      float[] values = new float[Math.toIntExact(layout.elements())];
      adapter.read(
          (name, first, piece) ->
              piece.get(
                  values,
                  Math.toIntExact(layout.parameter(name).offset() + first),
                  piece.remaining()));
      return new Values(config, values);
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
    float[] values = lora.values();
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
                  into.put(
                      values,
                      Math.toIntExact(lora.layout().parameter(name).offset() + first),
                      into.remaining()));
          if (model.sourceHash().isPresent()) {
            out.writeString(BaseMark.FILE, BaseMark.json(model.sourceHash().get()));
          }
        });
  }
}
