package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;

class RunConfigTest {
  @TempDir Path directory;

  private static RunConfig of(String... overrides) {
    List<String> all =
        Stream.concat(Stream.of("model=m", "output=o"), Stream.of(overrides)).toList();
    return Config.of(RunConfig.class, all);
  }

  @Test
  void theDefaultsAreValid() {
    RunConfig run = of();
    assertEquals("ME", run.method().forget());
    assertEquals(Optional.empty(), run.method().forgetBeta());
    assertEquals(Optional.of(0.2), of("method.forget_beta=0.2").method().forgetBeta());
    assertEquals(List.of("all-linear"), run.lora().targets());
    assertEquals(0.999, run.train().adamBeta2());
    assertEquals(DataConfig.Truncation.TRUNCATE, run.data().onTooLong());
    assertEquals(RunConfig.Dtype.FP32, run.dtype());
  }

  @ParameterizedTest
  @CsvSource({
    "threads=4097,threads must be from 0 to 4096",
    "train.shards=2147483647,shards must be from 1 to 4096",
    "lora.rank=2147483647,rank must be from 1 to 65536",
    "memory.budget=0.5B,at least 1 byte",
    "memory.budget=0.0000000001GB,at least 1 byte"
  })
  void whatWouldBeNoneOrTooManyIsRefused(String override, String what) {
    UserException e = assertThrows(UserException.class, () -> of(override));
    assertTrue(e.getMessage().contains(what), e.getMessage());
    assertTrue(e.getMessage().contains(override), e.getMessage());
  }

  @ParameterizedTest
  @CsvSource({
    "8GB,8000000000",
    "7.5 GiB,8053063680",
    "600mb,600000000",
    "1.5TB,1500000000000",
    "2TiB,2199023255552"
  })
  void amountsOfMemoryHaveUnits(String amount, long bytes) {
    assertEquals(bytes, of("memory.budget=" + amount).memory().budgetBytes());
  }

  @ParameterizedTest
  @CsvSource({
    "8000000000,8000000000",
    "8_000_000_000,8000000000",
    "1125899906842624,1125899906842624"
  })
  void aBareNumberIsBytesAsOneInQuotesIs(String number, long bytes) throws IOException {
    assertEquals(bytes, of("memory.budget=" + number).memory().budgetBytes());
    assertEquals(bytes, of("memory.budget='" + number + "'").memory().budgetBytes());
    RunConfig read = file("memory:\n  budget: " + number);
    assertEquals(bytes, read.memory().budgetBytes());
    // Written for a run's directory and read again it is the same.
    assertEquals(read, file("memory:\n  " + Config.toYaml(read.memory()).replace("\n", "\n  ")));
    List<String> export = List.of("model=m", "output=o", "max_shard_size=" + number);
    assertEquals(bytes, Config.of(ExportConfig.class, export).maxShardBytes());
  }

  @ParameterizedTest
  @CsvSource({
    "-8000000000,which is no amount of memory",
    "8e9,which is no amount of memory",
    "0x1000,which is no amount of memory",
    "8GX,which is no amount of memory",
    "1.5,which ends inside a byte",
    "1.5B,which ends inside a byte",
    "0,must be at least 1 byte and at most 2^50",
    "0.5,must be at least 1 byte and at most 2^50",
    "1125899906842625,must be at least 1 byte and at most 2^50",
    "99999999999999999999999,must be at least 1 byte and at most 2^50"
  })
  void whatIsNoAmountOfMemoryIsSaidInOneLine(String amount, String why) {
    String message =
        "memory.budget is '"
            + amount
            + "', "
            + why
            + "; write 8GB, 7.5GiB, 600MB, or a whole number of bytes";
    String written = "memory.budget=" + amount;
    assertEquals("override '" + written + "': " + message, refusal(() -> of(written)));
    String quoted = "memory.budget='" + amount + "'";
    assertEquals("override '" + quoted + "': " + message, refusal(() -> of(quoted)));
    assertEquals("run.yaml:3: " + message, refusal(() -> file("memory:\n  budget: " + amount)));
  }

