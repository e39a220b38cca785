package org.lethe.internal.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.lethe.UserException;
import org.lethe.run.DataInspection;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code lethe inspect-data}: rows as a model would see them. */
@Command(
    name = "inspect-data",
    description =
        "Show rows as a run would see them: tokens, which of them are labels, lengths, duplicates,"
            + " what the context cuts off. Exits with 2 if a row cannot be used.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Dim: the prompt. Green: the labels, learned or forgotten. · is a space,",
      "↵ a line end.",
      "Example: lethe inspect-data forget.jsonl --model DIR --rows 5"
    })
final class InspectDataVerb implements Callable<Integer> {
  private static final int PROBLEMS_SHOWN = 20;
  private static final String BARS = "▁▂▃▄▅▆▇█";

  /** Where the tokens come from. */
  private static final class Source {
    @Option(
        names = "--model",
        paramLabel = "DIR",
        description = "Model directory: its tokenizer and its context.")
    private Path model;

    @Option(names = "--tokenizer", paramLabel = "DIR", description = "Directory of a tokenizer.")
    private Path tokenizer;
  }

  @Parameters(arity = "1..*", paramLabel = "FILE", description = "JSON Lines files of rows.")
  private List<Path> files;

  @ArgGroup private Source source;

  @Option(
      names = "--context",
      paramLabel = "N",
      defaultValue = "0",
      description = "Tokens that a row may have; 0: the model's.")
  private int context;

  @Option(
      names = "--template",
      paramLabel = "TEXT",
      description =
          "Prompt template with {question} in it; default: the tokenizer's chat template.")
  private String template;

  @Option(
      names = "--rows",
      paramLabel = "N",
      defaultValue = "3",
      description = "Rows shown as tokens, from each file's front. Default: ${DEFAULT-VALUE}.")
  private int rows;

  @Option(
      names = "--color",
      paramLabel = "WHEN",
      defaultValue = "auto",
      description = "auto (on a terminal, unless NO_COLOR is set), always or never.")
  private String color;

  @Mixin private JsonOption json;

  private final Console console;

  InspectDataVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    if (context < 0 || rows < 0) {
      throw new UserException("--context and --rows must not be negative");
    }
    Ansi ansi = Ansi.of(color, Boolean.getBoolean("lethe.terminal.out"), System.getenv());
    List<Map<String, Object>> facts = new ArrayList<>();
    StringBuilder text = new StringBuilder();
    boolean bad = false;
    try (DataInspection inspection = open()) {
      for (Path file : files) {
        DataInspection.Summary summary = inspection.inspect(file, rows);
        bad |= !summary.problems().isEmpty() || summary.unusable() > 0;
        facts.add(facts(inspection, summary));
        text.append(text.isEmpty() ? "" : "\n").append(text(inspection, summary, ansi));
      }
    }
    json.print(console, Map.of("files", facts), () -> console.out().print(text));
    return bad ? ExitCode.USER : ExitCode.OK;
  }

  private DataInspection open() {
    if (source == null) {
      return DataInspection.plain();
    }
    boolean isModel = source.model != null;
    return DataInspection.of(
        isModel ? source.model : source.tokenizer, isModel, context, Optional.ofNullable(template));
  }

  private static Map<String, Object> facts(
      DataInspection inspection, DataInspection.Summary summary) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("file", summary.file().toString());
    facts.put("rows", summary.rows());
    facts.put("problems", summary.problems());
    facts.put("empty_answers", summary.emptyAnswers());
    facts.put("duplicates", summary.duplicates());
    facts.put("paraphrased_answers", summary.reworded());
    facts.put("perturbed_answers", summary.perturbed());
    if (inspection.tokenises()) {
      if (inspection.contextLength() < Integer.MAX_VALUE) {
        facts.put("context_length", inspection.contextLength());
      }
      facts.put("truncated", summary.truncated());
      facts.put("unusable", summary.unusable());
      summary.prompt().ifPresent(lengths -> facts.put("prompt_tokens", lengths(lengths)));
      summary.labels().ifPresent(lengths -> facts.put("label_tokens", lengths(lengths)));
      summary.total().ifPresent(lengths -> facts.put("tokens", lengths(lengths)));
      List<Map<String, Object>> samples = new ArrayList<>();
      for (DataInspection.Row row : summary.samples()) {
        Map<String, Object> sample = new LinkedHashMap<>();
        sample.put("source", row.example().source());
        sample.put("ids", Arrays.stream(row.tokens().ids()).boxed().toList());
        sample.put("answer_start", row.tokens().answerStart());
        sample.put("kept", row.kept());
        sample.put("tokens", row.pieces());
        samples.add(sample);
      }
      facts.put("samples", samples);
    }
    return facts;
  }

  private static Map<String, Object> lengths(DataInspection.Lengths lengths) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("min", lengths.min());
    facts.put("median", lengths.median());
    facts.put("max", lengths.max());
    facts.put("histogram", lengths.histogram());
    return facts;
  }

  private static String text(DataInspection inspection, DataInspection.Summary summary, Ansi ansi) {
    StringBuilder out = new StringBuilder();
    out.append(
        String.format(
            Locale.ROOT,
            "%s: %d rows, %d refused, %d duplicates, %d empty answers; %d rewordings, %d wrong"
                + " answers%n",
            summary.file(),
            summary.rows(),
            summary.problems().size(),
            summary.duplicates(),
            summary.emptyAnswers(),
            summary.reworded(),
            summary.perturbed()));
    summary.problems().stream()
        .limit(PROBLEMS_SHOWN)
        .forEach(problem -> out.append("  ").append(ansi.red(problem)).append('\n'));
    if (summary.problems().size() > PROBLEMS_SHOWN) {
      out.append("  and ").append(summary.problems().size() - PROBLEMS_SHOWN).append(" more\n");
    }
    summary.prompt().ifPresent(lengths -> line(out, "prompt", lengths));
    summary.labels().ifPresent(lengths -> line(out, "labels", lengths));
    summary.total().ifPresent(lengths -> line(out, "together", lengths));
    if (inspection.tokenises() && inspection.contextLength() < Integer.MAX_VALUE) {
      out.append(
          String.format(
              Locale.ROOT,
              "  context of %d tokens: %d rows are longer and would be cut; in %d the prompt alone"
                  + " fills it%n",
              inspection.contextLength(),
              summary.truncated(),
              summary.unusable()));
    }
    for (DataInspection.Row row : summary.samples()) {
      out.append(TokenText.of(row, inspection.eosId(), ansi));
    }
    return out.toString();
  }

  private static void line(StringBuilder out, String name, DataInspection.Lengths lengths) {
    int most = Collections.max(lengths.histogram());
    StringBuilder bars = new StringBuilder();
    for (int count : lengths.histogram()) {
      // A range that is not empty must be seen.
      bars.append(
          count == 0 ? ' ' : BARS.charAt((int) ((long) (BARS.length() - 1) * count / most)));
    }
    out.append(
        String.format(
            Locale.ROOT,
            "  %-8s tokens: min %d, median %d, max %d  [%s]%n",
            name,
            lengths.min(),
            lengths.median(),
            lengths.max(),
            bars));
  }
}
