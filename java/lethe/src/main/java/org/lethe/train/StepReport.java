package org.lethe.train;

import java.util.Map;

/**
 * What one step did.
 *
 * @param step from 0
 * @param loss the objective before the update
 * @param parts each loss's own value by name, before its coefficient
 * @param gradientNorm global norm before the clip
 * @param learningRate of this update
 * @param tokens that went through the model, reference twins included
 * @param sharedTokens that did not, since they stand at the beginning of another sequence ({@link
 *     TrainSettings.SharedPrefixes})
 * @param microBatches pieces the step was cut into
 * @param applied false when something was not finite and the parameters were left as they were
 */
public record StepReport(
    int step,
    double loss,
    Map<String, Double> parts,
    double gradientNorm,
    double learningRate,
    int tokens,
    int sharedTokens,
    int microBatches,
    boolean applied) {}
