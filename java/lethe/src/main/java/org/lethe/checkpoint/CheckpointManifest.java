package org.lethe.checkpoint;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;
import java.util.Map;
import org.lethe.InternalFaultException;
import org.lethe.UserException;

/**
 * What a checkpoint is and what it belongs to: {@code manifest.json}, written last, so that a
 * directory without one is no checkpoint.
 *
 * <p>Together with the files it lists it determines how a run goes on, to the bit. Random numbers
 * are counter-based: the seed and the step are their whole state, as they are the data's.
 *
 * @param format always {@link #FORMAT}
 * @param formatVersion {@link #VERSION}; another one is not read
 * @param lethe version that wrote it
 * @param task the run's: {@code finetune} or {@code unlearn}
 * @param kind what trains: {@code adapter} or {@code weights}
 * @param step updates done; the next step's number, from 0
 * @param skipped steps among them that left the parameters alone
 * @param seed of data order, pairing and everything random
 * @param data where the data stands after {@code step}
 * @param method the objective's name and its state
 * @param rules how many evaluations in a row each stopping rule has held, by the rule's text
 * @param kernels the backend's description: instruction set, threads, library versions
 * @param dtype storage of weights and activations
 * @param lora the adapter's settings in the keys of PEFT's {@code adapter_config.json}; null when
 *     all weights train
 * @param baseModel where the base was loaded from; null for a model that began with random weights
 * @param baseSha256 fingerprint of the model before the first step
 * @param configSha256 of the run's configuration
 * @param metrics the part of {@code metrics.jsonl} that belongs to the steps done
 * @param previous the checkpoint before this one; null for the first
 * @param files all other files of the directory
 */
@JsonInclude(JsonInclude.Include.ALWAYS)
public record CheckpointManifest(
    String format,
    int formatVersion,
    String lethe,
    String task,
    String kind,
    int step,
    int skipped,
    long seed,
    Cursor data,
    MethodState method,
    Map<String, Integer> rules,
    String kernels,
    String dtype,
    ObjectNode lora,
    String baseModel,
    String baseSha256,
    String configSha256,
    Metrics metrics,
    Previous previous,
    List<FileEntry> files) {
  /** The {@code format} of every manifest. */
  public static final String FORMAT = "lethe-checkpoint";

  /** The only {@code formatVersion} this Lethe writes and reads. */
  public static final int VERSION = 2;

  private static final ObjectMapper MAPPER =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .enable(DeserializationFeature.FAIL_ON_NULL_FOR_PRIMITIVES)
          .build();

  /**
   * The data's place.
   *
   * @param epoch from 0
   * @param stepInEpoch steps of it that are done
   * @param stepsPerEpoch what an epoch has
   */
  public record Cursor(int epoch, int stepInEpoch, int stepsPerEpoch) {}

  /**
   * The objective.
   *
   * @param state numbers that outlive a step, by name; empty for the methods that have none
   */
  public record MethodState(String name, Map<String, Double> state) {}

  /** Length and SHA-256 of the first {@code bytes} of the metrics. */
  public record Metrics(long bytes, String sha256) {}

  /** A checkpoint's name and the SHA-256 of its manifest. */
  public record Previous(String name, String sha256) {}

  /** A file's name, size in bytes and SHA-256. */
  public record FileEntry(String name, long size, String sha256) {}

  /** The text of {@code manifest.json}. */
  public String json() {
    try {
      return MAPPER.writerWithDefaultPrettyPrinter().writeValueAsString(this) + "\n";
    } catch (JsonProcessingException e) {
      throw new InternalFaultException("a manifest cannot be written as JSON", e);
    }
  }

  /**
   * Reads {@link #json}.
   *
   * @param where what messages call it
   * @throws UserException if it is damaged, not a manifest, or of another version
   */
  public static CheckpointManifest read(String json, String where) {
    try {
      JsonNode root = MAPPER.readTree(json);
      if (!FORMAT.equals(root.path("format").asText())) {
        throw new UserException(where + ": is no manifest of a checkpoint of Lethe");
      }
      int version = root.path("format_version").asInt();
      if (version != VERSION) {
        throw new UserException(
            where
                + ": has format version "
                + version
                + ", this Lethe reads "
                + VERSION
                + "; go on with the version that wrote it ("
                + root.path("lethe").asText("unknown")
                + ")");
      }
      return MAPPER.treeToValue(root, CheckpointManifest.class);
    } catch (JsonProcessingException e) {
      throw new UserException(where + ": is damaged (" + e.getOriginalMessage() + ")", e);
    }
  }

  /** The same with its files and the checkpoint before it. */
  CheckpointManifest with(List<FileEntry> written, Previous before) {
    return new CheckpointManifest(
        format,
        formatVersion,
        lethe,
        task,
        kind,
        step,
        skipped,
        seed,
        data,
        method,
        rules,
        kernels,
        dtype,
        lora,
        baseModel,
        baseSha256,
        configSha256,
        metrics,
        before,
        List.copyOf(written));
  }
}
