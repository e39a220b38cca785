package org.lethe.evaluate;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lethe.data.Example;
import org.lethe.data.ExampleEncoder;
import org.lethe.data.TokenSequence;
import org.lethe.data.Tokenizer;
import org.lethe.method.Positions;
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
    this.model = model;
    this.tokenizer = tokenizer;
    this.encoder = encoder;
    this.view = view;
    this.maxNewTokens = maxNewTokens;
    this.batchSize = batchSize;
  }

  /** What the model does on each example of a set, in order. */
  public SetObservations observe(String name, List<Example> examples) {
    List<TokenSequence> answers = new ArrayList<>();
    List<TokenSequence> all = new ArrayList<>();
    for (Example e : examples) {
      TokenSequence answer = encoder.encode(e.question(), e.answer(), e.source());
      answers.add(answer);
      all.add(answer);
      for (String reworded : e.paraphrasedAnswers()) {
        all.add(encoder.encode(e.question(), reworded, e.source()));
      }
      for (String wrong : e.perturbedAnswers()) {
        all.add(encoder.encode(e.question(), wrong, e.source()));
      }
    }
    List<Scorer.Score> scores;
    try (Scorer scorer = Scorer.forSequences(model, all, view)) {
      scores = scorer.score(all, Positions.ANSWER);
    }
    List<int[]> generated = generate(examples);
    List<Observation> observations = new ArrayList<>();
    int next = 0;
    for (int i = 0; i < examples.size(); i++) {
      Example e = examples.get(i);
      double answerNll = mean(scores.get(next++));
      double paraphrasedNll = answerNll;
      for (int p = 0; p < e.paraphrasedAnswers().size(); p++, next++) {
        // Where a row has several rewordings the first one counts, as in TOFU, which has one.
        paraphrasedNll = p == 0 ? mean(scores.get(next)) : paraphrasedNll;
      }
      List<Double> wrongNll = new ArrayList<>();
      for (int p = 0; p < e.perturbedAnswers().size(); p++) {
        wrongNll.add(mean(scores.get(next++)));
      }
      int[] ids = generated.get(i);
      observations.add(
          new Observation(
              answerNll,
              paraphrasedNll,
              wrongNll,
              e.answer(),
              tokenizer.decode(ids).strip(),
              Arrays.stream(ids).boxed().toList()));
    }
    return new SetObservations(name, examples, answers, observations);
  }

  private List<int[]> generate(List<Example> examples) {
    List<int[]> prompts = examples.stream().map(e -> encoder.encodePrompt(e.question())).toList();
    int longest = prompts.stream().mapToInt(p -> p.length).max().orElse(1);
    int slots = Math.max(1, Math.min(batchSize, prompts.size()));
    try (Generator generator = new Generator(model, slots, longest + maxNewTokens, view)) {
      return generator.greedy(prompts, maxNewTokens, encoder.stopIds());
    }
  }

  private static double mean(Scorer.Score score) {
    return score.nll() / score.rows();
  }
}
