package org.lethe.data;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CoderResult;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import org.lethe.UserException;

/**
 * Reads question/answer rows: JSON Lines (one object a line; blank lines are skipped) or one JSON
 * array of objects.
 *
 * <p>Fields, as in TOFU: {@code question} (or {@code prompt}) and {@code answer}, strings;
 * optionally {@code paraphrased_answer} and {@code perturbed_answer}, each a string or a list of
 * strings, and {@code paraphrased_question}, a string that is checked and not kept; {@code
 * alternate}, as open-unlearning's AltPO writes it, a string or a list of strings; and {@code
 * sensitive_spans}, a list of what is sensitive in the answer: strings that stand in it (every
 * occurrence counts) or pairs {@code [from, to]} of characters, counted in code points as Python
 * does. Further fields are ignored. A byte order mark is skipped. Invalid UTF-8, a repeated key, a
 * missing, blank or mistyped field and an empty file are a {@link UserException} naming file, line
 * and field.
 */
public final class Jsonl {
  private static final String SPANS = "sensitive_spans";
  private static final long LARGEST_FILE = 1L << 30;

  private static final JsonMapper MAPPER =
      JsonMapper.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .build();

  private Jsonl() {}

  /** The rows of a file in their order, at least one; {@code source} is {@code file:line}. */
  public static List<Example> read(Path file) {
    return read(
        file,
        problem -> {
          throw problem;
        });
  }

  /**
   * As {@link #read(Path)}, but goes on behind a bad row.
   *
   * @param problems takes what {@link #read(Path)} would have thrown, for every bad row
   * @return the good rows; possibly none
   */
  public static List<Example> read(Path file, Consumer<UserException> problems) {
    String text;
    try {
      text = text(file);
    } catch (UserException e) {
      problems.accept(e);
      return List.of();
    }
    int[] bad = {0};
    Consumer<UserException> counted =
        problem -> {
          bad[0]++;
          problems.accept(problem);
        };
    List<Example> rows =
        text.stripLeading().startsWith("[")
            ? array(file, text, counted)
            : lines(file, text, counted);
    if (rows.isEmpty() && bad[0] == 0) {
      problems.accept(
          new UserException(
              file
                  + " holds no rows; it must hold one JSON object a line, or a JSON array of"
                  + " objects."));
    }
    return rows;
  }

  private static List<Example> lines(Path file, String text, Consumer<UserException> problems) {
    List<Example> rows = new ArrayList<>();
    int number = 0;
    for (int begin = 0; begin < text.length(); ) {
      int newline = text.indexOf('\n', begin);
      int end = newline < 0 ? text.length() : newline;
      number++;
      String line = text.substring(begin, end);
      begin = end + 1;
      if (line.isBlank()) {
        continue;
      }
      try {
        rows.add(example(MAPPER.readTree(line), file + ":" + number));
      } catch (JsonProcessingException e) {
        problems.accept(notJson(file, number, e));
      } catch (UserException e) {
        problems.accept(e);
      }
    }
    return rows;
  }

  private static List<Example> array(Path file, String text, Consumer<UserException> problems) {
    List<Example> rows = new ArrayList<>();
    // Behind a row the rest of the array follows, which is no fault.
    ObjectReader reader = MAPPER.reader().without(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);
    try (JsonParser parser = reader.createParser(text)) {
      parser.nextToken();
      while (parser.nextToken() != JsonToken.END_ARRAY) {
        int line = parser.currentTokenLocation().getLineNr();
        JsonNode row = reader.readTree(parser);
        try {
          rows.add(example(row, file + ":" + line));
        } catch (UserException e) {
          problems.accept(e);
        }
      }
      if (parser.nextToken() != null) {
        problems.accept(
            new UserException(
                file
                    + ":"
                    + parser.currentTokenLocation().getLineNr()
                    + ": something follows the closing ']' of the array; remove it."));
      }
    } catch (JsonProcessingException e) {
      // Where the text is no JSON, no later row can be told from its neighbours.
      problems.accept(notJson(file, e.getLocation() == null ? 1 : e.getLocation().getLineNr(), e));
    } catch (IOException e) {
      throw new UserException(file + " cannot be read: " + e.getMessage() + ".", e);
    }
    return rows;
  }

  private static Example example(JsonNode row, String where) {
    if (row == null || !row.isObject()) {
      throw new UserException(
          where + ": a row must be a JSON object with \"question\" and \"answer\".");
    }
    if (row.has("question") && row.has("prompt")) {
      throw new UserException(
          where + ": both \"question\" and \"prompt\" are given; keep the one to be asked.");
    }
    String asked = row.has("prompt") ? "prompt" : "question";
    if (row.has("paraphrased_question")) {
      string(row.get("paraphrased_question"), "paraphrased_question", where);
    }
    String answer = required(row, "answer", where);
    return new Example(
        required(row, asked, where),
        answer,
        strings(row, "paraphrased_answer", where),
        strings(row, "perturbed_answer", where),
        strings(row, "alternate", where),
        passages(row, answer, where),
        where);
  }

