package org.lethe.checkpoint;

import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.channels.WritableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Function;
import org.lethe.UserException;
import org.lethe.model.LoraConfig;

/**
 * A LoRA adapter as PEFT keeps it: {@code adapter_config.json} and {@code
 * adapter_model.safetensors}. A module's pair is A [r, in] and B [out, r]; {@link #tensorA} and
 * {@link #tensorB} give their names.
 *
 * <p>Reading is strict: what Lethe would compute differently from PEFT is an error naming the key.
 */
public final class PeftAdapter implements AutoCloseable {
  /** Name of the configuration in an adapter's directory. */
  public static final String CONFIG_FILE = "adapter_config.json";

  /** Name of the weights in an adapter's directory. */
  public static final String WEIGHTS_FILE = "adapter_model.safetensors";

  /** What older versions of PEFT wrote: a Python pickle, which may run code when it is read. */
  private static final String PICKLE_FILE = "adapter_model.bin";

  private final PeftConfig config;
  private final Map<String, LoraConfig.Adapter> adapters;
  private final SafetensorsFile weights;

  private PeftAdapter(
      PeftConfig config, Map<String, LoraConfig.Adapter> adapters, SafetensorsFile weights) {
    this.config = config;
    this.adapters = adapters;
    this.weights = weights;
  }

  /** Name of A [r, in] of a module such as {@code model.layers.0.self_attn.q_proj}. */
  public static String tensorA(String module) {
    return "base_model.model." + module + ".lora_A.weight";
  }

  /** Name of B [out, r] of a module such as {@code model.layers.0.self_attn.q_proj}. */
  public static String tensorB(String module) {
    return "base_model.model." + module + ".lora_B.weight";
  }

  /**
   * Opens an adapter and holds it to the base model.
   *
   * @param linears all of the base model's linear modules by name, such as {@code
   *     model.layers.0.self_attn.q_proj}
   * @throws UserException naming the key of an unsupported feature, or the tensors that are
   *     missing, unexpected or of another shape
   */
  public static PeftAdapter open(Path directory, Map<String, LinearShape> linears) {
    Path file = AdapterFiles.configFile(directory);
    PeftConfig config = PeftConfigFile.read(file);
    Map<String, LoraConfig.Adapter> adapters;
    try {
      adapters = config.lora().resolve(linears.keySet());
    } catch (UserException e) {
      throw new UserException(file + ": key 'target_modules': " + e.getMessage(), e);
    }
    return open(directory, config, adapters, linears);
  }

  /**
   * Opens an adapter without its base model: its configuration and its tensors are held to each
   * other.
   *
   * @throws UserException as {@link #open(Path, Map)} does
   */
  public static PeftAdapter open(Path directory) {
    PeftConfig config = PeftConfigFile.read(AdapterFiles.configFile(directory));
    requireSafetensors(directory);
    Map<String, LinearShape> linears = AdapterFiles.linears(directory);
    return open(directory, config, config.lora().among(linears.keySet()), linears);
  }

  private static PeftAdapter open(
      Path directory,
      PeftConfig config,
      Map<String, LoraConfig.Adapter> found,
      Map<String, LinearShape> linears) {
    requireSafetensors(directory);
    Path path = directory.resolve(WEIGHTS_FILE);
    Map<String, LoraConfig.Adapter> adapters = new TreeMap<>(found);
    SafetensorsFile weights = SafetensorsFile.open(path);
    try {
      AdapterTensors.check(path, config, adapters, linears, weights);
    } catch (RuntimeException e) {
      weights.close();
      throw e;
    }
    return new PeftAdapter(config, adapters, weights);
  }

  private static void requireSafetensors(Path directory) {
    Path pickle = directory.resolve(PICKLE_FILE);
    if (Files.exists(pickle) && !Files.exists(directory.resolve(WEIGHTS_FILE))) {
      throw new UserException(
          pickle
              + ": is a Python pickle, which Lethe does not read; load the adapter with PEFT and"
              + " save it by save_pretrained(dir, safe_serialization=True)");
    }
  }

  /** What the adapter's configuration says. */
  public PeftConfig config() {
    return config;
  }

  /** Rank and scale of each adapted module, in the order of their names. */
  public Map<String, LoraConfig.Adapter> adapters() {
    return adapters;
  }

  /** The type that a tensor is stored in: F32, BF16 or F16. */
  public StoredDtype dtype(String tensor) {
    return weights.info(tensor).dtype();
  }

  /**
   * Gives every value of every A and B, tensor by tensor.
   *
   * @throws UserException if one is not finite, or the file cannot be read
   */
  public void read(FloatStream.Consumer consumer) {
    for (String name : weights.names()) {
      FloatStream.read(
          weights,
          name,
          (tensor, first, piece) -> {
            requireFinite(tensor, piece.duplicate());
            consumer.put(tensor, first, piece);
          });
    }
  }

  private void requireFinite(String tensor, FloatBuffer piece) {
    while (piece.hasRemaining()) {
      float value = piece.get();
      if (!Float.isFinite(value)) {
        throw new UserException(
            weights.file(tensor)
                + ": tensor '"
                + tensor
                + "' holds "
                + value
                + "; the training that made it diverged, take an earlier adapter");
      }
    }
  }

  @Override
  public void close() {
    weights.close();
  }

  /**
   * Writes an adapter that PEFT loads unchanged.
   *
   * @param linears linear modules of the base model by name; those that the configuration targets
   *     are written
   * @param dtype F32, BF16 or F16, of each tensor
   * @param supplier gives the values of {@link #tensorA} and {@link #tensorB}, in order
   * @throws UserException if the configuration is impossible or targets no module
   * @throws IOException if writing fails
   */
  public static void write(
      OutputDirectory.Sink out,
      PeftConfig config,
      Map<String, LinearShape> linears,
      Function<String, StoredDtype> dtype,
      FloatStream.Supplier supplier)
      throws IOException {
    List<TensorSpec> specs = specs(config, linears, dtype);
    out.writeString(CONFIG_FILE, configJson(config, linears));
    try (WritableByteChannel channel = out.open(WEIGHTS_FILE)) {
      SafetensorsWriter writer = new SafetensorsWriter(channel, specs);
      for (TensorSpec spec : specs) {
        FloatStream.write(writer, spec, supplier);
      }
      writer.finish();
    }
  }

  /** Bytes that {@link #write} puts on disk, to declare before writing. */
  public static long fileBytes(
      PeftConfig config, Map<String, LinearShape> linears, Function<String, StoredDtype> dtype) {
    return configJson(config, linears).getBytes(StandardCharsets.UTF_8).length
        + SafetensorsWriter.fileBytes(specs(config, linears, dtype));
  }

  private static List<TensorSpec> specs(
      PeftConfig config, Map<String, LinearShape> linears, Function<String, StoredDtype> dtype) {
    List<TensorSpec> specs = new ArrayList<>();
    new TreeMap<>(config.lora().among(linears.keySet()))
        .forEach(
            (module, adapter) -> {
              LinearShape shape = linears.get(module);
              String a = tensorA(module);
              String b = tensorB(module);
              specs.add(TensorSpec.of(a, dtype.apply(a), adapter.rank(), shape.in()));
              specs.add(TensorSpec.of(b, dtype.apply(b), shape.out(), adapter.rank()));
            });
    if (specs.isEmpty()) {
      throw new UserException(
          "the adapter to write targets no module of " + new TreeSet<>(linears.keySet()));
    }
    return specs;
  }

  private static String configJson(PeftConfig config, Map<String, LinearShape> linears) {
    return JsonFiles.write(PeftConfigFile.json(config.named(linears.keySet())));
  }
}
