package org.lethe.evaluate;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.TokenSequence;
import org.lethe.data.Tokenizer;
import org.lethe.method.Positions;
import org.lethe.method.RowStatistics;
import org.lethe.method.Sequence;
import org.lethe.metric.AnswerTokens;
import org.lethe.metric.Extraction;
import org.lethe.metric.Observation;
import org.lethe.model.Generator;
import org.lethe.model.Model;
import org.lethe.model.View;
import org.lethe.train.Scorer;

/**
 * Observes a model on examples: likelihoods of right, reworded and wrong answers in one
 * teacher-forced pass, and a greedy answer. Only the backend's thread may call it.
 */
public final class Evaluator {
  private final Model model;
  private final Tokenizer tokenizer;
  private final ExampleEncoder encoder;
  private final View view;
  private final int maxNewTokens;
  private final int batchSize;
  private final int grams;
  private final Positions prefixes;

  /**
   * An evaluator of a model.
   *
   * @param view which of the models on these weights is judged
   * @param maxNewTokens the longest answer that is generated
   * @param batchSize questions answered at a time; the answers do not depend on it
   */
  public Evaluator(
      Model model,
      Tokenizer tokenizer,
      ExampleEncoder encoder,
      View view,
      int maxNewTokens,
      int batchSize) {
    this(model, tokenizer, encoder, view, maxNewTokens, batchSize, 0, Positions.ANSWER);
  }

  private Evaluator(
      Model model,
      Tokenizer tokenizer,
      ExampleEncoder encoder,
      View view,
      int maxNewTokens,
      int batchSize,
      int grams,
      Positions prefixes) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.encoder = encoder;
    this.view = view;
    this.maxNewTokens = maxNewTokens;
    this.batchSize = batchSize;
    this.grams = grams;
    this.prefixes = prefixes;
  }

  /**
   * The same, and looks at what the prefixes of the {@link SetObservations#EXTRACTED} sets' rows
   * make the model say.
   *
   * @param n length of the n-grams; 0: it does not look
   * @param positions {@code ANSWER}: prefixes that hold the whole prompt; {@code ALL}: all
   */
  public Evaluator extracting(int n, Positions positions) {
    return new Evaluator(model, tokenizer, encoder, view, maxNewTokens, batchSize, n, positions);
  }

  /** What the model does on each example of a set, in order. */
  public SetObservations observe(String name, List<Example> examples) {
    List<TokenSequence> answers = new ArrayList<>();
    List<TokenSequence> all = new ArrayList<>();
    for (Example e : examples) {
      TokenSequence answer = encoder.encode(e);
      answers.add(answer);
      all.add(answer);
      for (String reworded : e.paraphrasedAnswers()) {
        all.add(encoder.encode(e.question(), reworded, e.source()));
      }
      for (String wrong : e.perturbedAnswers()) {
        all.add(encoder.encode(e.question(), wrong, e.source()));
      }
    }
    List<Read> read;
    try (Scorer scorer = Scorer.forSequences(model, all, view)) {
      read = scorer.read(all, Positions.ANSWER, this::read);
    }
    List<int[]> generated = generate(examples);
    List<Observation> observations = new ArrayList<>();
    int next = 0;
    for (int i = 0; i < examples.size(); i++) {
      Example e = examples.get(i);
      Read answer = read.get(next++);
      List<Double> rewordedNll = nlls(read, next, e.paraphrasedAnswers().size());
      next += rewordedNll.size();
      List<Double> wrongNll = nlls(read, next, e.perturbedAnswers().size());
      next += wrongNll.size();
      int[] ids = generated.get(i);
      observations.add(
          new Observation(
              answer.nll(),
              rewordedNll.isEmpty() ? List.of(answer.nll()) : rewordedNll,
              wrongNll,
              answer.tokens(),
              e.answer(),
              tokenizer.decode(ids).strip(),
              Arrays.stream(ids).boxed().toList()));
    }
    if (grams > 0 && SetObservations.EXTRACTED.contains(name)) {
      addExtraction(answers, observations);
    }
    return new SetObservations(name, examples, answers, observations);
  }

  private void addExtraction(List<TokenSequence> answers, List<Observation> observations) {
    List<Continuations.Text> texts =
        answers.stream().map(a -> Continuations.Text.of(a, prefixes, encoder.endId())).toList();
    List<Continuations.Seen> seen =
        new Continuations(model, view, encoder.stopIds(), batchSize).of(texts);
    for (int i = 0; i < texts.size(); i++) {
      Extraction extraction =
          Extraction.of(
              texts.get(i).ids(),
              texts.get(i).from(),
              seen.get(i).continuations(),
              seen.get(i).hits(),
              answers.get(i).marked(),
              grams);
      observations.set(i, observations.get(i).with(extraction));
    }
  }

  private List<int[]> generate(List<Example> examples) {
    List<int[]> prompts = examples.stream().map(e -> encoder.encodePrompt(e.question())).toList();
    int longest = prompts.stream().mapToInt(p -> p.length).max().orElse(1);
    int slots = Math.max(1, Math.min(batchSize, prompts.size()));
    try (Generator generator = new Generator(model, slots, (long) longest + maxNewTokens, view)) {
      return generator.greedy(prompts, maxNewTokens, encoder.stopIds());
    }
  }

  /** What one pass says of an answer: its mean nll, end token included, and its tokens. */
  private record Read(double nll, AnswerTokens tokens) {}

  private Read read(TokenSequence sequence, RowStatistics statistics, Sequence rows) {
    return new Read(
        statistics.nll(rows) / rows.rows(),
        AnswerTokens.of(sequence, statistics, rows, encoder.endId()));
  }

  private static List<Double> nlls(List<Read> read, int from, int count) {
    return read.subList(from, from + count).stream().map(Read::nll).toList();
  }
}
