package org.lethe.examples;

import java.nio.file.Path;
import org.lethe.data.Jsonl;
import org.lethe.engine.Engine;
import org.lethe.engine.LanguageModel;
import org.lethe.engine.LoadOptions;
import org.lethe.engine.Training;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.model.LoraConfig;
import org.lethe.train.Schedule;
import org.lethe.train.TrainSettings;

/** Little memory: SmallGpu MODEL FORGET.jsonl RETAIN.jsonl [DEVICE], which is cpu unless said. */
final class SmallGpu {
  private SmallGpu() {}

  public static void main(String[] args) {
    String device = args.length > 3 ? args[3] : "cpu";
    // README: begin
    Path directory = Path.of(args[0]);
    LoadOptions options = LoadOptions.DEFAULT.bf16().withContextLength(128);
    System.out.printf(
        "model, predicted:    %d%n", LanguageModel.predictedBytes(directory, options));
    try (Engine engine = Engine.open(device, 2);
        LanguageModel model = engine.load(directory, options)) {
      System.out.printf("model, used:         %d%n", engine.allocatedBytes());
      TrainSettings plain = TrainSettings.of(4, 1e-3, Schedule.CONSTANT, 0);
      var builder =
          model
              .unlearn(
                  Methods.create(MethodConfig.of("ME+GD")),
                  Jsonl.read(Path.of(args[1])),
                  Jsonl.read(Path.of(args[2])))
              .adapter(LoraConfig.all(4, 8))
              .batchSize(4)
              // A step of 8 sequences is cut into pieces; the result is the same objective.
              .settings(plain.withTokensPerMicroBatch(128));
      try (Training training = builder.build()) {
        // Everything is taken before the first step: a training that starts does not run out.
        long predicted = engine.allocatedBytes();
        System.out.printf("training, predicted: %d%n", predicted);
        System.out.printf("of it for steps:     %d%n", training.plannedBytes());
        training.run();
        System.out.printf("training, used:      %d%n", engine.allocatedBytes());
      }
    }
    // README: end
  }
}
