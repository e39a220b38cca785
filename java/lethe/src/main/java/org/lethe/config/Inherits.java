package org.lethe.config;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * On a list of sections whose keys are also the enclosing section's: what an entry does not give is
 * taken from there. Groups {@code {repeat, phases}} and {@code {chunks, phases}} are written out.
 */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.RECORD_COMPONENT)
@interface Inherits {}
