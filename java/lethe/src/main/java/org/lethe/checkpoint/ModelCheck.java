package org.lethe.checkpoint;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.lethe.UserException;
import org.lethe.model.Model;
import org.lethe.model.Parameter;
import org.lethe.model.ParameterNames;

/** Holds a model directory's weights to its config.json, reading headers only. */
public final class ModelCheck {
  private static final int SHOWN = 5;

  private ModelCheck() {}

  /**
   * Everything in which weights and config do not belong together, each with the file; empty when
   * they do.
   *
   * @throws UserException when the weights cannot be read at all
   */
  public static List<String> problems(Path directory, ModelConfigFile config) {
    List<String> problems = new ArrayList<>();
    try (ModelWeights tensors = ModelWeights.open(directory)) {
      Map<String, Parameter> expected = Model.layout(config.model()).parameters();
      Set<String> missing = new TreeSet<>(expected.keySet());
      missing.removeAll(tensors.names());
      if (!missing.isEmpty()) {
        problems.add(directory + ": the weights lack " + some(missing));
      }
      Set<String> extra = new TreeSet<>(tensors.names());
      extra.removeAll(expected.keySet());
      extra.removeIf(name -> isHarmless(name, config));
      if (!extra.isEmpty()) {
        problems.add(
            directory + ": the weights hold what config.json does not ask for: " + some(extra));
      }
      expected.forEach(
          (name, parameter) -> {
            if (tensors.names().contains(name)) {
              shapeAndType(tensors, name, parameter.shape(), problems);
            }
          });
    }
    return problems;
  }

  /** A tied checkpoint may repeat the head; old Llama files carry the rotary frequencies. */
  private static boolean isHarmless(String name, ModelConfigFile config) {
    return name.endsWith("rotary_emb.inv_freq")
        || (config.model().tiedHead() && name.equals(ParameterNames.HEAD));
  }

  private static void shapeAndType(
      TensorSource tensors, String name, long[] expected, List<String> problems) {
    TensorInfo info = tensors.info(name);
    List<Long> shape = Arrays.stream(expected).boxed().toList();
    if (!info.shape().equals(shape)) {
      problems.add(
          tensors.file(name)
              + ": tensor '"
              + name
              + "' has the shape "
              + info.shape()
              + ", by config.json "
              + shape);
    }
    if (!info.dtype().convertsToFloat()) {
      problems.add(
          tensors.file(name)
              + ": tensor '"
              + name
              + "' is of type "
              + info.dtype()
              + "; convert it to F32, BF16 or F16");
    }
  }

  private static String some(Set<String> names) {
    String shown = String.join(", ", names.stream().limit(SHOWN).toList());
    return names.size() > SHOWN ? shown + " and " + (names.size() - SHOWN) + " more" : shown;
  }
}
