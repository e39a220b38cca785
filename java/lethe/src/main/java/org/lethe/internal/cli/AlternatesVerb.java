package org.lethe.internal.cli;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import org.lethe.UserException;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.run.Alternates;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/** {@code lethe alternates}: rows with other answers that the model makes up, for AltPO. */
@Command(
    name = "alternates",
    description = "Let a model make up other answers to rows, which AltPO prefers to their own.",
    mixinStandardHelpOptions = true,
    versionProvider = Main.Version.class,
    footer = {
      "",
      "Example: lethe alternates --model DIR --output forget-alternates.jsonl \\",
      "         forget.jsonl"
    })
final class AlternatesVerb implements Callable<Integer> {
  @Mixin private AnsweringOptions answering;

  @Option(
      names = {"-o", "--output"},
      required = true,
      paramLabel = "FILE",
      description = "JSON Lines file for the rows with their alternates.")
  private Path output;

  @Option(
      names = "--repeats",
      defaultValue = "5",
      description = "Draws per row, as in AltPO: ${DEFAULT-VALUE}.")
  private int repeats;

  @Option(
      names = "--temperature",
      defaultValue = "1",
      description = "Above 0. Default: ${DEFAULT-VALUE}.")
  private float temperature;

  @Option(
      names = "--max-new-tokens",
      defaultValue = "256",
      description = "Longest alternate: ${DEFAULT-VALUE}.")
  private int maxNewTokens;

  @Option(
      names = "--instruction",
      paramLabel = "TEXT",
      description = "What the model is told after question and answer; default: Lethe's own words.")
  private String instruction = Alternates.INSTRUCTION;

  @Option(
      names = "--flat",
      description =
          "One line per alternate with question, answer and alternate, as open-unlearning reads"
              + " them; default: one line per row, with all it had and a list of alternates.")
  private boolean flat;

  @Option(names = "--overwrite", description = "Replace the output.")
  private boolean overwrite;

  @Parameters(paramLabel = "ROWS", description = "JSON Lines file with question and answer.")
  private Path rows;

  @Mixin private JsonOption json;

  private final Console console;

  AlternatesVerb(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    AnsweringOptions.require(repeats >= 1, "--repeats", repeats, "at least 1");
    AnsweringOptions.require(maxNewTokens >= 1, "--max-new-tokens", maxNewTokens, "at least 1");
    AnsweringOptions.require(
        temperature > 0 && Float.isFinite(temperature), "--temperature", temperature, "above 0");
    if (Files.exists(output) && !overwrite) {
      // Drawing takes long; TextFile would say so only then.
      throw new UserException(
          output + ": exists; choose another name, or replace it by --overwrite");
    }
    RunConfig config = answering.config();
    Alternates.Result made =
        Alternates.make(
            config,
            Jsonl.read(rows),
            new Alternates.Request(
                repeats, maxNewTokens, instruction, answering.sampling(temperature)));
    StringBuilder lines = new StringBuilder();
    made.rows().forEach(row -> append(lines, row));
    TextFile.write(output, lines.toString(), overwrite);
    int alternates = made.rows().stream().mapToInt(r -> r.alternateAnswers().size()).sum();
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("output", output.toString());
    facts.put("rows", made.rows().size());
    facts.put("alternates", alternates);
    facts.put("left_out", made.left());
    json.print(
        console,
        facts,
        () ->
            console
                .out()
                .printf(
                    Locale.ROOT,
                    "Written to %s: %d rows, %d alternates; %d draws were blank or the answer"
                        + " itself%n",
                    output,
                    made.rows().size(),
                    alternates,
                    made.left()));
    return ExitCode.OK;
  }

  private void append(StringBuilder lines, Example row) {
    ObjectMapper mapper = new ObjectMapper();
    if (flat) {
      for (String alternate : row.alternateAnswers()) {
        ObjectNode line = mapper.createObjectNode();
        line.put("question", row.question());
        line.put("answer", row.answer());
        lines.append(line.put("alternate", alternate)).append('\n');
      }
      return;
    }
    ObjectNode line = mapper.createObjectNode();
    line.put("question", row.question());
    line.put("answer", row.answer());
    add(line, "paraphrased_answer", row.paraphrasedAnswers());
    add(line, "perturbed_answer", row.perturbedAnswers());
    if (!row.sensitive().isEmpty()) {
      var spans = line.putArray("sensitive_spans");
      row.sensitive().forEach(p -> spans.addArray().add(p.from()).add(p.to()));
    }
    add(line, "alternate", row.alternateAnswers());
    lines.append(line).append('\n');
  }

  private static void add(ObjectNode line, String field, List<String> texts) {
    if (!texts.isEmpty()) {
      var list = line.putArray(field);
      texts.forEach(list::add);
    }
  }
}
