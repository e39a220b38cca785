package org.lethe.config;

import com.fasterxml.jackson.core.JacksonException;
import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import com.fasterxml.jackson.dataformat.yaml.YAMLParser;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;

/**
 * Reads one YAML document into {@link Yaml}. Stricter than YAML: duplicate keys, anchors, tags and
 * further documents are errors, since each of them can change a run without being seen.
 */
final class YamlReader {
  private final YAMLParser parser;
  private final String source;
  private final boolean lines;

  private YamlReader(YAMLParser parser, String source, boolean lines) {
    this.parser = parser;
    this.source = source;
    this.lines = lines;
  }

  /** Reads a UTF-8 file; an empty one is an empty mapping. */
  static Yaml.Mapping file(Path file) {
    String text;
    try {
      text = Files.readString(file);
    } catch (NoSuchFileException e) {
      throw new UserException(file + ": no such file; give the path of a YAML file", e);
    } catch (CharacterCodingException e) {
      throw new UserException(file + ": not UTF-8; save it as UTF-8", e);
    } catch (IOException e) {
      throw new UserException(
          file + ": cannot be read (" + e + "); check that it is a readable file", e);
    }
    Yaml document = read(text, file.toString(), true);
    if (document instanceof Yaml.Mapping mapping) {
      return mapping;
    }
    if (document instanceof Yaml.Scalar scalar && scalar.type() == Yaml.ScalarType.NULL) {
      return Yaml.Mapping.empty(file.toString());
    }
    throw new UserException(
        document.where() + ": expected keys and values, found " + document.kind());
  }

  /**
   * Reads a value that stands alone, such as the right side of an override.
   *
   * @param source what errors call it
   */
  static Yaml value(String text, String source) {
    return read(text, source, false);
  }

  private static Yaml read(String text, String source, boolean lines) {
    try (YAMLParser parser = new YAMLFactory().createParser(text)) {
      YamlReader reader = new YamlReader(parser, source, lines);
      if (parser.nextToken() == null) {
        return new Yaml.Scalar(Yaml.ScalarType.NULL, "", source);
      }
      Yaml value = reader.current();
      if (parser.nextToken() != null) {
        throw new UserException(
            reader.where() + ": a second document begins here; keep one document per file");
      }
      return value;
    } catch (JacksonException e) {
      JsonLocation location = e.getLocation();
      String where = lines && location != null ? source + ":" + location.getLineNr() : source;
      String problem = e.getOriginalMessage().lines().findFirst().orElse("unreadable");
      throw new UserException(where + ": not valid YAML: " + problem, e);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private String where() {
    return lines ? source + ":" + parser.currentTokenLocation().getLineNr() : source;
  }

  private Yaml current() throws IOException {
    if (parser.isCurrentAlias() || parser.getObjectId() != null) {
      throw new UserException(
          where() + ": anchors (&) and aliases (*) are not supported; write the value out");
    }
    if (parser.getTypeId() != null) {
      throw new UserException(where() + ": tags (!) are not supported; leave the tag out");
    }
    return switch (parser.currentToken()) {
      case START_OBJECT -> mapping();
      case START_ARRAY -> sequence();
      case VALUE_STRING -> scalar(Yaml.ScalarType.TEXT);
      case VALUE_NUMBER_INT -> scalar(Yaml.ScalarType.INTEGER);
      case VALUE_NUMBER_FLOAT -> scalar(Yaml.ScalarType.DECIMAL);
      case VALUE_TRUE, VALUE_FALSE -> scalar(Yaml.ScalarType.BOOLEAN);
      case VALUE_NULL -> scalar(Yaml.ScalarType.NULL);
      default ->
          throw new UserException(where() + ": unexpected YAML (" + parser.currentToken() + ")");
    };
  }

  private Yaml.Scalar scalar(Yaml.ScalarType type) throws IOException {
    return new Yaml.Scalar(type, parser.getText(), where());
  }

  private Yaml.Sequence sequence() throws IOException {
    String where = where();
    List<Yaml> items = new ArrayList<>();
    while (parser.nextToken() != JsonToken.END_ARRAY) {
      items.add(current());
    }
    return new Yaml.Sequence(items, where);
  }

  private Yaml.Mapping mapping() throws IOException {
    String where = where();
    Map<String, Yaml> entries = new LinkedHashMap<>();
    while (parser.nextToken() != JsonToken.END_OBJECT) {
      String key = parser.currentName();
      String keyWhere = where();
      Yaml first = entries.get(key);
      if (first != null) {
        throw new UserException(
            keyWhere
                + ": duplicate key "
                + key
                + " (first at "
                + first.where()
                + "); keep one of them");
      }
      parser.nextToken();
      entries.put(key, at(current(), keyWhere));
    }
    return new Yaml.Mapping(entries, where);
  }

  /** A section is said to stand where its key does, not where its first entry does. */
  private static Yaml at(Yaml value, String where) {
    if (value instanceof Yaml.Mapping mapping) {
      return new Yaml.Mapping(mapping.entries(), where);
    }
    return value instanceof Yaml.Sequence sequence
        ? new Yaml.Sequence(sequence.items(), where)
        : value;
  }
}
