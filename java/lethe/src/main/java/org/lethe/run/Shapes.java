package org.lethe.run;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.checkpoint.HuggingFaceConfig;
import org.lethe.model.ModelConfig;

/** Models whose sizes are known by name, without a file of theirs: what their config.json says. */
public final class Shapes {
  private static final List<String> NAMES =
      List.of(
          "gemma-2-2b",
          "llama-2-7b",
          "llama-2-13b",
          "llama-3-8b",
          "llama-3.1-8b",
          "llama-3.2-1b",
          "llama-3.2-3b",
          "mistral-7b",
          "phi-1.5",
          "qwen2.5-0.5b",
          "qwen2.5-1.5b",
          "qwen2.5-7b");

  private Shapes() {}

  /** All names. */
  public static List<String> names() {
    return NAMES;
  }

  /**
   * The sizes of a name.
   *
   * @throws UserException when there is none of that name
   */
  public static ModelConfig of(String name) {
    if (!NAMES.contains(name)) {
      throw new UserException(
          "there is no shape '"
              + name
              + "'; choose one of "
              + String.join(", ", NAMES)
              + ", or give the model's directory: model=DIR");
    }
    try (InputStream in = Shapes.class.getResourceAsStream("shapes/" + name + ".json")) {
      if (in == null) {
        throw new InternalFaultException("the sizes of " + name + " are not in Lethe's jar");
      }
      String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
      return HuggingFaceConfig.parse(Path.of(name + ".json"), text).model();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
