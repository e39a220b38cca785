package org.lethe.checkpoint;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.channels.WritableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.lethe.UserException;
import org.lethe.model.ParameterNames;

/**
 * Writes a model directory anew: in another storage type, in shards, with an adapter merged into
 * its weights. Tensor by tensor and in pieces, so that no more than the adapter and a few megabytes
 * are ever in memory.
 *
 * <p>A merged weight is W + scale · BA, added up in fp64 and rounded once to the type it is written
 * in. What is neither merged nor converted keeps its bytes.
 */
public final class ModelExport {
  private static final List<String> COPIED =
      List.of(
          HuggingFaceConfig.GENERATION_FILE,
          "added_tokens.json",
          "merges.txt",
          "tokenizer.model",
          "vocab.json");

  /**
   * What to write.
   *
   * @param model the model directory that is read
   * @param adapter merged when given
   * @param dtype F32, BF16 or F16 for every floating tensor; empty: each keeps its own
   * @param maxShardBytes the weights of one file take no more, except a tensor that does alone
   * @param quantize layout of the linears, the head excepted; empty: none is quantised, also where
   *     the model that is read is
   * @param quantizeSkip linears that stay plain besides the head: a module's full name, or the
   *     names it begins or ends with
   */
  public record Request(
      Path model,
      Optional<Path> adapter,
      Path output,
      boolean overwrite,
      Optional<StoredDtype> dtype,
      long maxShardBytes,
      Optional<Quantization> quantize,
      List<String> quantizeSkip) {
    /** Without quantisation. */
    public Request(
        Path model,
        Optional<Path> adapter,
        Path output,
        boolean overwrite,
        Optional<StoredDtype> dtype,
        long maxShardBytes) {
      this(model, adapter, output, overwrite, dtype, maxShardBytes, Optional.empty(), List.of());
    }
  }

  /**
   * What was written.
   *
   * @param tensors of the model, however many stand for one in the files
   * @param parameters numbers in all tensors
   * @param bytes of the weights' files
   * @param files that hold weights
   * @param survival of the adapter's delta, before quantisation; empty without one
   */
  public record Result(
      int tensors, long parameters, long bytes, int files, Optional<Survival> survival) {}

  private final Request request;
  private final ModelConfigFile config;
  private final ModelWeights source;
  private final Map<String, LoraFactors> adapters;
  private final Set<String> quantized;
  private final SurvivalSums sums = new SurvivalSums();

  private ModelExport(
      Request request,
      ModelConfigFile config,
      ModelWeights source,
      Map<String, LoraFactors> adapters) {
    this.request = request;
    this.config = config;
    this.source = source;
    this.adapters = adapters;
    this.quantized = quantized();
  }

  /**
   * Writes the model, whole or not at all.
   *
   * @throws UserException when an input is wrong or the target may not be written
   * @throws org.lethe.EnvironmentException when the disk has no room or fails
   */
  public static Result write(Request request) {
    ModelConfigFile config = ModelDirectory.config(request.model());
    List<String> problems = ModelCheck.problems(request.model(), config);
    if (!problems.isEmpty()) {
      throw new UserException(String.join("; ", problems));
    }
    Map<String, LoraFactors> adapters = Map.of();
    if (request.adapter().isPresent()) {
      Path directory = request.adapter().get();
      Map<String, LinearShape> linears = ModelDirectory.linears(config.model());
      try (PeftAdapter adapter = PeftAdapter.open(directory, linears)) {
        adapters = LoraFactors.read(directory, adapter, linears);
      }
    }
    try (ModelWeights source = ModelWeights.open(request.model())) {
      request.adapter().ifPresent(adapter -> BaseMark.require(adapter, BaseMark.of(source)));
      return new ModelExport(request, config, source, adapters).write();
    }
  }

  /**
   * A tensor of the model and what stands for it in the files.
   *
   * @param quantized whether that is more than the tensor itself
   */
  private record Output(TensorSpec plain, List<TensorSpec> stored, boolean quantized) {
    long bytes() {
      return stored.stream().mapToLong(TensorSpec::bytes).sum();
    }
  }

