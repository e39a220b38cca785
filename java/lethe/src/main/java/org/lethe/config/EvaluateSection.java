package org.lethe.config;

import java.nio.file.Path;
import java.util.Optional;

/** How a model is judged. */
public record EvaluateSection(
    @Doc("Longest answer that is generated, in tokens") @Default("64") int maxNewTokens,
    @Doc("Rows of each set that are judged, from the front; 0: all") @Default("0") int rows,
    @Doc("Questions answered at a time") @Default("16") int batchSize,
    @Doc("How often the sets are judged during training: never, N steps, N epochs")
        @Default("never")
        String every,
    @Doc(
            "evaluation.json of a model that never saw the forget set, for the forget quality;"
                + " unset: none")
        Optional<Path> neverSaw) {

  public EvaluateSection {
    Check.atLeast("max_new_tokens", 1, maxNewTokens);
    Check.atLeast("rows", 0, rows);
    Check.atLeast("batch_size", 1, batchSize);
  }
}
