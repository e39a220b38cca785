package org.lethe.config;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.dataformat.yaml.YAMLGenerator;
import com.fasterxml.jackson.dataformat.yaml.YAMLMapper;
import java.lang.reflect.RecordComponent;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.lethe.InternalFaultException;

/** Writes configuration records as YAML that {@link Binder} reads back to equal records. */
final class YamlWriter {
  private final YAMLMapper scalars =
      YAMLMapper.builder()
          .disable(YAMLGenerator.Feature.WRITE_DOC_START_MARKER)
          .disable(YAMLGenerator.Feature.SPLIT_LINES)
          .enable(YAMLGenerator.Feature.MINIMIZE_QUOTES)
          .enable(YAMLGenerator.Feature.ALWAYS_QUOTE_NUMBERS_AS_STRINGS)
          .build();
  private final StringBuilder out = new StringBuilder();
  private final boolean comments;

  private YamlWriter(boolean comments) {
    this.comments = comments;
  }

  static String write(Record record, boolean comments) {
    YamlWriter writer = new YamlWriter(comments);
    writer.record(record, "");
    return writer.out.toString();
  }

  private void record(Record record, String indent) {
    for (RecordComponent component : record.getClass().getRecordComponents()) {
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
    if (value instanceof Record section) {
      out.append('\n');
      record(section, indent + "  ");
    } else if (value instanceof List<?> list && !list.isEmpty()) {
      out.append('\n');
      for (Object item : list) {
        out.append(indent).append("  - ").append(scalar(item)).append('\n');
      }
    } else {
      out.append(' ').append(value instanceof List<?> ? "[]" : scalar(value)).append('\n');
    }
  }

  private String scalar(Object value) {
    if (value instanceof Enum<?> constant) {
      return Schema.name(constant);
    }
    Object plain = value instanceof Path ? value.toString() : value;
    // A block scalar (|) would need the indent; a quoted text does not.
    YAMLMapper mapper = plain instanceof String text && !isPlain(text) ? quoting() : scalars;
    try {
      return mapper.writeValueAsString(plain).stripTrailing();
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("no YAML can be made of " + value, e);
    }
  }

  private static boolean isPlain(String text) {
    return !text.isEmpty() && text.chars().noneMatch(Character::isISOControl);
  }

  private static YAMLMapper quoting() {
    return YAMLMapper.builder()
        .disable(YAMLGenerator.Feature.WRITE_DOC_START_MARKER)
        .disable(YAMLGenerator.Feature.SPLIT_LINES)
        .build();
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
