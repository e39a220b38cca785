package org.lethe.model;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.lethe.TestDevice;
import org.lethe.kernels.AttentionShape;
import org.lethe.kernels.Backend;
import org.lethe.kernels.Buffer;
import org.lethe.kernels.Dtype;
import org.lethe.kernels.HeadOps;
import org.lethe.kernels.LinearOps;
import org.lethe.kernels.NormKind;
import org.lethe.kernels.NormShape;
import org.lethe.kernels.Ops;
import org.lethe.kernels.PartOps;

/**
 * What is said of the ops' scratch memory against what a fresh engine takes for one call of each.
 */
class CudaScratchTest {
  private static final long OPERANDS = 48L << 20;
  private static final List<Dtype> STORAGES = List.of(Dtype.F32, Dtype.BF16);

  /** Zeros for everything: what is asked for depends on sizes alone. */
  private static final class Operands {
    private final Buffer memory;
    private long next;

    Operands(Buffer memory) {
      this.memory = memory;
    }

    long take(long bytes) {
      long at = memory.at(next);
      next += (bytes + 255) / 256 * 256;
      if (next > memory.bytes()) {
        throw new AssertionError("the operands of a test need " + next + " bytes");
      }
      return at;
    }
  }

  private interface Call {
    void make(Ops ops, Operands operands);
  }

  @BeforeEach
  void theHostHasNone() {
    assumeFalse(TestDevice.isCpu());
  }

  private static long used(Backend backend) {
    Backend.Memory memory = backend.memory();
    return memory.total() - memory.free();
  }

  private static long taken(Dtype storage, Call call) {
    try (Backend backend = TestDevice.open(1);
        Buffer memory = backend.allocate(OPERANDS)) {
      long before = used(backend);
      call.make(new Ops(backend, storage), new Operands(memory));
      return used(backend) - before;
    }
  }

  @Test
  void ofTheHeadsMeanRow() {
    for (long vocabulary : new long[] {1, 256, 257, 3000}) {
      long seen =
          taken(
              Dtype.F32,
              (ops, o) ->
                  ops.head().mean(40, vocabulary, o.take(vocabulary * 40 * 4), o.take(40 * 4)));
      assertEquals(CudaScratch.headMean(40, vocabulary), seen, vocabulary + " columns");
    }
  }

  /** Two adapters on parts of a linear, in every form that a step has. */
  private static void linear(Dtype storage, long in, long out, long tokens, boolean drops) {
    LinearOps.Spare[] spare = new LinearOps.Spare[1];
    long rank = 3;
    long half = out / 2;
    Call forward =
        (ops, o) -> {
          spare[0] = ops.linear().spare(out, in, 2 * rank);
          long u = o.take(tokens * 2 * rank * 4);
          ops.linear()
              .forward(
                  made(ops, o, spare[0], in, out, rank, drops, true),
                  tokens,
                  tokens,
                  o.take(tokens * in * 4),
                  0,
                  o.take(tokens * out * 4),
                  drops ? o.take(tokens * 8) : 0,
                  u);
        };
    String what = storage + " " + in + " to " + out + ", " + tokens + " tokens, drops " + drops;
    long seen = taken(storage, forward);
    CudaScratch.Linear l =
        new CudaScratch.Linear(in, out, spare[0].stride(), spare[0].rows(), 2 * rank, half, false);
    assertEquals(CudaScratch.linearForward(storage, l, tokens, drops), seen, what);
    for (boolean stacked : new boolean[] {false, true}) {
      Call backward =
          (ops, o) ->
              ops.linear()
                  .backward(
                      made(ops, o, spare[0], in, out, rank, drops, stacked),
                      tokens,
                      o.take(tokens * in * 4),
                      o.take(tokens * 2 * rank * 4),
                      o.take(tokens * out * 4),
                      drops ? o.take(tokens * 8) : 0,
                      o.take(tokens * 2 * rank * 4),
                      o.take(tokens * in * 4));
      assertEquals(
          CudaScratch.linearBackward(storage, l, tokens, drops, stacked, false),
          taken(storage, backward),
          what + ", stacked " + stacked);
    }
  }

