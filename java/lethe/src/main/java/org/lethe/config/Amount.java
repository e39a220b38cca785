package org.lethe.config;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * On a text that is an amount of memory, as {@link Bytes} reads it: {@code 8GB}, or a number of
 * bytes, which needs no quotes.
 */
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.RECORD_COMPONENT)
@interface Amount {}
