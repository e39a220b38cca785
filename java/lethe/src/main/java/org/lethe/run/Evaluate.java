package org.lethe.run;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.function.Predicate;
import org.lethe.UserException;
import org.lethe.checkpoint.OutputDirectory;
import org.lethe.config.EvaluateSection;
import org.lethe.config.RunConfig;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.Refusals;
import org.lethe.evaluate.Evaluation;
import org.lethe.evaluate.Evaluator;
import org.lethe.evaluate.Scoring;
import org.lethe.evaluate.SetObservations;
import org.lethe.method.Positions;
import org.lethe.metric.AnswerTokens;
import org.lethe.metric.Definitions;
import org.lethe.metric.ExactMemorization;
import org.lethe.metric.MembershipAttack;
import org.lethe.metric.Metric;
import org.lethe.metric.Observation;
import org.lethe.metric.Probability;
import org.lethe.model.Model;
import org.lethe.model.View;
import org.lethe.report.Table;

/** Judges a model on the configured sets. */
public final class Evaluate {
  /** Scores, and the observations behind them. */
  public record Result(Evaluation evaluation, List<SetObservations> observed, Scoring scoring) {}

  private Evaluate() {}

  /** Loads the configured model and adapter and judges them. */
  public static Result run(RunConfig config, RunListener listener) {
    try (LoadedModel loaded = LoadedModel.open(config)) {
      boolean adapted = loaded.loadAdapter(config);
      EvaluationRoom.require(config, loaded, loaded.model().adapterWidths(), 0);
      return run(config, loaded, adapted, listener);
    }
  }

  /** The same, and writes the evaluation into the output directory, whole or not at all. */
  public static Result runAndWrite(RunConfig config, RunListener listener) {
    OutputDirectory.check(config.output(), config.overwrite(), 0);
    Inputs.requireOutside(config);
    Result result = run(config, listener);
    OutputDirectory.write(config.output(), config.overwrite(), 0, out -> write(result, out));
    return result;
  }

  /** Judges a model that is already loaded. */
  public static Result run(
      RunConfig config, LoadedModel loaded, boolean adapted, RunListener listener) {
    Model model = loaded.model();
    return run(config, loaded, adapted ? model.view() : model.reference(), listener);
  }

  /** Judges one of the models that stand on the loaded weights. */
  static Result run(RunConfig config, LoadedModel loaded, View view, RunListener listener) {
    Map<String, List<Example>> sets = sets(config);
    if (sets.isEmpty()) {
      throw new UserException(
          "there is nothing to evaluate; give data.forget, data.retain, data.general or"
              + " data.holdout");
    }
    ExampleEncoder encoder = encoder(config.evaluate(), loaded);
    Evaluator evaluator =
        new Evaluator(
                loaded.model(),
                loaded.tokenizer(),
                encoder,
                view,
                config.evaluate().maxNewTokens(),
                config.evaluate().batchSize())
            .extracting(
                config.evaluate().extractionN(),
                Positions.valueOf(config.evaluate().extractionPrefixes().name()));
    int truncated = encoder.truncatedCount();
    List<SetObservations> observed = new ArrayList<>();
    sets.forEach((name, examples) -> observed.add(evaluator.observe(name, examples)));
    int cut = encoder.truncatedCount() - truncated;
    if (cut > 0) {
      listener.note(
          cut + " answers were longer than the context and were cut; raise data.context_length");
    }
    Scoring scoring = scoring(config);
    return new Result(Evaluation.of(observed, scoring), observed, scoring);
  }

  /** The rows of each configured set that are judged; sets without any are left out. */
  static Map<String, List<Example>> sets(RunConfig config) {
    Map<String, List<Example>> sets = new LinkedHashMap<>();
    sets.put(SetObservations.FORGET, Settings.forget(config.data()));
    sets.put("retain", Settings.read(config.data().retain()));
    sets.put("general", Settings.read(config.data().general()));
    sets.put(SetObservations.HOLDOUT, Settings.read(config.data().holdout()));
    sets.values().removeIf(List::isEmpty);
    int most = config.evaluate().rows();
    if (most > 0) {
      sets.replaceAll((name, rows) -> rows.subList(0, Math.min(most, rows.size())));
    }
    return sets;
  }

