package org.lethe.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.StringReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.lethe.UserException;
import org.lethe.evaluate.Evaluation;
import org.lethe.metric.Definitions;
import org.lethe.metric.Metric;
import org.xml.sax.InputSource;

class RunReportTest {
  @TempDir Path dir;

  private static Chart chart(ReportData data, String title) {
    return data.charts().stream().filter(c -> c.title().equals(title)).findFirst().orElseThrow();
  }

  private static Map<String, String> facts(ReportData data) {
    return data.facts().stream().collect(Collectors.toMap(KeyValue::key, KeyValue::value));
  }

  @Test
  void theOutcomeIsSaidInWordsAndInATable() {
    ReportData data = Report.of(SyntheticRun.unlearning(dir.resolve("run")));
    assertEquals("Unlearning by ME+GD", data.title());
    assertEquals(
        "What was to be forgotten: the probability of the right answers fell from 0.9900 to"
            + " 0.0400; the share of their words that the model says fell from 0.9800 to 0.1800.",
        data.summary().get(0));
    assertEquals(
        "Model utility, one number for everything kept, fell from 0.9700 to 0.9400"
            + " (1 would be perfect).",
        data.summary().get(3));
    assertEquals(
        "60 updates over 61,770 tokens in 15 s, with at most 605 MiB of memory.",
        data.summary().get(4));
    Table table = data.tables().get(0);
    assertEquals(List.of("set", "metric", "before", "after", "change", "better"), table.columns());
    assertEquals(10, table.rows().size());
    assertEquals(
        List.of("forget", "probability", "0.9900", "0.0400", "-0.9500", "lower"),
        table.rows().get(0).stream().map(Table.Cell::text).toList());
    assertEquals(
        List.of("retain", "probability", "0.9900", "0.9600", "-0.0300", "higher"),
        table.rows().get(3).stream().map(Table.Cell::text).toList());
    assertEquals("model utility", table.rows().get(9).get(1).text());
  }

  @Test
  void everyCurveIsThereOverTheUpdates() {
    ReportData data = Report.of(SyntheticRun.unlearning(dir.resolve("run")));
    assertEquals(
        List.of(
            "Probability of the right answers",
            "Right answers said (ROUGE-L recall)",
            "Loss",
            "Loss part ME",
            "Loss part GD",
            "Gradient norm",
            "Learning rate",
            "Memory",
            "Speed"),
        data.charts().stream().map(Chart::title).toList());
    Chart probability = data.charts().get(0);
    assertEquals(
        List.of("forget", "retain", "general"),
        probability.series().stream().map(Series::name).toList());
    assertEquals(List.of(0.0, 20.0, 40.0, 60.0), probability.series().get(0).x());
    assertEquals(0.99, probability.series().get(0).y().get(0));
    assertEquals(0.99 - 0.95, probability.series().get(0).y().get(3));
    assertEquals(60, chart(data, "Loss").series().get(0).y().size());
    assertEquals(Double.NaN, chart(data, "Loss").series().get(0).y().get(17));
    assertEquals(1e-4, chart(data, "Learning rate").series().get(0).y().get(0));
    Chart memory = chart(data, "Memory");
    assertEquals("MiB", memory.yLabel());
    assertEquals(605.0, memory.series().get(0).y().get(59));
    assertEquals(310.0, memory.series().get(1).y().get(0));
    assertEquals(List.of(new Chart.Marker(Chart.Kind.RESUMED, 30)), memory.markers());
    assertEquals(
        List.of(new Chart.Marker(Chart.Kind.SKIPPED, 17), new Chart.Marker(Chart.Kind.RESUMED, 30)),
        chart(data, "Loss").markers());
  }

  @Test
  void skippedStepsAndResumesAreNoted() {
    ReportData data = Report.of(SyntheticRun.unlearning(dir.resolve("run")));
    assertTrue(
        data.notes().get(0).startsWith("1 of 60 updates left the parameters as they were"),
        data.notes().get(0));
    assertTrue(data.notes().get(0).contains("step 17."), data.notes().get(0));
    assertTrue(data.notes().get(1).startsWith("The run was resumed after 30 updates at 20"));
    assertTrue(data.notes().get(1).endsWith(" (after signal TERM)."), data.notes().get(1));
  }

  @Test
  void everyNumberShownIsExplainedAndNoFolderIsNamed() throws Exception {
    Path run = SyntheticRun.unlearning(dir.resolve("run"));
    ReportData data = Report.of(run);
    List<String> explained = data.glossary().stream().map(KeyValue::key).toList();
    assertEquals(
        List.of(
            "set forget",
            "set retain",
            "set general",
            "probability",
            "rouge_l_recall",
            "refusal_rate",
            "model utility",
            "loss ME",
            "loss GD"),
        explained);
    Map<String, String> facts = facts(data);
    assertEquals("forget.jsonl, more.jsonl", facts.get("data.forget"));
    assertEquals("tuned", facts.get("model"));
    assertEquals("1", facts.get("skipped updates"));
    assertEquals("cpu: avx2", facts.get("backend"));
    assertFalse(facts.containsKey("method.forget_beta"), facts.toString());
    Report.write(run, data);
    for (String name : List.of("report.md", "report.html")) {
      String text = Files.readString(run.resolve(name));
      assertFalse(text.contains("/home") || text.contains("someone"), name);
      assertFalse(text.contains(dir.toString()), name);
    }
    DocumentBuilderFactory.newInstance()
        .newDocumentBuilder()
        .parse(new InputSource(new StringReader(Files.readString(run.resolve("report.html")))));
  }

