package org.lethe.config;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/** What {@code merge} and {@code export} write anew, and where. */
public record ExportConfig(
    @Doc("Model directory to write anew, in Hugging Face's layout") Optional<Path> model,
    @Doc("Adapter directory to merge into the model; unset: none") Optional<Path> adapter,
    @Doc("Run directory, checkpoint or adapter directory whose adapter is written for PEFT")
        Optional<Path> from,
    @Doc("Directory for the result; must be empty or absent unless overwrite is true") Path output,
    @Doc("Replace what the output directory holds") @Default("false") boolean overwrite,
    @Doc("Storage of the tensors: stored (each as it is), fp32, bf16 or fp16") @Default("stored")
        Storage dtype,
    @Doc(
            "Largest file of weights, such as 500MB, 2GiB or a number of bytes; a model that is"
                + " larger gets several")
        @Default("5GB")
        @Amount
        String maxShardSize,
    @Doc(
            "How bitsandbytes stores the linears of a model: none (plain numbers, also where the"
                + " model read is quantised), nf4, nf4_double, fp4, fp4_double (scales quantised,"
                + " too) or int8")
        @Default("none")
        Quantize quantize,
    @Doc(
            "Linears that stay plain besides the output head: a module's full name, or how names"
                + " begin (model.layers.0) or end (down_proj)")
        @Default("[]")
        List<String> quantizeSkip) {
  /** Storage type of what is written. */
  public enum Storage {
    STORED,
    FP32,
    BF16,
    FP16
  }

  /** Layout of a model's linears. */
  public enum Quantize {
    NONE,
    NF4,
    NF4_DOUBLE,
    FP4,
    FP4_DOUBLE,
    INT8
  }

  public ExportConfig {
    quantizeSkip = List.copyOf(quantizeSkip);
    if (model.isPresent() == from.isPresent()) {
      throw new IllegalArgumentException(
          "give either model (a model directory) or from (a run, checkpoint or adapter), one of"
              + " them");
    }
    if (adapter.isPresent() && model.isEmpty()) {
      throw new IllegalArgumentException("adapter needs the model that it is to be merged into");
    }
    if (quantize != Quantize.NONE && model.isEmpty()) {
      throw new IllegalArgumentException(
          "quantize is for a model; adapters are not quantised, leave it out");
    }
    if (quantize == Quantize.NONE && !quantizeSkip.isEmpty()) {
      throw new IllegalArgumentException("quantize_skip needs quantize; set it or leave both out");
    }
    Bytes.parse("max_shard_size", maxShardSize);
  }

  /** {@link #maxShardSize} in bytes, at least 1. */
  public long maxShardBytes() {
    return Bytes.parse("max_shard_size", maxShardSize);
  }
}
