package org.lethe.checkpoint;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/** Small JSON files, read strictly (UTF-8, no duplicate keys, nothing behind the document). */
final class JsonFiles {
  private JsonFiles() {}

  static JsonMapper mapper() {
    return JsonMapper.builder()
        .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
        .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
        .build();
  }

  static ObjectNode readObject(Path file) {
    return parse(file, text(file));
  }

  /** The whole file as it is. */
  static String text(Path file) {
    try {
      return Files.readString(file);
    } catch (NoSuchFileException e) {
      throw new UserException(file + ": no such file; check the directory", e);
    } catch (CharacterCodingException e) {
      throw new UserException(file + ": is not valid UTF-8; get the file again", e);
    } catch (IOException e) {
      Path parent = file.getParent();
      if (parent != null && Files.isRegularFile(parent)) {
        throw new UserException(
            parent
                + ": is a file, not a directory; give the directory that holds "
                + file.getFileName(),
            e);
      }
      throw new UserException(file + ": cannot be read (" + e + "); check its permissions", e);
    }
  }

  /** The object that a file's text is. */
  static ObjectNode parse(Path file, String text) {
    try {
      JsonNode node = mapper().readTree(text);
      if (node instanceof ObjectNode object) {
        return object;
      }
      throw new UserException(file + ": must hold a JSON object; get the file again");
    } catch (JsonProcessingException e) {
      throw new UserException(
          file
              + ":"
              + (e.getLocation() == null ? "" : e.getLocation().getLineNr() + ":")
              + " is not valid JSON ("
              + e.getOriginalMessage()
              + "); mend it",
          e);
    }
  }

  /** An object from a text that was an object when it was read. */
  static ObjectNode parseObject(String text) {
    try {
      return (ObjectNode) mapper().readTree(text);
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("a config that was read is no JSON any more: " + e);
    }
  }

  /** The document, indented by two spaces, ending with a newline. */
  static String write(ObjectNode node) {
    return node.toPrettyString() + "\n";
  }
}