  private Result write() {
    List<List<Output>> shards = shards();
    List<List<TensorSpec>> stored = new ArrayList<>();
    long bytes = 0;
    long parameters = 0;
    for (List<Output> shard : shards) {
      stored.add(shard.stream().flatMap(output -> output.stored().stream()).toList());
      bytes += SafetensorsWriter.fileBytes(stored.get(stored.size() - 1));
      for (Output output : shard) {
        parameters += source.info(output.plain().name()).elements();
      }
    }
    OutputDirectory.write(
        request.output(),
        request.overwrite(),
        bytes,
        out -> {
          out.writeString(HuggingFaceConfig.FILE, configJson());
          copyOthers(out);
          for (int i = 0; i < shards.size(); i++) {
            writeShard(out, fileName(i, shards.size()), shards.get(i), stored.get(i));
          }
          if (shards.size() > 1) {
            out.writeString(ShardedSafetensors.INDEX, index(stored));
          }
        });
    return new Result(
        source.names().size(),
        parameters,
        bytes,
        shards.size(),
        adapters.isEmpty() ? Optional.empty() : Optional.of(sums.result()));
  }

  /** The tensors in the order they are stored, cut where a file would become too large. */
  private List<List<Output>> shards() {
    List<List<Output>> shards = new ArrayList<>();
    long filled = 0;
    for (String name : source.names()) {
      Output output = output(name);
      if (shards.isEmpty() || (filled > 0 && filled + output.bytes() > request.maxShardBytes())) {
        shards.add(new ArrayList<>());
        filled = 0;
      }
      shards.get(shards.size() - 1).add(output);
      filled += output.bytes();
    }
    return shards;
  }

  private Output output(String name) {
    TensorInfo info = source.info(name);
    TensorSpec plain = new TensorSpec(name, target(info), info.shape());
    return quantized.contains(module(name))
        ? new Output(plain, quantizer().specs(plain, values(plain, false)), true)
        : new Output(plain, List.of(plain), false);
  }

  /** The modules whose weights are quantised. */
  private Set<String> quantized() {
    Set<String> linears = ModelDirectory.linears(config.model()).keySet();
    if (request.quantize().isEmpty()) {
      return Set.of();
    }
    Set<String> kept = new LinkedHashSet<>(linears);
    for (String skip : request.quantizeSkip()) {
      boolean any = kept.removeIf(module -> isSkipped(module, skip));
      if (!any && linears.stream().noneMatch(module -> isSkipped(module, skip))) {
        throw new UserException(
            request.model()
                + ": quantize_skip names '"
                + skip
                + "', which is no linear of the model; its first is "
                + linears.iterator().next());
      }
    }
    return kept;
  }

  private static boolean isSkipped(String module, String skip) {
    return module.equals(skip) || module.startsWith(skip + ".") || module.endsWith("." + skip);
  }

  private QuantizedWriter quantizer() {
    return new QuantizedWriter(request.output(), request.quantize().orElseThrow());
  }

  private StoredDtype target(TensorInfo info) {
    return info.dtype().convertsToFloat() ? request.dtype().orElse(info.dtype()) : info.dtype();
  }

  private static String fileName(int shard, int shards) {
    return shards == 1
        ? ModelDirectory.WEIGHTS_FILE
        : String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", shard + 1, shards);
  }

  private static String index(List<List<TensorSpec>> shards) {
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    long total = 0;
    ObjectNode map = JsonNodeFactory.instance.objectNode();
    for (int i = 0; i < shards.size(); i++) {
      for (TensorSpec tensor : shards.get(i)) {
        total += tensor.bytes();
        map.put(tensor.name(), fileName(i, shards.size()));
      }
    }
    root.putObject("metadata").put("total_size", total);
    root.set("weight_map", map);
    return JsonFiles.write(root);
  }

