package org.lethe.model;

import org.lethe.UserException;

/**
 * Logits of two views together: u − α·relu(v − u), u the baseline's and v the reinforced one's, at
 * every step of decoding. "Who's Harry Potter" (arXiv 2310.02238) as MUSE decodes it (muse_bench,
 * whos_harry_potter.py), where α is 1 unless it is tuned.
 *
 * @param alpha at least 0; 0 is the baseline
 */
public record Mixture(View baseline, View reinforced, double alpha) {
  public Mixture {
    if (!(alpha >= 0 && Double.isFinite(alpha))) {
      throw new UserException("alpha is " + alpha + ", must be a number of at least 0");
    }
  }
}