  @Test
  void anAmountOfMemoryIsNoFlagAndNoList() {
    assertTrue(refusal(() -> of("memory.budget=true")).contains("found true or false (true)"));
    assertTrue(refusal(() -> of("memory.budget=[8GB]")).contains("found a list"));
    assertEquals(0, of("memory.budget=").memory().budgetBytes());
  }

  private String refusal(Executable reading) {
    UserException e = assertThrows(UserException.class, reading);
    return e.getMessage().replace(directory + "/", "");
  }

  private RunConfig file(String yaml) throws IOException {
    Path file = Files.writeString(directory.resolve("run.yaml"), "output: o\n" + yaml);
    return Config.load(RunConfig.class, file, List.of());
  }

  @Test
  void theMethodSectionHasTheKeysOfTheMethods() {
    assertEquals(
        new TreeSet<>(
            List.of(
                "forget",
                "retain",
                "forget_options",
                "retain_options",
                "forget_beta",
                "retain_beta",
                "forget_coefficient",
                "retain_coefficient",
                "forget_positions",
                "retain_positions",
                "me_direction",
                "reference",
                "reference_cache")),
        new TreeSet<>(Schema.keys(MethodSection.class)));
  }

  @Test
  void everyKeyIsExplained() {
    for (String line : Config.toCommentedYaml(of()).lines().toList()) {
      assertTrue(line.matches(" *(#|- |[a-z0-9_]+:).*"), line);
    }
    // An optional section that is not given is one key, with one explanation.
    long keys =
        Schema.paths(RunConfig.class, "").stream().filter(k -> !k.startsWith("scratch.")).count();
    long docs =
        Config.toCommentedYaml(of()).lines().filter(l -> l.strip().startsWith("# ")).count();
    assertEquals(keys, docs);
  }

  @ParameterizedTest
  @CsvSource({
    "train.batch_size=0,train: batch_size must be at least 1",
    "train.learning_rate=0,train: learning_rate must be above 0",
    "train.adam_beta2=1,train: adam_beta2 must be in [0",
    "train.weight_decay=-0.1,train: weight_decay must not be negative",
    "method.forget_beta=0,method: forget_beta must be above 0",
    "lora.targets=[],lora: targets must name at least one",
    "'lora.targets=[all-linear, q_proj]',lora: targets has all-linear beside names",
    "lora.dropout=1.0,'lora: dropout must be in [0, 1)'",
    "lora.layers=[-1],lora: layers must be at least 0",
    "lora.rank_pattern.q_proj=0,lora: rank_pattern q_proj must be from 1",
    "lora.rank_pattern=3,'lora.rank_pattern: expected names with values'",
    "threads=-1,threads must be from 0",
    "device=' ',device must be cpu, cuda",
    "train.epochs=0,train: epochs must be at least 1",
    "evaluate.every=5,'evaluate.every: expected never, N steps or N epochs, found a whole number"
        + " (5)'",
    "checkpoint.every=5,'checkpoint.every: expected never, N steps, N epochs or N minutes, found'",
    "checkpoint.every=false,'checkpoint.every: expected never, N steps, N epochs or N minutes'",
    "data.forget_chunk=2,'data.forget_chunk: expected chunk/chunks, such as 2/4, found a whole'",
    "data.forget_chunk=0.5,'data.forget_chunk: expected chunk/chunks, such as 2/4, found a number'",
    "device=0,'device: expected cpu, cuda or cuda:N, found a whole number (0)'"
  })
  void aValueOutOfRangeIsNamed(String override, String message) {
    UserException e = assertThrows(UserException.class, () -> of(override));
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }

  @Test
  void itIsReadBackFromItsYaml() {
    RunConfig run =
        of(
            "data.forget=[a.jsonl, 'b c.jsonl']",
            "dtype=BF16",
            "train.schedule=cosine",
            "lora.rank_pattern.v_proj=3");
    String yaml = Config.toYaml(run);
    assertTrue(yaml.contains("dtype: bf16\n"), yaml);
    Yaml.Mapping again = (Yaml.Mapping) YamlReader.value(yaml, "again");
    assertEquals(run, new Binder(RunConfig.class).record(RunConfig.class, again, ""));
  }
}