  @Test
  void everyMetricAndLossOfLetheHasASentence() {
    for (Metric metric : Metric.list(Definitions.LETHE, text -> false)) {
      assertTrue(Glossary.metric(metric.name()).isPresent(), metric.name());
    }
    for (String loss : List.of("GA", "NPO", "DPO", "IDK", "ME", "GD", "KL", "AP")) {
      assertTrue(Glossary.loss(loss).isPresent(), loss);
    }
    assertEquals("higher", Glossary.wanted("forget", "truth_ratio_forget"));
    assertEquals("-", Glossary.wanted("holdout", "probability"));
    assertEquals("-", Glossary.wanted("retain", "made up"));
  }

  @Test
  void aRunThatIsStillGoingHasAReportToo() throws IOException {
    Path run = SyntheticRun.unlearning(dir.resolve("run"));
    Files.delete(run.resolve("evaluation/evaluation.json"));
    Files.delete(run.resolve("evaluation-before.json"));
    Files.writeString(run.resolve("metrics.jsonl"), "{\"step\":60,\"lo", StandardOpenOption.APPEND);
    ReportData data = Report.of(run);
    assertTrue(
        data.notes().stream().anyMatch(n -> n.contains("the one made after 60 updates")),
        data.notes().toString());
    assertEquals("0.9900", data.tables().get(0).rows().get(0).get(2).text());
    assertEquals("0.0400", data.tables().get(0).rows().get(0).get(3).text());

    Path fresh = dir.resolve("fresh");
    RunDirectory.create(fresh, "", Map.of()).close();
    data = Report.of(fresh);
    assertEquals("Run without updates", data.title());
    assertEquals(List.of(), data.charts());
    assertEquals(List.of(), data.tables());
  }

  @Test
  void fineTuningIsNotCalledUnlearning() {
    Path run = dir.resolve("run");
    try (RunDirectory directory = RunDirectory.create(run, SyntheticRun.CONFIG, Map.of())) {
      Map<String, Object> line = SyntheticRun.step(0, 0, 2, true);
      line.put("parts", Map.of("GD", 2.0));
      directory.append(line);
    }
    ReportData data = Report.of(run);
    assertEquals("Fine-tuning", data.title());
    assertFalse(facts(data).containsKey("method.forget"));
    assertEquals(
        List.of("Loss", "Gradient norm", "Learning rate"),
        data.charts().stream().map(Chart::title).toList());
    assertTrue(data.notes().get(0).contains("lethe evaluate"), data.notes().get(0));
  }

  @Test
  void stepsMadeAgainCountOnce() {
    Path run = dir.resolve("run");
    try (RunDirectory directory = RunDirectory.create(run, "", Map.of(), false)) {
      for (int step : new int[] {0, 1, 2, 1, 2}) {
        directory.append(SyntheticRun.step(step, 1, (double) directory.metricsBytes(), true));
        directory.timing(
            new Timing(
                step, 10, 5, Timing.UNKNOWN, Timing.UNKNOWN, Timing.UNKNOWN, Timing.UNKNOWN));
      }
    }
    RunFiles files = RunFiles.read(run);
    assertEquals(List.of(0L, 1L, 2L), List.copyOf(files.steps().keySet()));
    assertTrue(files.steps().get(1L).loss() > files.steps().get(0L).loss());
    assertEquals(3, files.timings().size());
    // No size of memory is known: there is no chart of it.
    assertTrue(Report.of(files).charts().stream().noneMatch(c -> c.title().equals("Memory")));
  }

  @Test
  void damageIsNamedByFileAndLine() throws IOException {
    Path run = SyntheticRun.unlearning(dir.resolve("run"));
    Path metrics = run.resolve("metrics.jsonl");
    String whole = Files.readString(metrics);
    for (String bad :
        List.of(
            "{",
            "",
            "7",
            "{\"step\":1.5,\"loss\":1}",
            "{\"step\":1,\"loss\":\"many\"}",
            "{\"step\":1,\"evaluation\":{\"forget\":{\"probability\":null}}}")) {
      Files.writeString(metrics, bad + "\n" + whole);
      UserException e = assertThrows(UserException.class, () -> RunFiles.read(run), bad);
      assertTrue(e.getMessage().startsWith(metrics + ":1: "), e.getMessage());
    }
    Files.writeString(metrics, whole);
    Files.writeString(run.resolve("config.yaml"), "a: [");
    UserException e = assertThrows(UserException.class, () -> RunFiles.read(run));
    assertTrue(e.getMessage().startsWith(run.resolve("config.yaml") + ": "), e.getMessage());
    assertThrows(UserException.class, () -> RunFiles.read(dir));
  }

