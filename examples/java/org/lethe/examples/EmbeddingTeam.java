package org.lethe.examples;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.engine.Engine;
import org.lethe.engine.LanguageModel;
import org.lethe.engine.Training;
import org.lethe.evaluate.Evaluation;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.train.Schedule;
import org.lethe.train.TrainSettings;

/** Unlearning inside another program: EmbeddingTeam MODEL FORGET.jsonl RETAIN.jsonl ADAPTER_OUT. */
final class EmbeddingTeam {
  private EmbeddingTeam() {}

  public static void main(String[] args) {
    // README: begin
    Method method = Methods.create(MethodConfig.of("NPO+GD"));
    List<Example> forget = Jsonl.read(Path.of(args[1]));
    List<Example> retain = Jsonl.read(Path.of(args[2]));
    try (Engine engine = Engine.cpu(2);
        LanguageModel model = engine.load(Path.of(args[0]));
        Training training =
            model
                .unlearn(method, forget, retain)
                .settings(TrainSettings.of(20, 2e-3, Schedule.COSINE, 2))
                .seed(1)
                .onStep(step -> System.out.printf("step %d loss %.4f%n", step.step(), step.loss()))
                .build()) {
      var running = training.runAsync();
      // Any thread may ask meanwhile; it is served between two steps.
      var asked = IntStream.range(0, 4).mapToObj(i -> ask(model, forget.get(i))).toList();
      asked.forEach(answer -> System.out.printf("p %.3f%n", answer.join()));
      System.out.println(running.join());
      Evaluation after = model.evaluate(Map.of("forget", forget, "retain", retain), 16);
      System.out.printf("forget p %.3f%n", after.score("forget", "probability"));
      model.saveAdapter(Path.of(args[3]));
    }
    // README: end
  }

  private static CompletableFuture<Double> ask(LanguageModel model, Example row) {
    return CompletableFuture.supplyAsync(
        () -> model.score(row.question(), row.answer()).probability());
  }
}
