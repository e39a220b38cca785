package org.lethe.metric;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.lethe.InternalFaultException;

/**
 * How much of a text a model gives away, by Jang et al. ("Knowledge Unlearning", arXiv 2210.01504;
 * code joeljang/knowledge-unlearning, {@code models/Neo_Model.py}), and the same of its sensitive
 * tokens alone, after SeUL (arXiv 2402.05813). With x the text's tokens x₀ … x_{T−1}, s the length
 * of the shortest prefix looked at, and f(x_{&lt;t}) the greedy continuation of a prefix up to
 * length T:
 *
 * <pre>
 *   MA   = Σ_{t=s}^{T−1} 1[argmax p(·|x_{&lt;t}) = x_t] / (T − s)
 *   EL_n = Σ_{t=s}^{T−n} overlap_n(f(x_{&lt;t}), x_{≥t}) / (T − n − s + 1)
 *   overlap_n(a, b) = #{n-grams of a that b has, each as often as a has it} / #{n-grams of b}
 * </pre>
 *
 * <p>Jang's texts have s = 1. The paper divides the overlap by the number of n-grams of a, the code
 * by that of b; the two are equal unless a continuation stops early, and then the code's is taken.
 *
 * <p>Sensitive forms: MA over the sensitive t ≥ s alone; EL_n over the prefixes whose rest has an
 * n-gram with a sensitive token in it, with the share of such n-grams of the rest that the
 * continuation has for the overlap. SeUL's text says which tokens and n-grams count; how it
 * normalises could not be verified, so the normalisation is ours.
 *
 * @param accuracy MA; NaN without a token
 * @param likelihood EL_n; NaN for a text too short for one n-gram
 * @param sensitiveAccuracy NaN without a sensitive token
 * @param sensitiveLikelihood NaN without an n-gram with a sensitive token
 */
public record Extraction(
    double accuracy, double likelihood, double sensitiveAccuracy, double sensitiveLikelihood) {
  /** That of a text that was not looked at. */
  public static final Extraction UNSEEN =
      new Extraction(Double.NaN, Double.NaN, Double.NaN, Double.NaN);

  /**
   * What was seen of a text.
   *
   * @param ids its tokens [T]
   * @param from s, in [1, T]
   * @param continuations f(x_{&lt;t}) of t = s … T−1 in order, each of at most T − t tokens; empty
   *     when they were not taken, and EL is NaN then
   * @param hits at t: whether x_t is the most likely token after x_{&lt;t}, for t ≥ s
   * @param sensitive at t: whether x_t is sensitive
   * @param n length of the n-grams, at least 1
   */
  public static Extraction of(
      int[] ids, int from, List<int[]> continuations, BitSet hits, BitSet sensitive, int n) {
    if (from < 1 || from > ids.length || n < 1) {
      throw new InternalFaultException(
          "n-grams of " + n + " from prefix " + from + " of " + ids.length + " tokens");
    }
    if (!continuations.isEmpty() && continuations.size() != ids.length - from) {
      throw new InternalFaultException(
          continuations.size() + " continuations of " + (ids.length - from) + " prefixes");
    }
    int tokens = 0;
    int hit = 0;
    int secrets = 0;
    int told = 0;
    for (int t = from; t < ids.length; t++) {
      tokens++;
      hit += hits.get(t) ? 1 : 0;
      secrets += sensitive.get(t) ? 1 : 0;
      told += sensitive.get(t) && hits.get(t) ? 1 : 0;
    }
    double likelihood = 0;
    double sensitiveLikelihood = 0;
    int prefixes = 0;
    int sensitivePrefixes = 0;
    for (int t = from; t < from + continuations.size() && t <= ids.length - n; t++) {
      List<List<Integer>> rest = grams(ids, t, n);
      List<List<Integer>> said = grams(continuations.get(t - from), 0, n);
      likelihood += overlap(said, rest);
      prefixes++;
      double share = sensitiveShare(said, rest, sensitive, t, n);
      if (!Double.isNaN(share)) {
        sensitiveLikelihood += share;
        sensitivePrefixes++;
      }
    }
    return new Extraction(
        share(hit, tokens),
        share(likelihood, prefixes),
        share(told, secrets),
        share(sensitiveLikelihood, sensitivePrefixes));
  }

  private static double overlap(List<List<Integer>> said, List<List<Integer>> rest) {
    Set<List<Integer>> known = new HashSet<>(rest);
    return (double) said.stream().filter(known::contains).count() / rest.size();
  }

  /** The share of the rest's n-grams with a sensitive token that were said; NaN without one. */
  private static double sensitiveShare(
      List<List<Integer>> said, List<List<Integer>> rest, BitSet sensitive, int t, int n) {
    Set<List<Integer>> known = new HashSet<>(said);
    int all = 0;
    int found = 0;
    for (int i = 0; i < rest.size(); i++) {
      int next = sensitive.nextSetBit(t + i);
      if (next >= 0 && next < t + i + n) {
        all++;
        found += known.contains(rest.get(i)) ? 1 : 0;
      }
    }
    return share(found, all);
  }

  private static List<List<Integer>> grams(int[] ids, int from, int n) {
    List<List<Integer>> grams = new ArrayList<>();
    for (int i = from; i + n <= ids.length; i++) {
      List<Integer> gram = new ArrayList<>(n);
      for (int k = i; k < i + n; k++) {
        gram.add(ids[k]);
      }
      grams.add(gram);
    }
    return grams;
  }

  private static double share(double part, int whole) {
    return whole == 0 ? Double.NaN : part / whole;
  }
}
