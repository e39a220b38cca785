package org.lethe.config;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * The value of a configuration key that is not given, written as it would stand in the YAML file. A
 * component without it must be given, unless it is an {@code Optional} (empty) or a record (all of
 * its own defaults).
 */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.RECORD_COMPONENT)
public @interface Default {
  /** YAML of the value, for example {@code 1e-3} or {@code [a, b]}. */
  String value();
}
