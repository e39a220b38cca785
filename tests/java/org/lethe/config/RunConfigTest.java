package org.lethe.config;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Optional;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.lethe.UserException;

class RunConfigTest {
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
    "train.epochs=0,train: epochs must be at least 1"
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
