package org.lethe.data;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;

/** Reads what {@link Tokenizer} needs of {@code tokenizer.json} and its neighbours. */
final class TokenizerFiles {
  private static final JsonMapper MAPPER =
      JsonMapper.builder(
              JsonFactory.builder()
                  .streamReadConstraints(
                      StreamReadConstraints.builder().maxNameLength(1_000_000).build())
                  .build())
          .build();

  /**
   * What {@code tokenizer_config.json} says.
   *
   * @param bos begins a text
   * @param eos ends an answer
   * @param pad fills
   * @param chatTemplate Jinja source
   */
  record Config(
      Optional<String> bos,
      Optional<String> eos,
      Optional<String> pad,
      Optional<String> chatTemplate) {}

  private TokenizerFiles() {}

  static ObjectNode object(Path file) {
    try {
      JsonNode root = MAPPER.readTree(Files.readAllBytes(file));
      if (root instanceof ObjectNode object) {
        return object;
      }
      throw new UserException(file + " is not a JSON object; give the file Hugging Face wrote.");
    } catch (NoSuchFileException e) {
      throw new UserException(file + " does not exist; give a directory that holds it.", e);
    } catch (JsonProcessingException e) {
      throw new UserException(
          file
              + ":"
              + (e.getLocation() == null ? 1 : e.getLocation().getLineNr())
              + ": not JSON: "
              + e.getOriginalMessage()
              + ". The file may be truncated; fetch it again.",
          e);
    } catch (IOException e) {
      throw new UserException(file + " cannot be read: " + e.getMessage() + ".", e);
    }
  }

  static byte[] bytes(JsonNode root) throws IOException {
    return MAPPER.writeValueAsBytes(root);
  }

  /** Token to id, of the model's vocabulary and the added tokens. */
  static Map<String, Integer> vocabulary(ObjectNode root, Path file) {
    Map<String, Integer> ids = new HashMap<>();
    JsonNode vocabulary = root.path("model").path("vocab");
    if (vocabulary.isObject()) {
      vocabulary.properties().forEach(entry -> ids.put(entry.getKey(), entry.getValue().asInt()));
    } else if (vocabulary.isArray()) {
      // Unigram: a list of [token, score], the position is the id.
      for (int i = 0; i < vocabulary.size(); i++) {
        ids.put(vocabulary.path(i).path(0).asText(), i);
      }
    } else {
      throw new UserException(
          file + " has no \"model\": {\"vocab\": ...}; give a tokenizer.json of Hugging Face.");
    }
    for (JsonNode added : root.path("added_tokens")) {
      ids.put(added.path("content").asText(), added.path("id").asInt());
    }
    return ids;
  }

  /** The added tokens that steer rather than spell: those that are marked special. */
  static Set<String> controlTokens(ObjectNode root) {
    Set<String> tokens = new HashSet<>();
    for (JsonNode added : root.path("added_tokens")) {
      if (added.path("special").asBoolean() && !added.path("content").asText().isEmpty()) {
        tokens.add(added.path("content").asText());
      }
    }
    return tokens;
  }

  /** The config of a directory; all empty when it holds none. */
  static Config config(Path directory) {
    Path file = directory.resolve("tokenizer_config.json");
    if (!Files.exists(file)) {
      return new Config(
          Optional.empty(), Optional.empty(), Optional.empty(), templateFile(directory));
    }
    ObjectNode root = object(file);
    Optional<String> inline = template(root.path("chat_template"), file);
    Optional<String> own = templateFile(directory);
    return new Config(
        token(root, "bos_token", file),
        token(root, "eos_token", file),
        token(root, "pad_token", file),
        own.isPresent() ? own : inline);
  }

  /** A token is written as a string, as an object with "content", or as null. */
  private static Optional<String> token(ObjectNode root, String key, Path file) {
    JsonNode value = root.path(key);
    JsonNode content = value.isObject() ? value.path("content") : value;
    if (content.isTextual()) {
      return Optional.of(content.textValue());
    }
    if (value.isMissingNode() || value.isNull()) {
      return Optional.empty();
    }
    throw new UserException(
        file + ": \"" + key + "\" must be a string or an object with \"content\".");
  }

  /** A template is one string, or a list of named ones, of which "default" is taken. */
  private static Optional<String> template(JsonNode value, Path file) {
    if (value.isTextual()) {
      return Optional.of(value.textValue());
    }
    if (value.isMissingNode() || value.isNull()) {
      return Optional.empty();
    }
    for (JsonNode named : value) {
      if (named.path("name").asText().equals("default") && named.path("template").isTextual()) {
        return Optional.of(named.path("template").textValue());
      }
    }
    throw new UserException(
        file + ": \"chat_template\" must be a string or a list with one named \"default\".");
  }

  private static Optional<String> templateFile(Path directory) {
    Path file = directory.resolve("chat_template.jinja");
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    try {
      return Optional.of(Files.readString(file));
    } catch (IOException e) {
      throw new UserException(file + " cannot be read: " + e.getMessage() + ".", e);
    }
  }
}
