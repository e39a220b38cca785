package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.lethe.TestDevice;
import org.lethe.data.TokenSequence;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.Ops;
import org.lethe.method.Positions;
import org.lethe.train.Scorer;

/** What scoring and generating take, against what is said before they do. */
class InferenceMemoryTest {
  private static final ModelConfig SIZES =
      ModelConfig.llama(new ModelConfig.Sizes(96, 32, 2, 4, 2, 8, 72, 64), 1e-5f, 10000, true);

  private interface Judged {
    void judge(Model model, InferenceMemory memory, long held);
  }

  /** On a model with two adapters, of which views have one each, or both. */
  private static void with(Dtype dtype, Judged judged) {
    try (Backend backend = TestDevice.open(1);
        Model model = Model.load(new Ops(backend, dtype), SIZES, new RandomWeights(SIZES, 1))) {
      LoraConfig other = LoraConfig.all(3, 8);
      int values = Math.toIntExact(Lora.layout(SIZES, other).elements());
      model.addFrozen("other", other, new float[values]);
      model.addLora(LoraConfig.all(5, 8), 1);
      judged.judge(model, InferenceMemory.of(model), backend.allocatedBytes());
    }
  }

  private static List<TokenSequence> sequences(int count, int length) {
    return IntStream.range(0, count)
        .mapToObj(
            s -> new TokenSequence(IntStream.range(0, length).map(t -> (s + t) % 96).toArray(), 4))
        .toList();
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void whatIsSaidIsTaken(Dtype dtype) {
    with(
        dtype,
        (model, memory, held) -> {
          Backend backend = model.ops().backend();
          LoraConfig both = LoraConfig.all(8, 8);
          assertEquals(AdapterWidths.of(SIZES, both), memory.adapters());
          Scorer scorer = Scorer.forSequences(model, sequences(5, 20), model.view());
          assertEquals(100, memory.tokens(20, 100, Long.MAX_VALUE));
          assertEquals(memory.scoring(100), backend.allocatedBytes() - held);
          scorer.close();
          Generator generator = new Generator(model, 5, 40, model.view());
          assertEquals(memory.generation(5, 40, 1), backend.allocatedBytes() - held);
          generator.close();
        });
  }

  @Test
  void bothKeepWithinALimitAndSayTheSame() {
    with(
        Dtype.F32,
        (model, memory, held) -> {
          Backend backend = model.ops().backend();
          List<TokenSequence> rows = sequences(12, 20);
          List<Scorer.Score> free;
          try (Scorer scorer = Scorer.forSequences(model, rows, model.view())) {
            free = scorer.score(rows, Positions.ANSWER);
          }
          List<int[]> prompts = rows.stream().map(TokenSequence::ids).toList();
          List<int[]> said;
          try (Generator generator = new Generator(model, 6, 26, model.view())) {
            said = generator.greedy(prompts, 6, Set.of());
          }
          long room = memory.scoring(100);
          backend.limit(held + room);
          try (Scorer scorer = Scorer.forSequences(model, rows, model.view())) {
            assertTrue(backend.allocatedBytes() <= held + room);
            assertTrue(memory.tokens(20, 240, room) > 20);
            assertEquals(free, scorer.score(rows, Positions.ANSWER));
          }
          long less = memory.generation(3, 26, 1);
          backend.limit(held + less);
          try (Generator generator = new Generator(model, 6, 26, model.view())) {
            assertTrue(backend.allocatedBytes() <= held + less);
            List<int[]> again = generator.greedy(prompts, 6, Set.of());
            assertArrayEquals(said.toArray(), again.toArray());
          }
        });
  }

  @Test
  void oneAtATimeIsTheLeast() {
    with(
        Dtype.F32,
        (model, memory, held) -> {
          assertEquals(20, memory.tokens(20, 240, 0));
          assertEquals(1, memory.slots(6, 26, 1, 0));
        });
  }
}