  /** What prompts and answers are encoded with when they are judged. */
  static ExampleEncoder encoder(EvaluateSection c, LoadedModel loaded) {
    if (c.controlToken().isEmpty()) {
      return loaded.encoder();
    }
    String token = c.controlToken().get();
    OptionalInt id = loaded.tokenizer().tokenId(token);
    return loaded
        .encoder()
        .behind(
            id.orElseThrow(
                () ->
                    new UserException(
                        "evaluate.control_token: \""
                            + token
                            + "\" is no token of the model's vocabulary; name one that"
                            + " tokenizer.json has")));
  }

  /** What the configuration says of how observations become scores. */
  static Scoring scoring(RunConfig config) {
    return new Scoring(definitions(config.evaluate()), config.evaluate().minK(), isRefusal(config));
  }

  /** Whose definitions the metrics follow. */
  public static Definitions definitions(EvaluateSection config) {
    return Definitions.valueOf(config.definitions().name());
  }

  /** Whether a text is one of the refusals the run teaches, or plainly a refusal. */
  static Predicate<String> isRefusal(RunConfig config) {
    List<String> lines = Settings.refusals(config);
    return text -> Refusals.isRefusal(text, lines);
  }

  /**
   * Writes {@code evaluation.json} and {@code evaluation-rows.jsonl} into a directory being
   * written: one line per example with its tokens, likelihood and generated answer.
   */
  static void write(Result result, OutputDirectory.Sink out) throws IOException {
    out.writeString("evaluation.json", result.evaluation().json());
    StringBuilder lines = new StringBuilder();
    ObjectMapper mapper = new ObjectMapper();
    for (SetObservations set : result.observed()) {
      double[] ratios = set.truthRatios(result.scoring().definitions());
      for (int i = 0; i < set.observations().size(); i++) {
        Observation o = set.observations().get(i);
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("set", set.name());
        row.put("source", set.examples().get(i).source());
        row.put("ids", set.answers().get(i).ids());
        row.put("answer_start", set.answers().get(i).answerStart());
        row.put("probability", Probability.of(o.answerNll()));
        if (ratios.length > 0) {
          row.put("truth_ratio", ratios[i]);
        }
        AnswerTokens tokens = result.scoring().definitions().tokens(o.tokens());
        row.put(
            "extraction_strength", result.scoring().definitions().extractionStrength(o.tokens()));
        row.put("exact_memorization", ExactMemorization.of(tokens.hits()));
        addExtraction(row, o);
        for (MembershipAttack attack : result.scoring().attacks()) {
          row.put("mia_" + attack.name(), attack.score().applyAsDouble(o));
        }
        row.put("answer", o.answer());
        row.put("generation", o.generation());
        lines.append(mapper.writeValueAsString(row)).append('\n');
      }
    }
    out.writeString("evaluation-rows.jsonl", lines.toString());
  }

  /** What prefixes gave away, as far as it was looked at. */
  private static void addExtraction(Map<String, Object> row, Observation o) {
    for (Metric metric : Metric.list(Definitions.LETHE, text -> false)) {
      if (metric.needs().contains(Metric.Need.EXTRACTION)) {
        double score = metric.score().applyAsDouble(o);
        if (!Double.isNaN(score)) {
          row.put(metric.name(), score);
        }
      }
    }
  }

  /** One row per set, one column per metric that some set has, or that always is measured. */
  public static Table table(String title, Evaluation evaluation) {
    List<String> metrics =
        Metric.list(Definitions.LETHE, text -> false).stream()
            .filter(
                m ->
                    !m.needs().contains(Metric.Need.EXTRACTION)
                        || evaluation.sets().values().stream()
                            .anyMatch(set -> set.containsKey(m.name())))
            .map(Metric::name)
            .toList();
    List<String> columns = new ArrayList<>(List.of("set"));
    columns.addAll(metrics);
    List<List<Table.Cell>> rows = new ArrayList<>();
    evaluation
        .sets()
        .forEach(
            (name, scores) -> {
              List<Object> cells = new ArrayList<>(List.of(name));
              metrics.forEach(m -> cells.add(scores.containsKey(m) ? (Object) scores.get(m) : "-"));
              rows.add(Table.row(cells.toArray()));
            });
    return new Table(title, columns, rows);
  }
}
