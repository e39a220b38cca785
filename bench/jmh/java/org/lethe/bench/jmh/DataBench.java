package org.lethe.bench.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.lethe.data.Example;
import org.lethe.data.Jsonl;
import org.lethe.data.TokenSequence;
import org.lethe.data.corpus.BpeTrainer;
import org.lethe.data.corpus.Row;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import org.openjdk.jmh.infra.Blackhole;

/** From a file of rows to token sequences. A call goes once over the generated corpus. */
@State(Scope.Thread)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
public class DataBench {
  private static final int CONTEXT = 512;

  /** Of the corpus, ten rows each. */
  @Param("40")
  public int people;

  private Texts texts;
  private List<Example> examples;
  private List<int[]> encoded;
  private long bytes;

  /** What was done, per second. */
  @State(Scope.Thread)
  @AuxCounters(AuxCounters.Type.OPERATIONS)
  public static class PerSecond {
    /** Of a tokenizer. */
    public long tokens;

    /** Of a file. */
    public long rows;

    /** Of a file. */
    public long bytes;
  }

  /** Makes corpus and tokenizer, and checks round trips. */
  @Setup
  public void open() throws IOException {
    texts = new Texts(people, BpeTrainer.DEFAULT_VOCABULARY, CONTEXT);
    examples = texts.full();
    bytes = Files.size(texts.directory.resolve("full.jsonl"));
    encoded = new ArrayList<>();
    for (Example example : examples) {
      int[] ids = texts.tokenizer.encode(example.answer());
      encoded.add(ids);
      Check.that("ids decode to their text", texts.tokenizer.decode(ids).equals(example.answer()));
      checkSequence(example);
    }
    checkRows(Jsonl.read(texts.directory.resolve("full.jsonl")), texts.corpus.full());
  }

  private void checkSequence(Example example) {
    String prompt = texts.template.prompt(example.question());
    Check.that(
        "the template's words",
        prompt.equals("<|bos|><|user|>" + example.question() + "<|assistant|>"));
    TokenSequence sequence = texts.encoder.encode(example.question(), example.answer(), "corpus");
    int last = sequence.ids().length - 1;
    Check.that(
        "prompt, answer, eos",
        sequence.ids()[last] == texts.tokenizer.eosId()
            && texts
                .tokenizer
                .decode(sequence.ids())
                .equals(example.question() + example.answer()));
  }

  private static void checkRows(List<Example> read, List<Row> written) {
    Check.that("as many rows as were written", read.size() == written.size());
    for (int i = 0; i < read.size(); i++) {
      Check.that(
          "rows as written",
          read.get(i).question().equals(written.get(i).question())
              && read.get(i).answer().equals(written.get(i).answer())
              && read.get(i).perturbedAnswers().equals(written.get(i).perturbedAnswers()));
    }
  }

  /** Removes the corpus. */
  @TearDown
  public void close() {
    texts.close();
  }

  @Benchmark
  @Shape("Tokenizer.encode, every answer of the corpus; byte-level BPE of 2048 tokens")
  public void encode(PerSecond per, Blackhole hole) {
    for (Example example : examples) {
      int[] ids = texts.tokenizer.encode(example.answer());
      per.tokens += ids.length;
      hole.consume(ids);
    }
  }

  @Benchmark
  @Shape("Tokenizer.decode, every answer of the corpus")
  public void decode(PerSecond per, Blackhole hole) {
    for (int[] ids : encoded) {
      per.tokens += ids.length;
      hole.consume(texts.tokenizer.decode(ids));
    }
  }

  @Benchmark
  @Shape("PromptTemplate.prompt, the chat template of every question of the corpus")
  public void chatTemplate(PerSecond per, Blackhole hole) {
    for (Example example : examples) {
      hole.consume(texts.template.prompt(example.question()));
      per.rows++;
    }
  }

  @Benchmark
  @Shape("ExampleEncoder.encode: template, both tokenisations and the joined ids of every row")
  public void encodeExample(PerSecond per, Blackhole hole) {
    for (Example example : examples) {
      TokenSequence sequence =
          texts.encoder.encode(example.question(), example.answer(), example.source());
      per.tokens += sequence.ids().length;
      per.rows++;
      hole.consume(sequence);
    }
  }

  @Benchmark
  @Shape("Jsonl.read, the corpus's file in the page cache")
  public void readJsonl(PerSecond per, Blackhole hole) {
    List<Example> rows = Jsonl.read(texts.directory.resolve("full.jsonl"));
    per.rows += rows.size();
    per.bytes += bytes;
    hole.consume(rows);
  }
}
