package org.lethe.config;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/** One run: what {@code finetune}, {@code unlearn} and {@code evaluate} read from one YAML file. */
public record RunConfig(
    @Doc("Version of this file's format") @Default("1") int version,
    @Doc("Model directory to start from, in Hugging Face's layout; unset with scratch")
        Optional<Path> model,
    @Doc("Adapter directory in PEFT's layout, put on the model; unset: none")
        Optional<Path> adapter,
    @Doc(
            "Frozen adapters that the model is to begin with, each {path: DIR, coefficient: C};"
                + " what trains comes on top, and the reference model has them, too")
        @Default("[]")
        List<AdapterSection> adapters,
    @Doc(
            "Other models that the method compares with, each {name: NAME, path: DIR}: what the run"
                + " starts from, and that adapter")
        @Default("[]")
        List<ViewSection> views,
    @Doc("Directory for results; must be empty or absent unless overwrite is true") Path output,
    @Doc("Replace what the output directory holds") @Default("false") boolean overwrite,
    @Doc("Seed of everything random") @Default("0") long seed,
    @Doc("Storage of weights and activations: fp32 or bf16") @Default("fp32") Dtype dtype,
    @Doc(
            "How the linears of the model's layers are kept in memory: none (as dtype says), nf4 or"
                + " nf4_double (4-bit codes, frozen under adapters; docs/quantised.md)")
        @Default("none")
        QuantizeBase quantizeBase,
    @Doc("What to compute on: cpu, cuda (the first CUDA device) or cuda:N")
        @Default("cpu")
        @Written("cpu, cuda or cuda:N")
        String device,
    @Doc("Threads of the backend; 0: one per processor") @Default("0") int threads,
    @Doc("Rows to learn from, forget, keep and judge by") DataConfig data,
    @Doc("What is minimised in unlearning") MethodSection method,
    @Doc("Optimizer and schedule") TrainConfig train,
    @Doc("Memory of the device and what is done to keep to it") MemorySection memory,
    @Doc("Low-rank adapters; unused when train.full_parameters is true") LoraSection lora,
    @Doc("A new model to train from random weights, with a tokenizer of its own, instead of model")
        Optional<ScratchSection> scratch,
    @Doc("How a model is judged") EvaluateSection evaluate,
    @Doc("How lethe calibrate chooses how much of an adapter is kept") CalibrateSection calibrate,
    @Doc("Rounds of sampling, where method.forget is Quark") QuarkSection quark,
    @Doc("Quirks of published code, off unless asked for") ParitySection parity,
    @Doc("What is kept of a run on the way, so that it can go on") CheckpointSection checkpoint,
    @Doc("Whether event files for TensorBoard are written, too") @Default("true")
        boolean tensorboard,
    @Doc("Phases of lethe run, one after the other; each takes what the one before it made")
        @Default("[]")
        @Inherits
        List<PhaseSection> phases) {

  /** The only {@code version} that this Lethe reads. */
  public static final int VERSION = 1;

  /** As many threads as an engine opens with (lethe.h). */
  public static final int MOST_THREADS = 4096;

  /** Storage type of weights and activations; arithmetic is fp32 either way. */
  public enum Dtype {
    FP32,
    BF16
  }

  /** How the linears of a model's layers are kept in memory. */
  public enum QuantizeBase {
    NONE,
    NF4,
    NF4_DOUBLE
  }

  public RunConfig {
    if (version != VERSION) {
      throw new IllegalArgumentException(
          "version is "
              + version
              + ", this Lethe reads version "
              + VERSION
              + "; use the Lethe that wrote the file, or write a new one by lethe init");
    }
    Check.within("threads", 0, MOST_THREADS, threads);
    if (model.isPresent() && scratch.isPresent()) {
      throw new IllegalArgumentException("model and scratch exclude each other; give one of them");
    }
    if (views.stream().map(ViewSection::name).distinct().count() != views.size()) {
      throw new IllegalArgumentException("views must have different names");
    }
    if (!(adapters.isEmpty() && views.isEmpty()) && scratch.isPresent()) {
      throw new IllegalArgumentException(
          "adapters and views lie on a model that is given, scratch makes a new one; give one of"
              + " them");
    }
    if (device.isBlank()) {
      throw new IllegalArgumentException("device must be cpu, cuda or cuda:N");
    }
  }
}