  private static long made(
      Ops ops,
      Operands o,
      LinearOps.Spare spare,
      long in,
      long out,
      long rank,
      boolean drops,
      boolean stacked) {
    long w = o.take((out + spare.rows()) * spare.stride() * ops.dtype().bytes());
    long linear =
        spare.any(in)
            ? ops.linear().createStrided(out, in, spare, w, 0)
            : ops.linear().create(out, in, w, 0, 0, 0);
    long half = out / 2;
    long own = rank * in * ops.dtype().bytes();
    long a = o.take(3 * own);
    for (long part = 0; part < 2; part++) {
      ops.linear()
          .adapter(
              linear,
              part * half,
              half,
              rank,
              1f,
              drops ? 0.5f : 0f,
              7,
              a + part * (stacked ? own : 2 * own),
              o.take(half * rank * ops.dtype().bytes()),
              o.take(rank * in * 4),
              o.take(half * rank * 4));
    }
    return linear;
  }

  @Test
  void ofLinears() {
    for (Dtype storage : STORAGES) {
      for (boolean drops : new boolean[] {false, true}) {
        linear(storage, 40, 24, 5, drops);
        linear(storage, 24, 40, 130, drops);
      }
    }
    linear(Dtype.BF16, 8192, 16, 5, false); // A long sum is split.
    linear(Dtype.BF16, 16, 16384, 5, false);
    linear(Dtype.F32, 8200, 16, 5, true);
  }

  @Test
  void ofABiasThatTrains() {
    long seen =
        taken(
            Dtype.F32,
            (ops, o) -> {
              long linear =
                  ops.linear()
                      .create(
                          24,
                          40,
                          o.take(24 * 40 * 4),
                          o.take(24 * 40 * 4),
                          o.take(24 * 4),
                          o.take(24 * 4));
              ops.linear()
                  .backward(
                      linear,
                      130,
                      o.take(130 * 40 * 4),
                      0,
                      o.take(130 * 24 * 4),
                      0,
                      0,
                      o.take(130 * 40 * 4));
            });
    CudaScratch.Linear l = new CudaScratch.Linear(40, 24, 40, 0, 0, 0, true);
    assertEquals(CudaScratch.linearBackward(Dtype.F32, l, 130, false, true, true), seen);
  }

  private static void attention(Dtype storage, ModelConfig c, long queries, long keys, long of) {
    long rows = Math.max(queries, keys);
    long bytes = rows * c.queryWidth() * 4;
    String what = storage + ", heads of " + c.headDim() + ", " + queries + " of " + keys;
    long forward =
        taken(
            storage,
            (ops, o) ->
                ops.attentionForward(
                    shape(c, o, queries, keys, of),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(rows * c.heads() * 4)));
    assertEquals(CudaScratch.attention(storage, c, queries, keys, of, false), forward, what);
    long backward =
        taken(
            storage,
            (ops, o) ->
                ops.attentionBackward(
                    shape(c, o, queries, keys, of),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(rows * c.heads() * 4),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(bytes),
                    o.take(bytes)));
    assertEquals(CudaScratch.attention(storage, c, queries, keys, of, true), backward, what);
  }

  private static AttentionShape shape(
      ModelConfig c, Operands o, long queries, long keys, long segments) {
    return new AttentionShape(
        c.heads(),
        c.kvHeads(),
        c.headDim(),
        1f,
        segments,
        o.take(segments * AttentionShape.SEGMENT_FIELDS * Integer.BYTES),
        queries,
        c.queryWidth(),
        keys,
        c.kvWidth(),
        0,
        0);
  }

  private static ModelConfig heads(int heads, int kvHeads, int dim) {
    return ModelConfig.llama(
        new ModelConfig.Sizes(64, heads * dim, 1, heads, kvHeads, dim, 40, 4096),
        1e-5f,
        10000,
        true);
  }

  @Test
  void ofAttention() {
    for (Dtype storage : STORAGES) {
      attention(storage, heads(4, 2, 16), 70, 70, 3);
      attention(storage, heads(2, 1, 80), 5, 700, 5);
      attention(storage, heads(2, 2, 136), 200, 600, 100);
      attention(storage, heads(2, 2, 16), 599, 600, 40);
      attention(storage, heads(2, 2, 16), 600, 600, 40);
      attention(storage, heads(2, 2, 16), 601, 600, 40);
    }
  }

