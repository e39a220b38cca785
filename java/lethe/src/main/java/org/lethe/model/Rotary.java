package org.lethe.model;

import java.util.List;
import org.lethe.UserException;

/**
 * The angles that queries and keys turn by: position times frequency, for each pair of the first
 * {@code width} components of a head (Su et al. 2021). The pairs are (j, j + width/2), as Hugging
 * Face lays them.
 *
 * <p>Frequencies are computed in fp32, step by step as transformers' {@code modeling_rope_utils.py}
 * does, so that they are the same numbers.
 *
 * @param theta base of the frequencies
 * @param width rotated components of a head; even, and no more than the head has
 * @param scaling how the frequencies are stretched for long sequences
 */
public record Rotary(double theta, int width, Scaling scaling) {

  /** How frequencies are stretched. */
  public sealed interface Scaling {}

  /** Not at all. */
  public record Unscaled() implements Scaling {}

  /** All by one factor. */
  public record Linear(double factor) implements Scaling {}

  /**
   * Llama 3.1's: waves longer than {@code originalContext / lowFrequencyFactor} are stretched by
   * the factor, those shorter than {@code originalContext / highFrequencyFactor} not at all, those
   * between by a mean of both.
   */
  public record Llama3(
      double factor, double lowFrequencyFactor, double highFrequencyFactor, int originalContext)
      implements Scaling {}

  /**
   * LongRoPE (Ding et al. 2024) as Phi-3 has it: each frequency has a divisor of its own, and other
   * ones when the sequence is longer than {@code originalContext}.
   *
   * @param shortFactors divisors for sequences up to {@code originalContext}, width/2 of them
   * @param longFactors divisors for longer ones
   * @param attentionFactor cosine and sine are multiplied by it in both cases
   */
  public record LongRope(
      List<Double> shortFactors,
      List<Double> longFactors,
      int originalContext,
      double attentionFactor)
      implements Scaling {
    public LongRope {
      shortFactors = List.copyOf(shortFactors);
      longFactors = List.copyOf(longFactors);
    }
  }

  public Rotary {
    if (width < 2 || width % 2 != 0) {
      throw new UserException(
          "rotary embeddings need an even number of a head's components, at least 2, but head_dim"
              + " times partial_rotary_factor is "
              + width
              + "; check config.json");
    }
    if (scaling instanceof LongRope r
        && (r.shortFactors().size() != width / 2 || r.longFactors().size() != width / 2)) {
      throw new UserException(
          "rope_scaling has "
              + r.shortFactors().size()
              + " short and "
              + r.longFactors().size()
              + " long factors for "
              + width / 2
              + " frequencies; check config.json");
    }
  }

  /** Unscaled. */
  public static Rotary plain(double theta, int width) {
    return new Rotary(theta, width, new Unscaled());
  }

  /** The scaling by Hugging Face's name, {@code rope_type}. */
  public String name() {
    if (scaling instanceof Linear) {
      return "linear";
    }
    if (scaling instanceof Llama3) {
      return "llama3";
    }
    return scaling instanceof LongRope ? "longrope" : "default";
  }

  /** How many tables of angles there are: 2 where long sequences turn by other frequencies. */
  public int tables() {
    return scaling instanceof LongRope ? 2 : 1;
  }

  /** Which table a sequence of that many tokens uses, its cached ones counted. */
  public int table(int sequenceLength) {
    return sequenceLength > limit() ? 1 : 0;
  }

  /** The longest sequence that uses table 0. */
  public int limit() {
    return scaling instanceof LongRope r ? r.originalContext() : Integer.MAX_VALUE;
  }

  /** What cosine and sine are multiplied by. */
  public float attentionFactor() {
    return scaling instanceof LongRope r ? (float) r.attentionFactor() : 1f;
  }

  /** The frequencies of a table, radians per position, width/2 of them. */
  public float[] frequencies(int table) {
    float[] frequencies = new float[width / 2];
    for (int j = 0; j < frequencies.length; j++) {
      float exponent = (float) (2 * j) / width;
      float power = (float) StrictMath.pow(theta, exponent);
      frequencies[j] = scaled(j, power, table);
    }
    return frequencies;
  }

  private float scaled(int j, float power, int table) {
    if (scaling instanceof LongRope r) {
      List<Double> factors = table == 0 ? r.shortFactors() : r.longFactors();
      return 1f / (factors.get(j).floatValue() * power);
    }
    float frequency = 1f / power;
    if (scaling instanceof Linear linear) {
      return frequency / (float) linear.factor();
    }
    return scaling instanceof Llama3 l ? llama3(l, frequency) : frequency;
  }

  private static float llama3(Llama3 l, float frequency) {
    float wave = (float) (2 * Math.PI) / frequency;
    float longest = (float) (l.originalContext() / l.lowFrequencyFactor());
    float shortest = (float) (l.originalContext() / l.highFrequencyFactor());
    float factor = (float) l.factor();
    if (wave > longest) {
      return frequency / factor;
    }
    if (wave < shortest) {
      return frequency;
    }
    float smooth =
        (l.originalContext() / wave - (float) l.lowFrequencyFactor())
            / (float) (l.highFrequencyFactor() - l.lowFrequencyFactor());
    return (1 - smooth) * frequency / factor + smooth * frequency;
  }
}
