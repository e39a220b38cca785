package org.lethe.checkpoint;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.exc.InputCoercionException;
import java.io.IOException;
import java.io.Reader;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.lethe.UserException;

/**
 * The JSON header of a safetensors file, held to the rules of the reference implementation: known
 * types, sizes that fit shapes, data without holes or overlaps that fill the file exactly.
 *
 * @param metadata the {@code __metadata__} map; empty without one
 * @param tensors by name, in the order of the data
 */
record SafetensorsHeader(Map<String, String> metadata, Map<String, TensorInfo> tensors) {
  private static final String METADATA = "__metadata__";

  /**
   * Parses and checks a header.
   *
   * @param json the header's text; decoding errors come out of it as exceptions
   * @param dataBytes bytes of the file behind the header
   */
  static SafetensorsHeader parse(Path file, Reader json, long dataBytes) throws IOException {
    JsonFactory factory =
        JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();
    Parse parse = new Parse(file, factory.createParser(json));
    try {
      parse.document();
    } catch (JsonProcessingException e) {
      throw parse.error(
          "header is not valid JSON ("
              + e.getOriginalMessage()
              + "); the file is damaged or not a safetensors file, get it again",
          e);
    } catch (CharacterCodingException e) {
      throw parse.error(
          "header is not valid UTF-8; the file is damaged or not a safetensors file, get it again",
          e);
    }
    return new SafetensorsHeader(
        Collections.unmodifiableMap(parse.metadata),
        Collections.unmodifiableMap(layOut(file, parse.tensors, dataBytes)));
  }

  private static Map<String, TensorInfo> layOut(
      Path file, List<TensorInfo> tensors, long dataBytes) {
    List<TensorInfo> ordered = new ArrayList<>(tensors);
    ordered.sort(
        Comparator.comparingLong(TensorInfo::begin)
            .thenComparingLong(TensorInfo::end)
            .thenComparing(TensorInfo::name));
    Map<String, TensorInfo> byName = new LinkedHashMap<>();
    long at = 0;
    TensorInfo before = null;
    for (TensorInfo tensor : ordered) {
      if (tensor.begin() != at) {
        throw new UserException(
            where(file, tensor.name())
                + (tensor.begin() < at ? "overlaps " : "leaves a hole behind ")
                + (before == null ? "the header" : "tensor '" + before.name() + "'")
                + ": it begins at byte "
                + tensor.begin()
                + " of the data where "
                + at
                + " is due; the file is damaged, get it again");
      }
      at = tensor.end();
      before = tensor;
      byName.put(tensor.name(), tensor);
    }
    if (at > dataBytes) {
      throw new UserException(
          where(file, before.name())
              + "the file is truncated: its tensors take "
              + at
              + " bytes and the file has "
              + dataBytes
              + "; get the file again");
    }
    if (at < dataBytes) {
      throw new UserException(
          file
              + ": "
              + (dataBytes - at)
              + " bytes behind the last tensor belong to none; the file is damaged, get it again");
    }
    return byName;
  }

  private static String where(Path file, String tensor) {
    return file + ": tensor '" + tensor + "' ";
  }

  /** State of one pass over the header's tokens. */
  private static final class Parse {
    private final Path file;
    private final JsonParser parser;
    private final Map<String, String> metadata = new LinkedHashMap<>();
    private final List<TensorInfo> tensors = new ArrayList<>();

    Parse(Path file, JsonParser parser) {
      this.file = file;
      this.parser = parser;
    }

    void document() throws IOException {
      expect(parser.nextToken(), JsonToken.START_OBJECT, "the header", "an object");
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        String key = parser.currentName();
        // Java's strings, unlike UTF-8, can hold half a surrogate pair.
        if (!StandardCharsets.UTF_8.newEncoder().canEncode(key)) {
          throw error("header has a tensor name that is not valid Unicode; get the file again");
        }
        parser.nextToken();
        if (key.equals(METADATA)) {
          metadata();
        } else {
          tensors.add(tensor(key));
        }
      }
      if (parser.nextToken() != null) {
        throw error("header goes on behind its closing brace; the file is damaged, get it again");
      }
    }

