package org.lethe.report;

import java.nio.file.Files;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.lethe.report.RunFiles.Resume;
import org.lethe.report.RunFiles.Scores;
import org.lethe.report.RunFiles.Update;

/** Makes the report of a run from its files. */
final class RunReport {
  private static final List<String> KEPT = List.of("retain", "general");
  private static final String FULL_PARAMETERS = "train.full_parameters";

  private final RunFiles files;
  private final NavigableMap<Long, Update> steps;

  RunReport(RunFiles files) {
    this.files = files;
    this.steps = files.steps();
  }

  ReportData data() {
    return new ReportData(
        title(files),
        summary(),
        BeforeAfter.table(before(), after()).stream().toList(),
        RunCharts.of(files),
        notes(),
        glossary(),
        facts());
  }

  /** What kind of run it is, seen from the losses that it minimised. */
  static String title(RunFiles files) {
    if (files.steps().isEmpty()) {
      return "Run without updates";
    }
    // Where sides take turns, a step has the losses of one.
    Set<String> parts = new LinkedHashSet<>();
    files.steps().values().forEach(step -> parts.addAll(step.parts().keySet()));
    String forget = files.settings().getOrDefault("method.forget", "");
    return parts.stream().anyMatch(forget::equalsIgnoreCase)
        ? "Unlearning by " + String.join("+", parts)
        : "Fine-tuning";
  }

  private Optional<Scores> before() {
    return files.before().or(() -> Optional.ofNullable(files.evaluations().get(0L)));
  }

  private Optional<Scores> after() {
    return files.after().or(this::latest);
  }

  /** The last evaluation made after an update, where there is no final one. */
  private Optional<Scores> latest() {
    return files.evaluations().isEmpty() || files.evaluations().lastKey() == 0
        ? Optional.empty()
        : Optional.of(files.evaluations().lastEntry().getValue());
  }

  private List<String> summary() {
    List<String> words = new ArrayList<>();
    if (before().isPresent() && after().isPresent()) {
      Scores before = before().get();
      Scores after = after().get();
      outcome("What was to be forgotten", Glossary.FORGET, before, after).ifPresent(words::add);
      for (String set : KEPT) {
        outcome("What was to be kept (" + set + ")", set, before, after).ifPresent(words::add);
      }
      if (!Double.isNaN(before.utility()) && !Double.isNaN(after.utility())) {
        words.add(
            "Model utility, one number for everything kept, "
                + moved(before.utility(), after.utility())
                + " (1 would be perfect).");
      }
    }
    effort().ifPresent(words::add);
    return words;
  }

  private static Optional<String> outcome(String what, String set, Scores before, Scores after) {
    String p = "probability";
    String rouge = "rouge_l_recall";
    if (Double.isNaN(before.score(set, p)) || Double.isNaN(after.score(set, p))) {
      return Optional.empty();
    }
    String words =
        what
            + ": the probability of the right answers "
            + moved(before.score(set, p), after.score(set, p));
    if (!Double.isNaN(before.score(set, rouge)) && !Double.isNaN(after.score(set, rouge))) {
      words +=
          "; the share of their words that the model says "
              + moved(before.score(set, rouge), after.score(set, rouge));
    }
    return Optional.of(words + ".");
  }

  private static String moved(double before, double after) {
    String from = Numbers.score(before);
    String to = Numbers.score(after);
    if (from.equals(to)) {
      return "stayed at " + to;
    }
    return (after < before ? "fell from " : "rose from ") + from + " to " + to;
  }

  private Optional<String> effort() {
    if (steps.isEmpty()) {
      return Optional.empty();
    }
    long tokens = steps.values().stream().mapToLong(Update::tokens).sum();
    String words =
        String.format(Locale.ROOT, "%s over %,d tokens", count(steps.size(), "update"), tokens);
    long shared = steps.values().stream().mapToLong(Update::sharedTokens).sum();
    if (shared > 0) {
      words += String.format(Locale.ROOT, " (and %,d that sequences shared)", shared);
    }
    double seconds = seconds();
    if (seconds > 0) {
      words += " in " + Numbers.duration(seconds);
    }
    long most = files.timings().values().stream().mapToLong(Timing::residentBytes).max().orElse(0);
    if (most > 0) {
      words += ", with at most " + Numbers.bytes(most) + " of memory";
    }
    return Optional.of(words + ".");
  }

  /** Time that the steps took, summed over the stretches of a run that was stopped and resumed. */
  private double seconds() {
    double sum = 0;
    double last = 0;
    for (Timing timing : files.timings().values()) {
      // The clock begins anew with every stretch.
      sum += timing.seconds() >= last ? timing.seconds() - last : timing.seconds();
      last = timing.seconds();
    }
    return sum;
  }

  private static String count(long number, String what) {
    return String.format(Locale.ROOT, "%,d %s%s", number, what, number == 1 ? "" : "s");
  }

