package org.lethe.run;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import org.lethe.UserException;
import org.lethe.config.DataConfig;
import org.lethe.config.MethodSection;
import org.lethe.config.RunConfig;
import org.lethe.config.TrainConfig;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.data.Pairing;
import org.lethe.data.Refusals;
import org.lethe.method.EntropyDirection;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.train.Schedule;
import org.lethe.train.TrainSettings;

/**
 * What a configuration's sections mean to the engine. Enums of both sides have equal names; a test
 * holds that.
 */
final class Settings {
  private Settings() {}

  /**
   * The training settings of a run.
   *
   * @param stepsPerEpoch counts when the configuration says epochs
   */
  static TrainSettings train(TrainConfig c, int stepsPerEpoch) {
    int steps = c.steps() > 0 ? c.steps() : Math.multiplyExact(c.epochs(), stepsPerEpoch);
    return new TrainSettings(
        steps,
        c.learningRate(),
        Schedule.valueOf(c.schedule().name()),
        c.warmupSteps(),
        c.adamBeta1(),
        c.adamBeta2(),
        c.adamEps(),
        c.weightDecay(),
        c.maxGradientNorm(),
        c.tokensPerMicroBatch(),
        TrainSettings.OnNonFinite.valueOf(c.onNonFinite().name()));
  }

  static Method method(MethodSection c) {
    return Methods.create(
        new MethodConfig(
            c.forget(),
            c.retain(),
            toDouble(c.forgetBeta()),
            toDouble(c.retainBeta()),
            toDouble(c.forgetCoefficient()),
            toDouble(c.retainCoefficient()),
            positions(c.forgetPositions()),
            positions(c.retainPositions()),
            EntropyDirection.valueOf(c.meDirection().name())));
  }

  static Pairing.Kind pairing(DataConfig c) {
    return Pairing.Kind.valueOf(c.pairing().name());
  }

  /** All rows of a part's files, one file after the other. */
  static List<Example> read(List<Path> files) {
    List<Example> examples = new ArrayList<>();
    for (Path file : files) {
      examples.addAll(Jsonl.read(file));
    }
    return examples;
  }

  /** The refusals a run teaches. */
  static List<String> refusals(RunConfig config) {
    Optional<Path> file = config.data().refusals();
    if (file.isEmpty()) {
      return Refusals.lines();
    }
    try {
      List<String> lines =
          Files.readAllLines(file.get()).stream()
              .map(String::strip)
              .filter(l -> !l.isEmpty())
              .toList();
      if (lines.isEmpty()) {
        throw new UserException(file.get() + ": holds no refusal; write one a line");
      }
      return lines;
    } catch (IOException e) {
      throw new UserException(
          file.get() + ": cannot be read (" + e + "); give a UTF-8 text file for data.refusals", e);
    }
  }

  private static Optional<Positions> positions(Optional<MethodSection.Positions> configured) {
    return configured.map(p -> Positions.valueOf(p.name()));
  }

  private static OptionalDouble toDouble(Optional<Double> value) {
    return value.map(OptionalDouble::of).orElse(OptionalDouble.empty());
  }
}
