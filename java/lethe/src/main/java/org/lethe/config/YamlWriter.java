package org.lethe.config;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.lang.reflect.RecordComponent;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import org.lethe.InternalFaultException;

/** Writes configuration records as YAML that {@link Binder} reads back to equal records. */
final class YamlWriter {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Pattern PLAIN = Pattern.compile("(\\.{0,2}/)?[\\p{L}_][\\p{L}\\p{N}_./-]*");

  private final StringBuilder out = new StringBuilder();
  private final boolean comments;

  private YamlWriter(boolean comments) {
    this.comments = comments;
  }

  static String write(Record record, boolean comments, Set<String> without) {
    YamlWriter writer = new YamlWriter(comments);
    writer.record(record, "", without);
    return writer.out.toString();
  }

  private void record(Record record, String indent, Set<String> without) {
    for (RecordComponent component : record.getClass().getRecordComponents()) {
      if (without.contains(Schema.key(component))) {
        continue;
      }
      Object value = read(component, record);
      if (value instanceof Optional<?> optional) {
        value = optional.orElse(null);
      }
      Doc doc = component.getAnnotation(Doc.class);
      if (comments && doc != null) {
        out.append(indent).append("# ").append(doc.value()).append('\n');
      }
      if (value != null) {
        entry(Schema.key(component), value, indent);
      } else if (comments) {
        out.append(indent).append('#').append(Schema.key(component)).append(":\n");
      }
    }
  }

  private void entry(String key, Object value, String indent) {
    out.append(indent).append(key).append(':');
    if (value instanceof OptionValue option) {
      out.append(' ').append(option(option.text())).append('\n');
    } else if (value instanceof Record section) {
      out.append('\n');
      record(section, indent + "  ", Set.of());
    } else if (value instanceof List<?> list && !list.isEmpty()) {
      out.append('\n');
      for (Object item : list) {
        item(item, indent + "  ");
      }
    } else if (value instanceof Map<?, ?> map && !map.isEmpty()) {
      out.append('\n');
      map.forEach((name, item) -> entry(text(name.toString()), item, indent + "  "));
    } else {
      String empty = value instanceof Map<?, ?> ? "{}" : "[]";
      boolean isEmpty = value instanceof Map<?, ?> || value instanceof List<?>;
      out.append(' ').append(isEmpty ? empty : scalar(value)).append('\n');
    }
  }

  private void item(Object item, String indent) {
    out.append(indent).append('-');
    if (item instanceof Record section) {
      out.append('\n');
      record(section, indent + "  ", Set.of());
    } else {
      out.append(' ').append(scalar(item)).append('\n');
    }
  }

  private static String scalar(Object value) {
    if (value instanceof Enum<?> constant) {
      return Schema.name(constant);
    }
    return value instanceof String || value instanceof Path
        ? text(value.toString())
        : value.toString();
  }

  /** A number or a flag as such: read back it is the same text. */
  private static String option(String text) {
    return YamlReader.value(text, "option") instanceof Yaml.Scalar scalar
            && scalar.type() != Yaml.ScalarType.TEXT
            && scalar.type() != Yaml.ScalarType.NULL
            && scalar.text().equals(text)
        ? text
        : text(text);
  }

  /** Without quotes where it then still reads as a text; else as JSON, which YAML contains. */
  static String text(String text) {
    if (PLAIN.matcher(text).matches()
        && YamlReader.value(text, "text") instanceof Yaml.Scalar scalar
        && scalar.type() == Yaml.ScalarType.TEXT) {
      return text;
    }
    try {
      return JSON.writeValueAsString(text);
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("no YAML can be made of " + text, e);
    }
  }

  private static Object read(RecordComponent component, Record record) {
    try {
      component.getAccessor().setAccessible(true);
      return component.getAccessor().invoke(record);
    } catch (ReflectiveOperationException e) {
      throw new InternalFaultException("no access to " + component, e);
    }
  }
}
