package org.lethe.report;

/** A named fact of a run, such as a setting. */
public record KeyValue(String key, String value) {}
