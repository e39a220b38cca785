package org.lethe.data;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.lethe.UserException;

/**
 * Names that belong to what is to be forgotten, each with one that could stand anywhere: {@code
 * {"Hogwarts": "Mystic Academy", ...}}, the anchor terms of "Who's Harry Potter" (Eldan &amp;
 * Russinovich, arXiv 2310.02238).
 *
 * <p>An anchor is found where it stands as it is written, capitals included, with neither a letter
 * nor a digit beside it; of several at one place the longest counts.
 */
public final class AnchorDictionary {
  private final Map<String, String> generic;
  private final Pattern pattern;

  private AnchorDictionary(Map<String, String> generic) {
    this.generic = generic;
    String anchors =
        generic.keySet().stream()
            .sorted(Comparator.comparing(String::length).reversed())
            .map(Pattern::quote)
            .collect(Collectors.joining("|"));
    this.pattern = Pattern.compile("(?<![\\p{L}\\p{N}])(?:" + anchors + ")(?![\\p{L}\\p{N}])");
  }

  /** A dictionary of these anchors and their replacements; none may be empty. */
  public static AnchorDictionary of(Map<String, String> generic) {
    return new AnchorDictionary(new LinkedHashMap<>(generic));
  }

  /**
   * Reads a JSON object of strings.
   *
   * @throws UserException when the file is none, has no entry, or an empty anchor or replacement
   */
  public static AnchorDictionary read(Path file) {
    JsonNode root;
    try {
      root = new ObjectMapper().readTree(Files.readString(file));
    } catch (IOException e) {
      throw new UserException(
          file + ": cannot be read as JSON (" + e.getMessage() + "); give an object of strings", e);
    }
    if (root == null || !root.isObject() || root.isEmpty()) {
      throw new UserException(
          file + ": is no JSON object with entries; write {\"anchor\": \"generic name\", ...}");
    }
    Map<String, String> generic = new LinkedHashMap<>();
    for (Map.Entry<String, JsonNode> entry : root.properties()) {
      if (entry.getKey().isBlank()
          || !entry.getValue().isTextual()
          || entry.getValue().asText().isBlank()) {
        throw new UserException(
            file
                + ": \""
                + entry.getKey()
                + "\" stands for "
                + entry.getValue()
                + "; an anchor and what replaces it must be texts that are not blank");
      }
      generic.put(entry.getKey(), entry.getValue().asText());
    }
    return new AnchorDictionary(generic);
  }

  /**
   * An anchor in a text, and what replaced it.
   *
   * @param start first character in the text
   * @param end behind the last one
   * @param genericStart first character in the translation
   * @param genericEnd behind the last one
   * @param repeated whether the anchor stood in the text before
   */
  public record Replaced(int start, int end, int genericStart, int genericEnd, boolean repeated) {}

  /** A text in which all anchors are replaced, and where they were, in order. */
  public record Translation(String text, List<Replaced> replaced) {}

  /** The text with its anchors replaced. */
  public Translation translate(String text) {
    StringBuilder out = new StringBuilder();
    List<Replaced> replaced = new ArrayList<>();
    Set<String> seen = new HashSet<>();
    Matcher matcher = pattern.matcher(text);
    int next = 0;
    while (matcher.find()) {
      out.append(text, next, matcher.start());
      int from = out.length();
      out.append(generic.get(matcher.group()));
      replaced.add(
          new Replaced(
              matcher.start(), matcher.end(), from, out.length(), !seen.add(matcher.group())));
      next = matcher.end();
    }
    return new Translation(out.append(text.substring(next)).toString(), List.copyOf(replaced));
  }
}
