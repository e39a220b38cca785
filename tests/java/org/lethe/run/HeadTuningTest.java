package org.lethe.run;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.config.Config;
import org.lethe.config.RunConfig;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.Ops;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;

/** The rows of logits that exist at a time: set as configured, or measured and then configured. */
class HeadTuningTest {
  private static final int HIDDEN = 16;
  private static final int VOCABULARY = 41;
  private static final ModelConfig TINY =
      ModelConfig.llama(
          new ModelConfig.Sizes(VOCABULARY, HIDDEN, 1, 2, 1, 8, 24, 32), 1e-5f, 10000, true);

  private Backend backend;
  private Model model;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
    model = Model.load(new Ops(backend, Dtype.F32), TINY, new RandomWeights(TINY, 1));
  }

  @AfterEach
  void close() {
    model.close();
    backend.close();
  }

  private static RunConfig config(int chunk) {
    return Config.of(
        RunConfig.class,
        List.of("output=x", "train.tokens_per_micro_batch=40", "train.head_chunk=" + chunk));
  }

  private static RunConfig tiled(int logits, int gradient) {
    return Config.of(
        RunConfig.class,
        List.of("output=x", "train.head_tiles=[" + logits + ", " + gradient + "]"));
  }

  @Test
  void whatIsConfiguredIsSet() {
    RunConfig own = config(0);
    assertEquals(own, HeadTuning.settle(own, model));
    if (TestDevice.isCpu()) {
      for (int chunk : new int[] {-1, 3}) {
        UserException e =
            assertThrows(UserException.class, () -> HeadTuning.settle(config(chunk), model));
        assertTrue(e.getMessage().contains("train.head_chunk is " + chunk), e.getMessage());
      }
      UserException e =
          assertThrows(UserException.class, () -> HeadTuning.settle(tiled(0, 1), model));
      assertTrue(e.getMessage().contains("train.head_tiles is [0, 1]"), e.getMessage());
      return;
    }
    assertEquals(0, model.ops().head().chunk(HIDDEN, VOCABULARY));
    assertEquals(config(3), HeadTuning.settle(config(3), model));
    assertEquals(3, model.ops().head().chunk(HIDDEN, VOCABULARY));
    assertEquals(new HeadOps.Tiles(0, 0), model.ops().head().tiles(HIDDEN, VOCABULARY));
    assertEquals(tiled(1, 2), HeadTuning.settle(tiled(1, 2), model));
    assertEquals(new HeadOps.Tiles(1, 2), model.ops().head().tiles(HIDDEN, VOCABULARY));
    assertEquals(0, model.ops().head().chunk(HIDDEN, VOCABULARY));
  }

  @Test
  void whatIsMeasuredBecomesConfiguration() {
    if (TestDevice.isCpu()) {
      return;
    }
    RunConfig settled = HeadTuning.settle(config(-1), model);
    int chunk = settled.train().headChunk();
    assertTrue(chunk >= 0 && chunk < 40, "a chunk of " + chunk);
    assertEquals(chunk, model.ops().head().chunk(HIDDEN, VOCABULARY));
    HeadOps.Tiles tiles = model.ops().head().tiles(HIDDEN, VOCABULARY);
    RunConfig expected =
        Config.with(
            config(chunk),
            RunConfig.class,
            List.of(
                "train.head_tiles=[" + tiles.logits() + "," + tiles.gradient() + "]",
                "train.head_tiles_of=\"" + HeadTuning.listOf(backend.description()) + "\""));
    assertEquals(expected, settled);
    // A resumed run has what was measured, whatever the device would say now.
    RunConfig kept =
        Config.with(
            settled, RunConfig.class, List.of("train.head_chunk=5", "train.head_tiles=[2, 1]"));
    model.ops().head().setChunk(HIDDEN, VOCABULARY, 6);
    assertEquals(kept, HeadTuning.settle(kept, model));
    assertEquals(5, model.ops().head().chunk(HIDDEN, VOCABULARY));
    assertEquals(new HeadOps.Tiles(2, 1), model.ops().head().tiles(HIDDEN, VOCABULARY));
  }

  private static RunConfig tiledOf(String list) {
    return Config.with(
        tiled(1, 2), RunConfig.class, List.of("train.head_tiles_of=\"" + list + "\""));
  }

  /** The same places are other algorithms there, and a run would go on with other bits. */
  @Test
  void tilesOfAnotherDeviceOrLibraryAreRefused() {
    if (TestDevice.isCpu()) {
      return;
    }
    String here = HeadTuning.listOf(backend.description());
    assertEquals(tiledOf(here), HeadTuning.settle(tiledOf(here), model));
    String elsewhere = "NVIDIA H200, 9.0, cublaslt 13.2.1";
    model.ops().head().setTiles(HIDDEN, VOCABULARY, new HeadOps.Tiles(0, 0));
    UserException e =
        assertThrows(UserException.class, () -> HeadTuning.settle(tiledOf(elsewhere), model));
    for (String said :
        List.of("[1, 2]", elsewhere, "this is " + here, "LETHE_CUBLASLT", "head_chunk=-1")) {
      assertTrue(e.getMessage().contains(said), e.getMessage());
    }
    assertEquals(new HeadOps.Tiles(0, 0), model.ops().head().tiles(HIDDEN, VOCABULARY));
    // The recommended one needs no list, and who measures gets this one's.
    RunConfig recommended =
        Config.with(
            tiledOf(elsewhere),
            RunConfig.class,
            List.of("train.head_chunk=3", "train.head_tiles=[0, 0]"));
    assertEquals(recommended, HeadTuning.settle(recommended, model));
    RunConfig measured =
        HeadTuning.settle(
            Config.with(recommended, RunConfig.class, List.of("train.head_chunk=-1")), model);
    assertEquals(here, measured.train().headTilesOf().orElseThrow());
  }

  @Test
  void aListIsOfADeviceAndALibrary() {
    assertEquals(
        "NVIDIA H200, 9.0, cublaslt 13.1.0",
        HeadTuning.listOf(
            "{\"backend\":\"cuda\",\"device\":\"NVIDIA H200\",\"capability\":\"9.0\","
                + "\"memory\":5,\"driver\":13000,\"blas\":\"cublaslt 13.1.0\"}"));
  }

  @Test
  void tilesAreTwoPlacesAndEitherGivenOrMeasured() {
    for (String wrong : List.of("[]", "[1]", "[0, -1]", "[1, 2, 3]")) {
      UserException e =
          assertThrows(
              UserException.class,
              () -> Config.of(RunConfig.class, List.of("output=x", "train.head_tiles=" + wrong)));
      assertTrue(e.getMessage().contains("must be two numbers from 0 on"), e.getMessage());
    }
    UserException e =
        assertThrows(
            UserException.class,
            () ->
                Config.of(
                    RunConfig.class,
                    List.of("output=x", "train.head_chunk=-1", "train.head_tiles=[1, 0]")));
    assertTrue(e.getMessage().contains("measured where head_chunk is -1"), e.getMessage());
  }

  @Test
  void aModelThatIsMadeCannotBeMeasured() {
    UserException e = assertThrows(UserException.class, () -> HeadTuning.requireModel(config(-1)));
    assertTrue(e.getMessage().contains("train.head_chunk=0"), e.getMessage());
  }
}
