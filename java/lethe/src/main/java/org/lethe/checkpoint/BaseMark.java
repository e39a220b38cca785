package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.Optional;
import java.util.TreeSet;
import org.lethe.Hashes;
import org.lethe.UserException;

/**
 * Which weights an adapter was trained on: a file of Lethe's own beside PEFT's two, since PEFT has
 * no place for it and other readers may refuse keys that they do not know. An adapter without one,
 * such as PEFT's, is held to names and shapes alone.
 *
 * <p>The hash is SHA-256 over every tensor's name, type and shape and {@value #PIECES} pieces of at
 * most {@value #PIECE_BYTES} bytes spread over it, in the order of the names: any other training of
 * the same architecture differs in them, and a large model need not be read whole.
 */
final class BaseMark {
  /** The file's name in an adapter's directory. */
  static final String FILE = "lethe_base.json";

  private static final String KEY = "base_sha256";
  private static final String COVERS = "base_sha256_covers";
  private static final int PIECES = 16;
  private static final int PIECE_BYTES = 4096;

  private BaseMark() {}

  /** The hash of a model's weights as they are stored, in hexadecimal; shards do not show in it. */
  static String of(TensorSource weights) {
    MessageDigest digest = Hashes.sha256();
    ByteBuffer piece = ByteBuffer.allocate(PIECE_BYTES);
    for (String name : new TreeSet<>(weights.names())) {
      TensorInfo info = weights.info(name);
      String facts = name + " " + info.dtype() + " " + info.shape() + "\n";
      digest.update(facts.getBytes(StandardCharsets.UTF_8));
      long last = Math.max(0, info.bytes() - PIECE_BYTES);
      long before = -1;
      for (int i = 0; i < PIECES; i++) {
        // Whole numbers of every type: a quantised weight is made as it is read.
        long at = last * i / (PIECES - 1) / Long.BYTES * Long.BYTES;
        if (at > before && info.bytes() > 0) {
          weights.readInto(name, at, piece.clear());
          digest.update(piece.flip());
        }
        before = at;
      }
    }
    return HexFormat.of().formatHex(digest.digest());
  }

  /** What an adapter's directory says; empty when it says nothing. */
  static Optional<String> read(Path adapter) {
    Path file = adapter.resolve(FILE);
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    JsonNode hash = JsonFiles.readObject(file).path(KEY);
    if (!hash.isTextual()) {
      throw new UserException(
          file + ": key '" + KEY + "' must be a text; delete the file if it is not Lethe's");
    }
    return Optional.of(hash.asText());
  }

  /** The file's content. */
  static String json(String hash) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    node.put(KEY, hash);
    node.put(
        COVERS,
        "name, type and shape of every tensor, and "
            + PIECES
            + " pieces of at most "
            + PIECE_BYTES
            + " bytes spread over it");
    return JsonFiles.write(node);
  }

  /**
   * Holds an adapter to the weights it is to sit on.
   *
   * @param base hash of those weights
   * @throws UserException naming both hashes, when they are others than the adapter's
   */
  static void require(Path adapter, String base) {
    Optional<String> mark = read(adapter);
    if (mark.isPresent() && !mark.get().equals(base)) {
      throw new UserException(
          adapter.resolve(FILE)
              + ": key '"
              + KEY
              + "': the adapter was trained on other weights ("
              + mark.get().substring(0, Math.min(12, mark.get().length()))
              + "...) than this base model has ("
              + base.substring(0, 12)
              + "...); give the base that it was trained on, or, where the same model is only"
              + " stored in another type, delete this file");
    }
  }
}
