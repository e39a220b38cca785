package org.lethe.report;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.NavigableMap;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.ToDoubleFunction;
import java.util.stream.Stream;
import org.lethe.report.RunFiles.Scores;
import org.lethe.report.RunFiles.Update;

/** The curves of a run, the outcome first. */
final class RunCharts {
  private static final String UPDATES = "updates";
  private static final double MIB = 1 << 20;
  private static final double GIB = 1 << 30;

  private final RunFiles files;
  private final List<Chart.Marker> skipped;
  private final List<Chart.Marker> resumed;

  private RunCharts(RunFiles files) {
    this.files = files;
    this.skipped =
        files.steps().values().stream()
            .filter(update -> !update.applied())
            .map(update -> new Chart.Marker(Chart.Kind.SKIPPED, update.step()))
            .toList();
    this.resumed =
        files.resumes().stream()
            .map(resume -> new Chart.Marker(Chart.Kind.RESUMED, resume.step()))
            .toList();
  }

  static List<Chart> of(RunFiles files) {
    return new RunCharts(files).charts();
  }

  private List<Chart> charts() {
    List<Chart> charts = new ArrayList<>();
    evaluations(charts);
    steps(charts);
    memory().ifPresent(charts::add);
    if (!files.timings().isEmpty()) {
      charts.add(
          new Chart(
              "Speed",
              "Tokens that went through the model per second, forward and backward.",
              UPDATES,
              "tokens/s",
              Chart.Scale.FROM_ZERO,
              false,
              List.of(timing("tokens/s", Timing::tokensPerSecond)),
              resumed));
    }
    return charts;
  }

  private void steps(List<Chart> charts) {
    if (files.steps().isEmpty()) {
      return;
    }
    charts.add(
        step(
            "Loss",
            "What training makes small, measured before each update; a noisy curve is normal, since"
                + " every update sees other rows.",
            "loss",
            Stream.concat(skipped.stream(), resumed.stream()).toList(),
            Update::loss));
    Set<String> parts = new LinkedHashSet<>();
    files.steps().values().forEach(update -> parts.addAll(update.parts().keySet()));
    for (String part : parts.size() > 1 ? parts : Set.<String>of()) {
      charts.add(
          step(
              "Loss part " + part,
              Glossary.loss(part).orElse("A part of the loss, before its coefficient."),
              part,
              skipped,
              update -> update.parts().getOrDefault(part, Double.NaN)));
    }
    charts.add(
        step(
            "Gradient norm",
            "How steep the loss is: the length of the gradient before it is clipped. Growth without"
                + " end means that training runs away.",
            "norm",
            skipped,
            Update::gradientNorm));
    charts.add(
        step(
            "Learning rate",
            "How far each update goes, as the schedule has it.",
            "learning rate",
            List.of(),
            Update::learningRate));
  }

  private Chart step(
      String title,
      String meaning,
      String yLabel,
      List<Chart.Marker> markers,
      ToDoubleFunction<Update> value) {
    return new Chart(
        title,
        meaning,
        UPDATES,
        yLabel,
        Chart.Scale.AUTO,
        false,
        List.of(series(yLabel, files.steps(), value)),
        markers);
  }

  private void evaluations(List<Chart> charts) {
    NavigableMap<Long, Scores> scores = new TreeMap<>(files.evaluations());
    files.before().ifPresent(before -> scores.putIfAbsent(0L, before));
    files.after().ifPresent(after -> scores.putIfAbsent(updates(), after));
    // One measurement is a number for the table, not a curve.
    if (scores.size() < 2) {
      return;
    }
    evaluation("Probability of the right answers", "probability", scores).ifPresent(charts::add);
    evaluation("Right answers said (ROUGE-L recall)", "rouge_l_recall", scores)
        .ifPresent(charts::add);
  }

  /** Updates that were made in all. */
  private long updates() {
    return files.steps().isEmpty() ? 0 : files.steps().lastKey() + 1;
  }

  private Optional<Chart> evaluation(
      String title, String metric, NavigableMap<Long, Scores> scores) {
    Set<String> sets = new LinkedHashSet<>();
    scores.values().forEach(all -> sets.addAll(all.sets().keySet()));
    List<Series> curves = new ArrayList<>();
    for (String set : sets) {
      NavigableMap<Long, Scores> measured = new TreeMap<>(scores);
      measured.values().removeIf(all -> Double.isNaN(all.score(set, metric)));
      if (!measured.isEmpty()) {
        curves.add(series(set, measured, all -> all.score(set, metric)));
      }
    }
    return curves.isEmpty()
        ? Optional.empty()
        : Optional.of(
            new Chart(
                title,
                "forget should fall, everything else should stay up. "
                    + Glossary.metric(metric).orElse("")
                    + (scores.size() > 2
                        ? ""
                        : " Measured at the start and at the end only: the line between says"
                            + " nothing of the way."),
                UPDATES,
                metric,
                Chart.Scale.UNIT,
                true,
                curves,
                List.of()));
  }

  private Optional<Chart> memory() {
    double most =
        files.timings().values().stream()
            .mapToLong(t -> Math.max(t.residentBytes(), Math.max(t.heapBytes(), t.nativeBytes())))
            .max()
            .orElse(0);
    double unit = most < GIB ? MIB : GIB;
    List<Series> curves = new ArrayList<>();
    curves.add(bytes("whole process (resident)", unit, Timing::residentBytes));
    curves.add(bytes("Lethe's native arenas", unit, Timing::nativeBytes));
    curves.add(bytes("Java heap", unit, Timing::heapBytes));
    curves.removeIf(series -> series.y().stream().allMatch(y -> y.isNaN()));
    return curves.isEmpty()
        ? Optional.empty()
        : Optional.of(
            new Chart(
                "Memory",
                "Flat is what it should be: a curve that keeps rising is a leak. The heap's saw"
                    + " teeth are the garbage collector's.",
                UPDATES,
                unit == MIB ? "MiB" : "GiB",
                Chart.Scale.FROM_ZERO,
                false,
                curves,
                resumed));
  }

  private Series bytes(String name, double unit, ToDoubleFunction<Timing> bytes) {
    return timing(
        name,
        timing -> {
          double value = bytes.applyAsDouble(timing);
          return value == Timing.UNKNOWN ? Double.NaN : value / unit;
        });
  }

  private Series timing(String name, ToDoubleFunction<Timing> value) {
    return series(name, files.timings(), value);
  }

  private static <T> Series series(
      String name, NavigableMap<Long, T> values, ToDoubleFunction<T> value) {
    return new Series(
        name,
        values.keySet().stream().map(Long::doubleValue).toList(),
        values.values().stream().map(v -> value.applyAsDouble(v)).toList());
  }
}
