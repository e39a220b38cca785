package org.lethe.run;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.List;
import org.lethe.InternalFaultException;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.config.TrainConfig;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.model.Head;
import org.lethe.model.Model;

/**
 * How many rows of logits exist at a time in a run, and which algorithms multiply them. What is
 * measured becomes part of the run's configuration, so that a resumed run has the same, and with it
 * the same bits.
 */
final class HeadTuning {
  private static final int MEASURED = -1;

  // Several chunks of any size that is tried.
  private static final int MOST_ROWS = 8192;

  /** Bytes that measuring on so many rows takes. */
  @FunctionalInterface
  interface Bytes {
    long of(int rows);
  }

  private HeadTuning() {}

  /**
   * Sets what is configured for the model's device, or measures it.
   *
   * @return the configuration with what was measured
   */
  static RunConfig settle(RunConfig config, Model model) {
    int rows = config.train().headChunk();
    List<Integer> tiles = config.train().headTiles();
    if (rows == 0 && tiles.equals(TrainConfig.RECOMMENDED_TILES)) {
      return config;
    }
    Ops ops = model.ops();
    if (ops.backend().isHost()) {
      throw new UserException(
          (rows != 0 ? "train.head_chunk is " + rows : "train.head_tiles is " + tiles)
              + ", but the CPU has no such choice; leave it at "
              + (rows != 0 ? "0" : TrainConfig.RECOMMENDED_TILES)
              + ", or use a CUDA device");
    }
    long d = model.config().hiddenSize();
    long vocabulary = model.config().vocabularySize();
    String here = listOf(ops.backend().description());
    if (rows != MEASURED) {
      requireSameList(config.train(), here);
      ops.head().setChunk(d, vocabulary, rows);
      ops.head().setTiles(d, vocabulary, new HeadOps.Tiles(tiles.get(0), tiles.get(1)));
      return config;
    }
    int measured =
        rows(
            most(config.train()),
            r -> Head.bytes(model, r, r) + model.scratch().measuring(r),
            model.ops().backend().room());
    try (Head head = new Head(model, measured)) {
      String chunk = "train.head_chunk=" + head.tune();
      HeadOps.Tiles fastest = ops.head().tiles(d, vocabulary);
      return Config.with(
          config,
          RunConfig.class,
          List.of(
              chunk,
              "train.head_tiles=[" + fastest.logits() + ", " + fastest.gradient() + "]",
              "train.head_tiles_of=\"" + here + "\""));
    }
  }

  /**
   * What a list of algorithms, in which tiles are places, is of: the kind of device and the matrix
   * library.
   *
   * @param description of a CUDA backend
   */
  static String listOf(String description) {
    try {
      JsonNode facts = new ObjectMapper().readTree(description);
      List<String> parts = new ArrayList<>();
      for (String key : List.of("device", "capability", "blas")) {
        parts.add(facts.required(key).asText());
      }
      return String.join(", ", parts);
    } catch (JsonProcessingException | IllegalArgumentException e) {
      throw new InternalFaultException("a backend describes itself by " + description, e);
    }
  }

  /** Refuses places in another list than this: other algorithms, and so other bits, stand there. */
  private static void requireSameList(TrainConfig train, String here) {
    List<Integer> tiles = train.headTiles();
    String there = train.headTilesOf().orElse(here);
    if (!there.equals(here) && !tiles.equals(TrainConfig.RECOMMENDED_TILES)) {
      throw new UserException(
          "train.head_tiles is "
              + tiles
              + ", places in a list of algorithms of "
              + there
              + " (train.head_tiles_of), but this is "
              + here
              + ", whose list has others there: the run would not have the same bits. Run it on"
              + " such a device with that library (LETHE_CUBLASLT=FILE names one), or begin a run"
              + " with train.head_chunk=-1 and without head_tiles, which measures here");
    }
  }

  /** The rows that it is measured with where there is room: as a piece may have; 0: it is not. */
  static int most(TrainConfig train) {
    return train.headChunk() == MEASURED ? Math.min(train.tokensPerMicroBatch(), MOST_ROWS) : 0;
  }

  /**
   * As many of them as there is room for.
   *
   * @param room bytes that may be taken; one row is measured with whatever it takes
   */
  static int rows(int most, Bytes bytes, long room) {
    int rows = most;
    while (rows > 1 && bytes.of(rows) > room) {
      rows = Math.max(1, rows * 3 / 4);
    }
    return rows;
  }

  /** Refuses to measure where there is no model yet. */
  static void requireModel(RunConfig config) {
    if (config.train().headChunk() == MEASURED) {
      throw new UserException(
          "train.head_chunk=-1 measures with a model that is given, and scratch makes a new one;"
              + " set train.head_chunk=0");
    }
  }
}