  private List<String> notes() {
    List<String> notes = new ArrayList<>();
    List<Long> skipped =
        steps.values().stream().filter(u -> !u.applied()).map(Update::step).toList();
    if (!skipped.isEmpty()) {
      notes.add(
          String.format(Locale.ROOT, "%,d of ", skipped.size())
              + count(steps.size(), "update")
              + " left the parameters as they were, because a loss or gradient was not finite: step"
              + " "
              + some(skipped)
              + ". A few are harmless; many ask for a lower learning rate.");
    }
    for (Resume resume : files.resumes()) {
      notes.add(
          "The run was resumed after "
              + count(resume.step(), "update")
              + (resume.time().isEmpty() ? "" : " at " + resume.time())
              + (resume.why().isEmpty() ? "" : " (" + resume.why() + ")")
              + ".");
    }
    if (files.after().isEmpty()) {
      notes.add(
          latest().isPresent()
              ? "There is no final evaluation yet: \"after\" is the one made after "
                  + count(files.evaluations().lastKey(), "update")
                  + "."
              : "There is no evaluation of the outcome in "
                  + RunFiles.AFTER
                  + "; lethe evaluate judges a model at any time.");
    }
    if (after().map(scores -> scores.sets().containsKey(Glossary.FORGET)).orElse(false)) {
      notes.add("Forgetting is measured by the listed scores; it is no proof of deletion.");
    }
    if (Files.isDirectory(files.directory().resolve("adapter"))) {
      notes.add(
          "An adapter only hides: whoever has the base model without it has everything it knew.");
    }
    if (Files.isDirectory(files.directory().resolve(RunDirectory.TENSOR_BOARD))) {
      notes.add(
          "The same curves in TensorBoard: tensorboard --logdir with this directory behind it.");
    }
    return notes;
  }

  private static String some(List<Long> numbers) {
    int most = 10;
    String listed =
        numbers.stream().limit(most).map(String::valueOf).collect(Collectors.joining(", "));
    return numbers.size() > most ? listed + " and " + (numbers.size() - most) + " more" : listed;
  }

  /** The sets, scores and losses that this report shows. */
  private List<KeyValue> glossary() {
    List<KeyValue> entries = new ArrayList<>();
    Set<String> sets = new LinkedHashSet<>();
    Set<String> metrics = new LinkedHashSet<>();
    Stream.concat(before().stream(), after().stream())
        .forEach(
            scores -> {
              sets.addAll(scores.sets().keySet());
              scores.sets().values().forEach(all -> metrics.addAll(all.keySet()));
              if (!Double.isNaN(scores.utility())) {
                metrics.add(Glossary.UTILITY);
              }
            });
    sets.forEach(set -> Glossary.set(set).ifPresent(m -> entries.add(entry("set " + set, m))));
    metrics.forEach(name -> Glossary.metric(name).ifPresent(m -> entries.add(entry(name, m))));
    if (!steps.isEmpty()) {
      steps
          .firstEntry()
          .getValue()
          .parts()
          .keySet()
          .forEach(
              name -> Glossary.loss(name).ifPresent(m -> entries.add(entry("loss " + name, m))));
    }
    return entries;
  }

  private static KeyValue entry(String key, String value) {
    return new KeyValue(key, value);
  }

  private List<KeyValue> facts() {
    List<KeyValue> facts = new ArrayList<>();
    files.environment().forEach((key, value) -> facts.add(entry(key, words(value))));
    facts.add(entry("updates", Integer.toString(steps.size())));
    facts.add(
        entry(
            "skipped updates",
            Long.toString(steps.values().stream().filter(u -> !u.applied()).count())));
    facts.add(entry("resumes", Integer.toString(files.resumes().size())));
    boolean fineTuning = title(files).equals("Fine-tuning");
    boolean fullParameters = Boolean.parseBoolean(files.settings().get(FULL_PARAMETERS));
    for (Map.Entry<String, String> setting : files.settings().entrySet()) {
      String key = setting.getKey();
      boolean unused =
          (fineTuning && key.startsWith("method."))
              || (fullParameters && key.startsWith("lora."))
              || key.equals("output")
              || key.equals("overwrite");
      if (!unused) {
        facts.add(entry(key, withoutFolders(setting.getValue())));
      }
    }
    return facts;
  }

  /** A backend describes itself by a flat JSON object. */
  private static String words(String value) {
    return value.startsWith("{")
        ? value.replaceAll("[{}\"]", "").replace(":", " ").replace(",", ", ")
        : value;
  }

  /** A report is passed on; where its author keeps files is nobody's business. */
  private static String withoutFolders(String value) {
    return Stream.of(value.split(", "))
        .map(item -> item.replaceFirst("^.*[/\\\\](?=[^/\\\\])", ""))
        .collect(Collectors.joining(", "));
  }
}