  @Test
  void ofTheHead() {
    for (boolean references : new boolean[] {false, true}) {
      long n = 70;
      long seen =
          taken(
              Dtype.F32,
              (ops, o) -> {
                HeadOps.WorkspaceBytes needed = ops.head().workspace(n, 16, 100);
                long bytes = needed.most();
                ops.head()
                    .forward(
                        new HeadOps.Shape(n, n, 16, 100, o.take(bytes), bytes),
                        new HeadOps.Counts(references ? 1 : 0, 0),
                        o.take(n * 16 * 4),
                        o.take(100 * 16 * 4),
                        o.take(16 * 4),
                        o.take(n * HeadOps.ROW_FIELDS * 4),
                        0,
                        o.take(n * HeadOps.STATISTICS * 4),
                        o.take(n * 16 * 4));
              });
      assertEquals(CudaScratch.head(n, references, 0, true, false), seen);
    }
  }

  @Test
  void ofTheGradientThroughTheHeadsNorm() {
    for (int trained = 0; trained <= 2; trained++) {
      int vectors = trained;
      for (long n : new long[] {3, 300, 70000}) {
        long sources = Math.min(n, 900);
        long seen =
            taken(
                Dtype.F32,
                (ops, o) -> {
                  NormShape shape =
                      new NormShape(
                          vectors == 2 ? NormKind.LAYER : NormKind.RMS,
                          sources,
                          1,
                          8,
                          1e-5f,
                          0,
                          8,
                          8);
                  ops.head()
                      .normBackward(
                          shape,
                          n,
                          o.take(n * HeadOps.ROW_FIELDS * 4),
                          o.take(n * 4),
                          o.take(n * 8 * 4),
                          o.take(sources * 8 * 4),
                          o.take(8 * 4),
                          vectors == 2 ? o.take(sources * 4) : 0,
                          o.take(sources * 4),
                          o.take(sources * 8 * 4),
                          vectors > 0 ? o.take(8 * 4) : 0,
                          vectors > 1 ? o.take(8 * 4) : 0);
                });
        assertEquals(CudaScratch.headNorm(n, sources, 8, vectors), seen, n + " rows, " + trained);
      }
    }
  }

  @Test
  void ofNormsWhoseParametersTrain() {
    for (Dtype storage : STORAGES) {
      for (long d : new long[] {16, 256, 264}) {
        long seen =
            taken(
                storage,
                (ops, o) ->
                    ops.normBackward(
                        NormShape.rms(100, d, 1e-5f),
                        o.take(100 * d * 4),
                        o.take(100 * d * 4),
                        o.take(d * 4),
                        0,
                        o.take(100 * 4),
                        o.take(100 * d * 4),
                        d,
                        false,
                        o.take(d * 4),
                        0));
        assertEquals(CudaScratch.norm(storage, 100, d, 1), seen, storage + " " + d);
      }
    }
  }

  @Test
  void ofWhatSortsAndCounts() {
    for (long n : new long[] {3, 5000, 70000}) {
      long embedding =
          taken(
              Dtype.F32,
              (ops, o) ->
                  ops.embeddingBackward(
                      n, 8, 100, 1f, o.take(n * 8 * 4), o.take(n * 4), o.take(100 * 8 * 4)));
      assertEquals(CudaScratch.embedding(n), embedding, n + " tokens");
    }
    for (long n : new long[] {256, 257}) {
      long scatter =
          taken(
              Dtype.F32,
              (ops, o) ->
                  ops.scatterRows(
                      n, 8, 1000, o.take(n * 8 * 4), 8, o.take(n * 4), o.take(1000 * 8 * 4), 8));
      assertEquals(CudaScratch.scatter(n, 1000), scatter, n + " rows");
    }
    long n = 40_000;
    assertEquals(
        CudaScratch.gradientNorm(n),
        taken(Dtype.F32, (ops, o) -> ops.gradientNorm(n, o.take(n * 4), 1f, o.take(64))));
    assertEquals(
        CudaScratch.gradientNormPart(n),
        taken(
            Dtype.F32,
            (ops, o) -> new PartOps(ops).gradientNorm(n, o.take(n * 4), true, 1f, o.take(64))));
  }

  @Test
  void ofSampling() {
    assertEquals(
        CudaScratch.sample(5, 0),
        taken(
            Dtype.F32,
            (ops, o) ->
                ops.head()
                    .sample(
                        new HeadOps.Shape(5, 5, 16, 100, o.take(1 << 16), 1 << 16),
                        o.take(5 * 16 * 4),
                        o.take(100 * 16 * 4),
                        new HeadOps.Sampling(1f, 0, 1f, 1),
                        o.take(5 * 8),
                        o.take(5 * 4))));
  }
}
