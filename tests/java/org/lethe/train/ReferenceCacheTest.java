package org.lethe.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.lethe.TestDevice;
import org.lethe.UserException;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.method.Method;
import org.lethe.method.MethodConfig;
import org.lethe.method.Methods;
import org.lethe.method.Positions;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.RandomWeights;

class ReferenceCacheTest {
  // Of a token's nll between two packings of the same sequences: GEMM kernels choose their blocks
  // by the number of rows, so sums of a few hundred fp32 terms may associate differently. The
  // bound the model's nll is held to against fp64.
  private static final double NLL_TOLERANCE = 2e-5;

  @TempDir private Path directory;
  private Backend backend;
  private Model model;

  @BeforeEach
  void open() {
    backend = TestDevice.open(1);
    model = GoldenSteps.model(backend, Dtype.F32);
  }

  @AfterEach
  void close() {
    model.close();
    backend.close();
  }

  private static TrainSettings settings(int tokens) {
    return GoldenSteps.settings(1, 1e-3, tokens, TrainSettings.OnNonFinite.STOP);
  }

  private List<Path> files() {
    try (Stream<Path> files = Files.list(directory)) {
      return files.sorted().toList();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * d(loss)/d(margin) of (2/beta)·−log sigmoid(beta·margin) is −1 at 0 and of no larger magnitude
   * than 2 anywhere, so the loss moves by at most twice what a sequence's nll does; DPO has two
   * sequences in a margin.
   */
  @ParameterizedTest
  @CsvSource({"NPO, 0.1", "NPO, 2.5", "DPO, 0.1", "DPO, 2.5"})
  void stepZeroFromTheCacheIsWithinRoundingOfItsValue(String name, double beta) {
    Method method = Methods.create(MethodConfig.of(name).withBeta(beta));
    List<StepSequence> step = GoldenSteps.of(method);
    ReferenceCache cache = ReferenceCache.open(directory, model);
    assertEquals(step.size(), cache.fill(model, method, List.of(step)));
    model.addLora(LoraConfig.all(4, 8), 7);
    int longest = step.stream().mapToInt(s -> s.tokens().ids().length).max().orElseThrow();
    double bound = 2 * 2 * longest * NLL_TOLERANCE;
    for (int tokens : new int[] {4096, 20}) {
      int piece = StepSizing.largestPiece(method, settings(tokens), cache, List.of(step));
      try (Step training = new Step(model, method, settings(tokens), cache, piece)) {
        double loss = training.gradients(step).loss();
        assertEquals(2 / beta * StrictMath.log(2), loss, bound, tokens + " tokens");
      }
    }
  }

  /** A run may have a million steps, of a few rows. */
  @Test
  void stepsAreReadOnce() throws IOException {
    Method method = Methods.create(MethodConfig.of("DPO+AP"));
    List<StepSequence> step = GoldenSteps.of(method);
    int[] read = {0};
    Iterable<List<StepSequence>> steps =
        () -> {
          read[0]++;
          return Collections.nCopies(3, step).iterator();
        };
    ReferenceCache cache = ReferenceCache.open(directory, model);
    int computed = cache.fill(model, method, steps);
    assertTrue(computed > 0);
    assertEquals(1, read[0]);
    assertEquals(computed, Files.readString(files().get(0)).lines().distinct().count());
  }

  @Test
  void aSecondRunFindsEveryEntry() throws IOException {
    Method method = Methods.create(MethodConfig.of("DPO+AP"));
    List<StepSequence> step = GoldenSteps.of(method);
    ReferenceCache first = ReferenceCache.open(directory, model);
    int computed = first.fill(model, method, List.of(step, step));
    assertEquals(0, first.fill(model, method, List.of(step)));
    String text = Files.readString(files().get(0));
    ReferenceCache second = ReferenceCache.open(directory, model);
    assertEquals(0, second.fill(model, method, List.of(step)));
    assertEquals(text, Files.readString(files().get(0)));
    assertEquals(computed, text.lines().count());
    assertEquals(1, files().size());
    for (StepSequence s : GoldenSteps.of(Methods.create(MethodConfig.of("DPO")))) {
      assertEquals(
          first.nll(s.tokens(), Positions.ANSWER), second.nll(s.tokens(), Positions.ANSWER));
    }
  }

  @Test
  void anotherBaseStorageOrThreadCountHasAFileOfItsOwn() {
    ReferenceCache.open(directory, model).fill(model, npo(), List.of(GoldenSteps.of(npo())));
    ModelConfig sizes = model.config();
    try (Model other = Model.load(model.ops(), sizes, new RandomWeights(sizes, 3))) {
      assertEquals(
          3,
          ReferenceCache.open(directory, other).fill(other, npo(), List.of(GoldenSteps.of(npo()))));
    }
    try (Model bf16 = GoldenSteps.model(backend, Dtype.BF16)) {
      ReferenceCache.open(directory, bf16).fill(bf16, npo(), List.of(GoldenSteps.of(npo())));
    }
    try (Backend two = TestDevice.open(2);
        Model threaded = GoldenSteps.model(two, Dtype.F32)) {
      ReferenceCache.open(directory, threaded)
          .fill(threaded, npo(), List.of(GoldenSteps.of(npo())));
    }
    assertEquals(4, files().size());
  }

  @Test
  void positionsAreEntriesOfTheirOwn() {
    Method answer = npo();
    Method all =
        Methods.create(MethodConfig.of("NPO").withPositions(Positions.ALL, Positions.ANSWER));
    List<StepSequence> step = GoldenSteps.of(answer);
    ReferenceCache cache = ReferenceCache.open(directory, model);
    assertEquals(3, cache.fill(model, answer, List.of(step)));
    assertEquals(3, cache.fill(model, all, List.of(step)));
    assertNotEquals(
        cache.nll(step.get(0).tokens(), Positions.ANSWER),
        cache.nll(step.get(0).tokens(), Positions.ALL));
  }

  @ParameterizedTest
  @ValueSource(strings = {"no tab", "beef\t1.0", "\t", "{key}\tone", "{key}\t", "{key}\t0x1.8p3x"})
  void aDamagedLineIsNamed(String damaged) throws IOException {
    ReferenceCache.open(directory, model).fill(model, npo(), List.of(GoldenSteps.of(npo())));
    Path file = files().get(0);
    List<String> lines = Files.readAllLines(file);
    String key = lines.get(1).substring(0, lines.get(1).indexOf('\t'));
    lines.set(1, damaged.replace("{key}", key));
    Files.write(file, lines);
    assertNamesLine(file, 2);
  }

  @Test
  void aLastLineThatACrashCutIsNamed() throws IOException {
    ReferenceCache.open(directory, model).fill(model, npo(), List.of(GoldenSteps.of(npo())));
    Path file = files().get(0);
    String text = Files.readString(file);
    // What is left reads as a number, of another exponent.
    Files.writeString(file, text.substring(0, text.indexOf('p', text.lastIndexOf('\t')) + 2));
    assertNamesLine(file, 3);
  }

  @Test
  void bytesThatAreNoTextAreNamed() throws IOException {
    ReferenceCache.open(directory, model).fill(model, npo(), List.of(GoldenSteps.of(npo())));
    Path file = files().get(0);
    Files.write(file, new byte[] {(byte) 0xff, (byte) 0xfe, '\n'});
    assertNamesLine(file, 1);
  }

  @Test
  void onlyMethodsWithAReferenceNeedIt() {
    assertTrue(ReferenceCache.isNeeded(npo()));
    assertTrue(ReferenceCache.isNeeded(Methods.create(MethodConfig.of("DPO+KL"))));
    assertFalse(ReferenceCache.isNeeded(Methods.create(MethodConfig.of("ME+GD"))));
    assertFalse(ReferenceCache.isNeeded(Methods.create(MethodConfig.of("IDK+AP"))));
    assertFalse(ReferenceCache.isNeeded(Methods.create(MethodConfig.of("GA+KL"))));
  }

  private static Method npo() {
    return Methods.create(MethodConfig.of("NPO"));
  }

  private void assertNamesLine(Path file, int line) {
    UserException e =
        assertThrows(UserException.class, () -> ReferenceCache.open(directory, model));
    assertTrue(e.getMessage().startsWith(file + ":" + line + ": "), e.getMessage());
    assertTrue(e.getMessage().contains("delete the file"), e.getMessage());
  }
}
