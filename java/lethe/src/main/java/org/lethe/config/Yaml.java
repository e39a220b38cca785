package org.lethe.config;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A YAML value that remembers where it was written, so that every error can say so. */
sealed interface Yaml permits Yaml.Mapping, Yaml.Sequence, Yaml.Scalar {
  /** {@code file:line}, or the override or default that the value comes from. */
  String where();

  /** The value's kind as an error names it. */
  String kind();

  /** How a scalar was understood under YAML's core rules. */
  enum ScalarType {
    TEXT("a text"),
    INTEGER("a whole number"),
    DECIMAL("a number"),
    BOOLEAN("true or false"),
    NULL("nothing");

    final String words;

    ScalarType(String words) {
      this.words = words;
    }
  }

  /** Keys in the order they were written. */
  record Mapping(Map<String, Yaml> entries, String where) implements Yaml {
    static Mapping empty(String where) {
      return new Mapping(new LinkedHashMap<>(), where);
    }

    @Override
    public String kind() {
      return "a section";
    }
  }

  record Sequence(List<Yaml> items, String where) implements Yaml {
    @Override
    public String kind() {
      return "a list";
    }
  }

  /** {@code text} is the value as written, without quotes. */
  record Scalar(ScalarType type, String text, String where) implements Yaml {
    @Override
    public String kind() {
      return type == ScalarType.NULL ? type.words : type.words + " (" + text + ")";
    }
  }
}