  /** The model's own config, with the type changed where that is asked for. */
  private String configJson() {
    String json =
        request
            .dtype()
            .map(dtype -> HuggingFaceConfig.configJson(config, dtype))
            .orElse(config.json());
    if (request.quantize().isEmpty()) {
      return json;
    }
    StoredDtype dtype = request.dtype().or(config::dtype).orElse(StoredDtype.F32);
    // Full names, which every version of transformers takes for these modules and no others.
    List<String> skipped = new ArrayList<>(List.of(module(ParameterNames.HEAD)));
    skipped.addAll(ModelDirectory.linears(config.model()).keySet());
    skipped.removeAll(quantized);
    ObjectNode node = JsonFiles.parseObject(json);
    QuantizationConfig.put(
        node, request.quantize().get(), HuggingFaceConfig.dtypeName(dtype), skipped);
    return JsonFiles.write(node);
  }

  private void copyOthers(OutputDirectory.Sink out) throws IOException {
    List<String> names = new ArrayList<>(ModelDirectory.TOKENIZER_FILES);
    names.addAll(COPIED);
    for (String name : names) {
      if (Files.exists(request.model().resolve(name))) {
        out.copy(request.model().resolve(name), name);
      }
    }
    if (!Files.exists(request.model().resolve(HuggingFaceConfig.GENERATION_FILE))) {
      out.writeString(
          HuggingFaceConfig.GENERATION_FILE, HuggingFaceConfig.generationConfigJson(config));
    }
  }

  private void writeShard(
      OutputDirectory.Sink out, String file, List<Output> outputs, List<TensorSpec> stored)
      throws IOException {
    try (WritableByteChannel channel = out.open(file)) {
      SafetensorsWriter writer = new SafetensorsWriter(channel, stored);
      for (Output output : outputs) {
        TensorSpec plain = output.plain();
        if (output.quantized()) {
          quantizer().write(writer, plain, values(plain, true));
        } else if (!adapters.containsKey(module(plain.name()))
            && plain.dtype() == source.info(plain.name()).dtype()) {
          copy(writer, plain);
        } else {
          FloatStream.write(writer, plain, values(plain, true));
        }
      }
      writer.finish();
    }
  }

  /**
   * A tensor's values, with its adapter merged where it has one.
   *
   * @param counted whether the merge counts in the result: once, however often values are read
   */
  private FloatStream.Supplier values(TensorSpec spec, boolean counted) {
    LoraFactors adapter = adapters.get(module(spec.name()));
    return adapter == null
        ? (name, first, into) -> converted(spec, first, into)
        : (name, first, into) -> merged(spec, adapter, first, into, counted);
  }

  private static String module(String tensor) {
    String suffix = ".weight";
    return tensor.endsWith(suffix)
        ? tensor.substring(0, tensor.length() - suffix.length())
        : tensor;
  }

  private void copy(SafetensorsWriter writer, TensorSpec spec) throws IOException {
    ByteBuffer piece = ByteBuffer.allocateDirect((int) Math.min(1 << 20, spec.bytes()));
    for (long at = 0; at < spec.bytes(); ) {
      at += source.readInto(spec.name(), at, piece.clear());
      writer.write(spec.name(), piece.flip());
    }
  }

  private void converted(TensorSpec spec, long first, FloatBuffer into) {
    FloatStream.read(source, spec.name(), first, into.duplicate());
    Halves.requireRange(request.output(), spec.name(), spec.dtype(), into.duplicate());
  }

  private void merged(
      TensorSpec spec, LoraFactors adapter, long first, FloatBuffer into, boolean counted) {
    int count = into.remaining();
    double[] delta = new double[count];
    FloatStream.read(source, spec.name(), first, into.duplicate());
    adapter.product(first, delta, count);
    for (int i = 0; i < count; i++) {
      float weight = into.get(i);
      float sum =
          spec.dtype() == StoredDtype.F32
              ? (float) (weight + delta[i])
              : FloatStream.toOdd(weight + delta[i]);
      into.put(i, sum);
      if (counted) {
        sums.add(
            FloatStream.round(spec.dtype(), weight),
            FloatStream.round(spec.dtype(), sum),
            delta[i]);
      }
    }
    Halves.requireRange(request.output(), spec.name(), spec.dtype(), into.duplicate());
  }
}