    private void metadata() throws IOException {
      expect(parser.currentToken(), JsonToken.START_OBJECT, METADATA, "an object");
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        String key = parser.currentName();
        expect(
            parser.nextToken(),
            JsonToken.VALUE_STRING,
            METADATA + " entry '" + key + "'",
            "a string");
        metadata.put(key, parser.getText());
      }
    }

    private TensorInfo tensor(String name) throws IOException {
      String at = "tensor '" + name + "'";
      expect(parser.currentToken(), JsonToken.START_OBJECT, at, "an object");
      StoredDtype dtype = null;
      List<Long> shape = null;
      List<Long> offsets = null;
      while (parser.nextToken() != JsonToken.END_OBJECT) {
        String key = parser.currentName();
        parser.nextToken();
        switch (key) {
          case "dtype" -> dtype = dtype(at);
          case "shape" -> shape = sizes(at + " shape");
          case "data_offsets" -> offsets = sizes(at + " data_offsets");
          default ->
              throw error(
                  at
                      + " has the unknown field '"
                      + key
                      + "'; known are dtype, shape, data_offsets");
        }
      }
      if (dtype == null || shape == null || offsets == null) {
        throw error(
            at
                + " lacks "
                + (dtype == null ? "dtype" : shape == null ? "shape" : "data_offsets")
                + "; the file is damaged, get it again");
      }
      return checked(at, name, dtype, shape, offsets);
    }

    private TensorInfo checked(
        String at, String name, StoredDtype dtype, List<Long> shape, List<Long> offsets) {
      if (offsets.size() != 2 || offsets.get(0) > offsets.get(1)) {
        throw error(
            at
                + " has the data_offsets "
                + offsets
                + " where [begin, end] with begin <= end is due; the file is damaged, get it"
                + " again");
      }
      long bytes;
      try {
        bytes = TensorSpec.byteSize(dtype, shape);
      } catch (ArithmeticException e) {
        throw error(
            at
                + " has the shape "
                + shape
                + " of "
                + dtype
                + ": "
                + e.getMessage()
                + "; the file is damaged, get it again",
            e);
      }
      if (offsets.get(1) - offsets.get(0) != bytes) {
        throw error(
            at
                + " of shape "
                + shape
                + " and type "
                + dtype
                + " takes "
                + bytes
                + " bytes, but its data_offsets "
                + offsets
                + " hold "
                + (offsets.get(1) - offsets.get(0))
                + "; the file is damaged, get it again");
      }
      return new TensorInfo(name, dtype, shape, offsets.get(0), offsets.get(1));
    }

    private StoredDtype dtype(String at) throws IOException {
      expect(parser.currentToken(), JsonToken.VALUE_STRING, at + " dtype", "a string");
      String name = parser.getText();
      return StoredDtype.named(name)
          .orElseThrow(
              () ->
                  error(
                      at
                          + " has the unknown dtype '"
                          + name
                          + "'; known are "
                          + List.of(StoredDtype.values())
                          + ", convert the file to one of them"));
    }

    private List<Long> sizes(String at) throws IOException {
      expect(parser.currentToken(), JsonToken.START_ARRAY, at, "a list");
      List<Long> sizes = new ArrayList<>();
      while (parser.nextToken() != JsonToken.END_ARRAY) {
        expect(parser.currentToken(), JsonToken.VALUE_NUMBER_INT, at, "whole numbers");
        String text = parser.getText();
        try {
          if (text.startsWith("-")) {
            throw error(at + " holds the negative number " + text + "; get the file again");
          }
          sizes.add(parser.getLongValue());
        } catch (InputCoercionException e) {
          throw error(at + " holds " + text + ", more than a file can have; get it again", e);
        }
      }
      return sizes;
    }

    private void expect(JsonToken found, JsonToken wanted, String at, String words) {
      if (found != wanted) {
        throw error(at + " must be " + words + "; the file is damaged, get it again");
      }
    }

    UserException error(String what) {
      return new UserException(file + ": " + what);
    }

    UserException error(String what, Throwable cause) {
      return new UserException(file + ": " + what, cause);
    }
  }
}
