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
    try {
      JsonNode node = mapper().readTree(Files.readString(file));
      if (node instanceof ObjectNode object) {
        return object;
      }
      throw new UserException(file + ": must hold a JSON object; get the file again");
    } catch (NoSuchFileException e) {
      throw new UserException(file + ": no such file; check the directory", e);
    } catch (CharacterCodingException e) {
      throw new UserException(file + ": is not valid UTF-8; get the file again", e);
    } catch (JsonProcessingException e) {
      throw new UserException(
          file
              + ":"
              + (e.getLocation() == null ? "" : e.getLocation().getLineNr() + ":")
              + " is not valid JSON ("
              + e.getOriginalMessage()
              + "); mend it",
          e);
    } catch (IOException e) {
      throw new UserException(file + ": cannot be read (" + e + "); check its permissions", e);
    }
  }

  /** The document, indented by two spaces, ending with a newline. */
  static String write(ObjectNode node) {
    return node.toPrettyString() + "\n";
  }
}