  private static List<Passage> passages(JsonNode row, String answer, String where) {
    List<Passage> passages = new ArrayList<>();
    JsonNode list = row.path(SPANS);
    if (!list.isMissingNode() && !list.isArray()) {
      throw new UserException(
          where + ": field \"" + SPANS + "\" must be a list of strings or of pairs [from, to].");
    }
    for (JsonNode span : list) {
      if (span.isTextual()) {
        List<Passage> found =
            span.textValue().isEmpty() ? List.of() : Passage.occurrences(answer, span.textValue());
        if (found.isEmpty()) {
          throw new UserException(
              where
                  + ": field \""
                  + SPANS
                  + "\": \""
                  + span.textValue()
                  + "\" does not stand in the answer; spell it as the answer does.");
        }
        passages.addAll(found);
      } else {
        passages.add(pair(span, answer, where));
      }
    }
    return passages;
  }

  private static Passage pair(JsonNode span, String answer, String where) {
    int length = answer.codePointCount(0, answer.length());
    boolean numbers =
        span.isArray() && span.size() == 2 && span.path(0).isInt() && span.path(1).isInt();
    if (!numbers
        || span.path(0).intValue() < 0
        || span.path(1).intValue() <= span.path(0).intValue()
        || span.path(1).intValue() > length) {
      throw new UserException(
          where
              + ": field \""
              + SPANS
              + "\": "
              + span
              + " is no part of the answer; write a string that stands in it, or [from, to] with 0"
              + " <= from < to <= "
              + length
              + ".");
    }
    return new Passage(span.path(0).intValue(), span.path(1).intValue());
  }

  private static String required(JsonNode row, String field, String where) {
    if (!row.has(field)) {
      List<String> present = new ArrayList<>();
      row.fieldNames().forEachRemaining(present::add);
      String also = field.equals("question") ? " (or \"prompt\")" : "";
      throw new UserException(
          where
              + ": no field \""
              + field
              + "\""
              + also
              + "; the row has "
              + present
              + ". Add it or rename the field.");
    }
    return string(row.get(field), field, where);
  }

  private static List<String> strings(JsonNode row, String field, String where) {
    JsonNode value = row.get(field);
    if (value == null) {
      return List.of();
    }
    if (!value.isArray()) {
      return List.of(string(value, field, where));
    }
    List<String> values = new ArrayList<>();
    for (JsonNode element : value) {
      values.add(string(element, field + "[" + values.size() + "]", where));
    }
    return values;
  }

  private static String string(JsonNode value, String field, String where) {
    if (!value.isTextual()) {
      throw new UserException(
          where
              + ": field \""
              + field
              + "\" must be a string, found "
              + value.getNodeType().name().toLowerCase(Locale.ROOT)
              + ".");
    }
    String text = value.textValue();
    if (text.isBlank()) {
      throw new UserException(
          where + ": field \"" + field + "\" is blank; fill it in or remove the row.");
    }
    if (!Tokenizer.isWellFormed(text)) {
      throw new UserException(
          where
              + ": field \""
              + field
              + "\" holds half of a surrogate pair (an \\ud8xx escape on its own); repair the"
              + " escape.");
    }
    return text;
  }

  private static UserException notJson(Path file, int line, JsonProcessingException e) {
    return new UserException(
        file
            + ":"
            + line
            + ": not a JSON row: "
            + e.getOriginalMessage()
            + ". Write one JSON object a line, or one JSON array of objects.",
        e);
  }

  private static String text(Path file) {
    byte[] bytes;
    try {
      if (Files.size(file) > LARGEST_FILE) {
        throw new UserException(file + " is larger than 1 GiB; split it.");
      }
      bytes = Files.readAllBytes(file);
    } catch (NoSuchFileException e) {
      throw new UserException(file + " does not exist; check the path.", e);
    } catch (IOException e) {
      throw new UserException(file + " cannot be read: " + e.getMessage() + ".", e);
    }
    ByteBuffer in = ByteBuffer.wrap(bytes);
    CharBuffer out = CharBuffer.allocate(bytes.length);
    CoderResult result =
        StandardCharsets.UTF_8
            .newDecoder()
            .onMalformedInput(CodingErrorAction.REPORT)
            .decode(in, out, true);
    if (result.isError()) {
      int line = 1;
      for (int i = 0; i < in.position(); i++) {
        line += bytes[i] == '\n' ? 1 : 0;
      }
      throw new UserException(
          file
              + ":"
              + line
              + ": not valid UTF-8 (byte "
              + in.position()
              + " of the file); convert the file to UTF-8.");
    }
    String text = out.flip().toString();
    return text.startsWith("\uFEFF") ? text.substring(1) : text;
  }
}
