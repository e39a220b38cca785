package org.lethe.config;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * On a text of a form of its own, which a number never has, quoted or not: whoever writes a number
 * there is told the form.
 */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.RECORD_COMPONENT)
@interface Written {
  /** The form, as it stands behind "expected". */
  String value();
}
