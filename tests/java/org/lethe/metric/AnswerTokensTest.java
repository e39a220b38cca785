package org.lethe.metric;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.checkpoint.ModelDirectory;
import org.lethe.checkpoint.SafetensorsFile;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Positions;
import org.lethe.model.Goldens;
import org.lethe.model.Model;
import org.lethe.train.Scorer;

/** What one teacher-forced pass of a model says of an answer's tokens, against its logits. */
class AnswerTokensTest {
  /** Logits of a few units in fp32, some hundred roundings apart from float64's. */
  private static final double LOGITS = 2e-5;

  /** A second moment of log-probabilities of up to 10, each as far off as a logit. */
  private static final double SECOND_MOMENT = 2 * 10 * LOGITS;

  private static final int PROMPT = 4;
  private static final int END = 2;

  @Test
  void tokensOfAModelAreThoseOfItsLogits() {
    try (Backend backend = TestDevice.open(2);
        Model model =
            ModelDirectory.load(new Ops(backend, Dtype.F32), Goldens.path("llama-tiny"), 64);
        SafetensorsFile golden =
            SafetensorsFile.open(Goldens.path("llama-tiny/forward.safetensors"))) {
      List<TokenSequence> sequences =
          Goldens.split(Goldens.ints(golden, "ids"), Goldens.ints(golden, "lengths")).stream()
              .map(ids -> new TokenSequence(ids, PROMPT))
              .toList();
      float[] logits = Goldens.floats(golden, "logits");
      int vocabulary = model.config().vocabularySize();
      List<AnswerTokens> read;
      try (Scorer scorer = Scorer.forSequences(model, sequences, false)) {
        read =
            scorer.read(
                sequences,
                Positions.ANSWER,
                (sequence, statistics, rows) -> AnswerTokens.of(sequence, statistics, rows, END));
      }
      int first = 0;
      int hits = 0;
      for (int i = 0; i < read.size(); i++) {
        int[] ids = sequences.get(i).ids();
        AnswerTokens tokens = read.get(i);
        assertEquals(ids.length - PROMPT, tokens.count());
        assertEquals(ids[ids.length - 1] == END, tokens.ended());
        for (int t = 0; t < tokens.count(); t++) {
          int from = (first + PROMPT - 1 + t) * vocabulary;
          double[] row = new double[vocabulary];
          for (int v = 0; v < vocabulary; v++) {
            row[v] = logits[from + v];
          }
          check(tokens, t, row, ids[PROMPT + t]);
          hits += tokens.hits()[t] ? 1 : 0;
        }
        first += ids.length;
      }
      assertTrue(hits < first, "every token is hit");
    }
  }

  private static void check(AnswerTokens tokens, int t, double[] logits, int label) {
    double most = Arrays.stream(logits).max().orElseThrow();
    double sum = Arrays.stream(logits).map(z -> Math.exp(z - most)).sum();
    double mean = 0;
    double second = 0;
    for (double z : logits) {
      double log = z - most - Math.log(sum);
      mean += Math.exp(log) * log;
      second += Math.exp(log) * log * log;
    }
    double expected = logits[label] - most - Math.log(sum);
    assertEquals(expected, tokens.logProbabilities()[t], LOGITS);
    assertEquals(mean, tokens.means()[t], LOGITS);
    assertEquals(second - mean * mean, tokens.variances()[t], SECOND_MOMENT);
    assertEquals(logits[label] == most, tokens.hits()[t]);
  }
}