  /** Scores that are not numbers are texts in JSON; none may come back as another number. */
  @Test
  void scoresThatAreNotNumbersStayThat() {
    Path run = SyntheticRun.unlearning(dir.resolve("run"));
    Map<String, Double> scores = new LinkedHashMap<>();
    scores.put("probability", Double.NaN);
    scores.put("rouge_l_f1", 0.5);
    Evaluation odd = new Evaluation(Map.of("forget", scores), Double.NaN);
    SyntheticRun.write(run.resolve("evaluation/evaluation.json"), odd.json());
    RunFiles files = RunFiles.read(run);
    assertEquals(Double.NaN, files.after().orElseThrow().score("forget", "probability"));
    assertEquals(Double.NaN, files.after().orElseThrow().utility());
    assertEquals("-", Report.of(files).tables().get(0).rows().get(0).get(3).text(), odd.json());
  }

  @Test
  void runsStandSideBySide() throws IOException {
    RunFiles a = RunFiles.read(SyntheticRun.unlearning(dir.resolve("a")));
    RunFiles b = RunFiles.read(SyntheticRun.unlearning(dir.resolve("b")));
    assertEquals(
        """
        run     method  updates  forget prob  ROUGE-L  refusals  retain prob  ROUGE-L  general prob  ROUGE-L  utility
        ------  ------  -------  -----------  -------  --------  -----------  -------  ------------  -------  -------
        before                        0.9900   0.9800    0.0000       0.9900   0.9700        0.9600   0.9500   0.9700
        a       ME+GD        60       0.0400   0.1800    0.0000       0.9600   0.9200        0.9200   0.9100   0.9400
        b       ME+GD        60       0.0400   0.1800    0.0000       0.9600   0.9200        0.9200   0.9100   0.9400
        """,
        Comparison.table(List.of(a, b)).plain());
    Files.move(
        b.directory().resolve("evaluation/evaluation.json"),
        b.directory().resolve("evaluation-before.json"),
        StandardCopyOption.REPLACE_EXISTING);
    Table table = Comparison.table(List.of(a, RunFiles.read(b.directory())));
    assertEquals(
        List.of("a, before", "a", "b, before", "b"),
        table.rows().stream().map(r -> r.get(0).text()).toList());
    assertEquals("0.0400", table.rows().get(2).get(3).text());
    assertEquals("-", table.rows().get(3).get(3).text());
  }

  @Test
  void runsOfOneStartShareItsRowThoughOthersDoNotKnowIt() {
    RunFiles a = RunFiles.read(SyntheticRun.unlearning(dir.resolve("a")));
    Path tuned = dir.resolve("tuned");
    RunDirectory.create(tuned, "", Map.of()).close();
    Table table = Comparison.table(List.of(RunFiles.read(tuned), a));
    assertEquals(
        List.of("before", "tuned", "a"), table.rows().stream().map(r -> r.get(0).text()).toList());
    assertEquals(0, Comparison.table(List.of()).rows().size());
  }

  @Test
  void changesAreWhatTheColumnsShow() {
    List<String> shown = new ArrayList<>();
    double[][] pairs = {
      {0.5, 0.5 + 1e-9}, {0.5, 0.50006}, {3e-7, 1e-7}, {Double.NaN, 1}, {0, 12345}, {0.3, 0.2}
    };
    for (double[] pair : pairs) {
      Table table =
          BeforeAfter.table(
                  Optional.of(new RunFiles.Scores(Map.of(), pair[0])),
                  Optional.of(new RunFiles.Scores(Map.of(), pair[1])))
              .orElseThrow();
      shown.add(
          String.join(" ", table.rows().get(0).subList(2, 5).stream().map(c -> c.text()).toList()));
    }
    assertEquals(
        List.of(
            "0.5000 0.5000 0.0000",
            "0.5000 0.5001 +6.0e-05",
            "3.0e-07 1.0e-07 -2.0e-07",
            "- 1.0000 -",
            "0.0000 1.2e+04 +1.2e+04",
            "0.3000 0.2000 -0.1000"),
        shown);
  }

  @Test
  void amountsAreReadable() {
    assertEquals("0.5 KiB", Numbers.bytes(512));
    assertEquals("812 MiB", Numbers.bytes(812L << 20));
    assertEquals("1.5 GiB", Numbers.bytes(3L << 29));
    assertEquals("3.2 s", Numbers.duration(3.21));
    assertEquals("59 s", Numbers.duration(59.4));
    assertEquals("1 min 0 s", Numbers.duration(59.6));
    assertEquals("2 h 5 min", Numbers.duration(7510));
  }
}
