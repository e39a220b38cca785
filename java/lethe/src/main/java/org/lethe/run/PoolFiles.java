package org.lethe.run;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.lethe.EnvironmentException;
import org.lethe.Hashes;
import org.lethe.UserException;
import org.lethe.train.QuantilePool;

/**
 * The answers that a run sampled, a file a round: {@code pool/round-00000.jsonl}. A line an answer,
 * {@code {"row", "source", "reward", "answer": [token ids], "text"}}; the last one holds the
 * round's mean reward and the SHA-256 of the lines before. A round's file is on the disk before the
 * first step that learns from it, so every checkpoint finds the rounds that it stands on.
 *
 * @param directory made when the first round is written
 */
record PoolFiles(Path directory) {
  private static final ObjectMapper JSON = new ObjectMapper();

  /**
   * An answer as it is written down.
   *
   * @param source of the prompt
   * @param text of the answer
   */
  record Line(QuantilePool.Item item, String source, String text) {}

  /** Writes a round; replaces what a run that went on from before it had left. */
  void write(int round, List<Line> lines) {
    StringBuilder text = new StringBuilder();
    double sum = 0;
    for (Line line : lines) {
      QuantilePool.Item item = line.item();
      ObjectNode node = JSON.createObjectNode();
      node.put("row", item.row());
      node.put("source", line.source());
      node.put("reward", item.reward());
      ArrayNode ids = node.putArray("answer");
      for (int id : item.answer()) {
        ids.add(id);
      }
      node.put("text", line.text());
      text.append(node).append('\n');
      sum += item.reward();
    }
    ObjectNode end = JSON.createObjectNode();
    end.put("round", round);
    end.put("mean_reward", sum / lines.size());
    end.put("sha256", Hashes.sha256(text.toString()));
    text.append(end).append('\n');
    Path file = file(round);
    Path fresh = file.resolveSibling("." + file.getFileName() + ".new");
    try {
      Files.createDirectories(directory);
      try (FileChannel channel =
          FileChannel.open(
              fresh,
              StandardOpenOption.CREATE,
              StandardOpenOption.TRUNCATE_EXISTING,
              StandardOpenOption.WRITE)) {
        ByteBuffer bytes = ByteBuffer.wrap(text.toString().getBytes(StandardCharsets.UTF_8));
        while (bytes.hasRemaining()) {
          channel.write(bytes);
        }
        channel.force(true);
      }
      Files.move(fresh, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } catch (IOException e) {
      throw new EnvironmentException(
          file + ": cannot be written (" + e + "); free disk space and resume the run", e);
    }
  }

  /**
   * Reads a round.
   *
   * @throws UserException when it is not there or not as it was written
   */
  List<QuantilePool.Item> read(int round) {
    Path file = file(round);
    try {
      String text = Files.readString(file);
      int end = text.lastIndexOf('\n', text.length() - 2) + 1;
      String lines = text.substring(0, end);
      JsonNode last = JSON.readTree(text.substring(end));
      if (!last.path("sha256").asText().equals(Hashes.sha256(lines))) {
        throw damaged(file, "its SHA-256 differs", null);
      }
      List<QuantilePool.Item> items = new ArrayList<>();
      for (String line : lines.split("\n", -1)) {
        if (!line.isEmpty()) {
          items.add(item(JSON.readTree(line)));
        }
      }
      return items;
    } catch (JsonProcessingException e) {
      throw damaged(file, "it is not JSON", e);
    } catch (IOException e) {
      throw damaged(file, "it cannot be read: " + e, e);
    }
  }

  private static QuantilePool.Item item(JsonNode line) {
    JsonNode ids = line.path("answer");
    int[] answer = new int[ids.size()];
    for (int i = 0; i < answer.length; i++) {
      answer[i] = ids.get(i).asInt();
    }
    return new QuantilePool.Item(line.path("row").asInt(), answer, line.path("reward").asDouble());
  }

  private static UserException damaged(Path file, String why, IOException cause) {
    return new UserException(
        file
            + ": the answers that the run learnt from are not here as they were ("
            + why
            + "), so it cannot go on as it began; put the file back, or begin a new run",
        cause);
  }

  private Path file(int round) {
    return directory.resolve(String.format(Locale.ROOT, "round-%05d.jsonl", round));
  }
}
