package org.lethe.report;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * Directories of runs that never ran: the curves have the shape of real ones, the seed is fixed.
 */
public final class SyntheticRun {
  /** A configuration in short: what a report shows of it, and what it must not. */
  static final String CONFIG =
      """
      model: /home/someone/models/tuned
      output: /home/someone/runs/forgot
      seed: 7
      data:
        forget: [/home/someone/rows/forget.jsonl, rows/more.jsonl]
        general: []
      method: {forget: ME, retain: GD, forget_beta: null}
      train: {steps: 60, full_parameters: false}
      lora: {rank: 8}
      """;

  private SyntheticRun() {}

  /** Scores that lie {@code done} of the way from knowing everything to having forgotten. */
  static Map<String, Map<String, Double>> scores(double done) {
    Map<String, Map<String, Double>> sets = new LinkedHashMap<>();
    sets.put("forget", set(0.99 - 0.95 * done, 0.98 - 0.8 * done));
    sets.put("retain", set(0.99 - 0.03 * done, 0.97 - 0.05 * done));
    sets.put("general", set(0.96 - 0.04 * done, 0.95 - 0.04 * done));
    return sets;
  }

  private static Map<String, Double> set(double probability, double rouge) {
    Map<String, Double> scores = new LinkedHashMap<>();
    scores.put("probability", probability);
    scores.put("rouge_l_recall", rouge);
    scores.put("refusal_rate", 0.0);
    return scores;
  }

  static Map<String, Object> step(int step, double me, double gd, boolean applied) {
    Map<String, Double> parts = new LinkedHashMap<>();
    parts.put("ME", me);
    parts.put("GD", gd);
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("step", step);
    line.put("loss", 0.2 * me + gd);
    line.put("parts", parts);
    line.put("gradient_norm", 0.5 + me / 4);
    line.put("learning_rate", step < 10 ? 1e-4 * (step + 1) : 1e-3 * (70 - step) / 60);
    line.put("tokens", 1000 + step);
    line.put("applied", applied);
    return line;
  }

  /** An unlearning of 60 updates, one of them skipped, resumed after 30, evaluated every 20. */
  public static Path unlearning(Path directory) {
    Random random = new Random(5);
    try (RunDirectory run =
        RunDirectory.create(directory, CONFIG, RunDirectory.environment("1.2", "cpu: avx2"))) {
      run.evaluation(0, scores(0), 0.97);
      for (int step = 0; step < 60; step++) {
        double me = step == 17 ? Double.NaN : 6 * Math.exp(-step / 12.0) + random.nextDouble() / 2;
        run.append(step(step, me, 0.05 + random.nextDouble() / 10, step != 17));
        long mib = 1 << 20;
        double seconds = 0.25 * (step < 30 ? step + 1 : step - 29);
        run.timing(
            new Timing(
                step,
                seconds,
                4000 + random.nextInt(400),
                (600 + step / 10) * mib,
                (90 + 13 * (step % 7)) * mib,
                310 * mib,
                2 * mib));
        if (step == 29) {
          run.resumed(30, "after signal TERM");
        }
        if (step % 20 == 19) {
          run.evaluation(step + 1, scores((step + 1) / 60.0), 0.97 - 0.03 * (step + 1) / 60);
        }
      }
    }
    write(directory.resolve("evaluation-before.json"), json(0));
    write(directory.resolve("evaluation/evaluation.json"), json(1));
    return directory;
  }

  private static String json(double done) {
    Map<String, Object> root = new LinkedHashMap<>();
    root.put("sets", scores(done));
    root.put("model_utility", 0.97 - 0.03 * done);
    root.put("forget_truth_ratios", List.of());
    return new ObjectMapper().valueToTree(root).toPrettyString();
  }

  static void write(Path file, String text) {
    try {
      Files.createDirectories(file.getParent());
      Files.writeString(file, text);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
