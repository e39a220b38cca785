package org.lethe.method;

import java.util.Optional;
import java.util.OptionalDouble;

/**
 * What a loss may be asked for; each takes what concerns it and its own default for the rest.
 *
 * @param beta positive and finite
 */
record LossOptions(
    OptionalDouble beta, Optional<Positions> positions, EntropyDirection direction) {}
