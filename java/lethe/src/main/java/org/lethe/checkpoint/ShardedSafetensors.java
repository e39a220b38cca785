package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.lethe.UserException;

/**
 * The weights of a model directory: {@code model.safetensors}, or the shards that {@code
 * model.safetensors.index.json} names.
 */
public final class ShardedSafetensors implements TensorSource {
  static final String SINGLE = "model.safetensors";
  static final String INDEX = "model.safetensors.index.json";

  private final Path where;
  private final List<SafetensorsFile> files;
  private final Map<String, SafetensorsFile> byTensor;

  private ShardedSafetensors(
      Path where, List<SafetensorsFile> files, Map<String, SafetensorsFile> byTensor) {
    this.where = where;
    this.files = files;
    this.byTensor = Collections.unmodifiableMap(byTensor);
  }

  /**
   * Opens all files of a model directory and holds the index to what the shards contain.
   *
   * @throws UserException if the directory has neither file or both, a shard is missing or not
   *     valid, or index and shards disagree
   */
  public static ShardedSafetensors open(Path directory) {
    Path single = directory.resolve(SINGLE);
    Path index = directory.resolve(INDEX);
    if (Files.exists(single) && Files.exists(index)) {
      throw new UserException(
          directory
              + ": has both "
              + SINGLE
              + " and "
              + INDEX
              + "; remove the one that does not belong to the model");
    }
    List<SafetensorsFile> opened = new ArrayList<>();
    try {
      if (Files.exists(single)) {
        opened.add(SafetensorsFile.open(single));
        return new ShardedSafetensors(single, opened, union(opened));
      }
      if (Files.exists(index)) {
        return shards(directory, index, opened);
      }
    } catch (RuntimeException e) {
      opened.forEach(SafetensorsFile::close);
      throw e;
    }
    throw new UserException(
        directory
            + ": has neither "
            + SINGLE
            + " nor "
            + INDEX
            + "; give a directory with a model in safetensors form");
  }

  private static ShardedSafetensors shards(
      Path directory, Path index, List<SafetensorsFile> opened) {
    Map<String, String> shardByTensor = readIndex(index);
    Map<String, SafetensorsFile> byShard = new LinkedHashMap<>();
    for (String shard : new TreeSet<>(shardByTensor.values())) {
      Path path = directory.resolve(shard);
      if (!Files.exists(path)) {
        throw new UserException(
            index + ": names the shard '" + shard + "', which is missing; get it again");
      }
      SafetensorsFile file = SafetensorsFile.open(path);
      opened.add(file);
      byShard.put(shard, file);
    }
    Map<String, SafetensorsFile> byTensor = union(opened);
    for (Map.Entry<String, String> entry : shardByTensor.entrySet()) {
      if (!byShard.get(entry.getValue()).names().contains(entry.getKey())) {
        throw new UserException(
            index
                + ": places tensor '"
                + entry.getKey()
                + "' in '"
                + entry.getValue()
                + "', which does not hold it; get index and shards again");
      }
    }
    for (String name : byTensor.keySet()) {
      if (!shardByTensor.containsKey(name)) {
        throw new UserException(
            byTensor.get(name).file(name)
                + ": holds tensor '"
                + name
                + "', which the index does not name; get index and shards again");
      }
    }
    return new ShardedSafetensors(index, opened, byTensor);
  }

  private static Map<String, SafetensorsFile> union(List<SafetensorsFile> files) {
    Map<String, SafetensorsFile> byTensor = new LinkedHashMap<>();
    for (SafetensorsFile file : files) {
      for (String name : file.names()) {
        SafetensorsFile other = byTensor.put(name, file);
        if (other != null) {
          throw new UserException(
              file.file(name)
                  + ": tensor '"
                  + name
                  + "' is also in "
                  + other.file(name)
                  + "; get the shards again");
        }
      }
    }
    return byTensor;
  }

  private static Map<String, String> readIndex(Path index) {
    JsonNode map = JsonFiles.readObject(index).path("weight_map");
    if (!map.isObject() || map.isEmpty()) {
      throw new UserException(
          index + ": key 'weight_map' must be a non-empty object; get the file again");
    }
    Map<String, String> shardByTensor = new LinkedHashMap<>();
    for (Map.Entry<String, JsonNode> entry : map.properties()) {
      String shard = entry.getValue().asText();
      // A name with a separator could point anywhere outside the model's directory.
      if (!entry.getValue().isTextual() || !shard.matches("[^/\\\\\\x00]+\\.safetensors")) {
        throw new UserException(
            index
                + ": weight_map entry '"
                + entry.getKey()
                + "' must name a .safetensors file beside the index; get the file again");
      }
      shardByTensor.put(entry.getKey(), shard);
    }
    return shardByTensor;
  }

  private SafetensorsFile holder(String name) {
    SafetensorsFile file = byTensor.get(name);
    if (file == null) {
      throw new UserException(
          where + ": has no tensor '" + name + "'; check that config.json and weights match");
    }
    return file;
  }

  @Override
  public Set<String> names() {
    return byTensor.keySet();
  }

  @Override
  public TensorInfo info(String name) {
    return holder(name).info(name);
  }

  @Override
  public Path file(String name) {
    return holder(name).file(name);
  }

  @Override
  public int readInto(String name, long offset, ByteBuffer into) {
    return holder(name).readInto(name, offset, into);
  }

  @Override
  public List<ByteBuffer> slices(String name) {
    return holder(name).slices(name);
  }

  @Override
  public void close() {
    files.forEach(SafetensorsFile::close);
  }
}
