package org.lethe.torch;

import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.PointerScope;
import org.bytedeco.pytorch.DoubleOptional;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.TensorOptional;
import org.bytedeco.pytorch.TensorVector;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.lethe.UserException;
import org.lethe.model.Layout;
import org.lethe.model.Lora;
import org.lethe.model.LoraConfig;
import org.lethe.model.Model;
import org.lethe.model.ModelConfig;
import org.lethe.model.Parameter;
import org.lethe.model.ParameterNames;
import org.lethe.model.WeightSource;

/**
 * The Llama of {@link org.lethe.model.Decoder} written in libtorch's own operators: an oracle for
 * tests and a yardstick for benchmarks, not a way to train.
 *
 * <p>It takes the same weights, adapters and rotary angles, and shares no code with Lethe beyond
 * names and shapes; gradients come from libtorch's autograd. As a yardstick it is what a careful
 * user of libtorch would write: {@code scaled_dot_product_attention}, {@code rms_norm}, and LoRA as
 * two small products beside the frozen one (Hu et al. 2021). It does without what Lethe has
 * besides: packing, a fused head, one product for q, k and v.
 *
 * <p>Sequences stand in a padded batch [B, T]. Attention is causal and padding follows the tokens,
 * so no token sees any; what is computed at padding means nothing. Any one thread at a time.
 */
public final class TorchLlama implements AutoCloseable {
  private final ModelConfig c;
  private final ScalarType type;
  private final Map<String, Tensor> weights = new LinkedHashMap<>();
  private final Map<String, Tensor> adapters = new LinkedHashMap<>();
  private Tensor cos;
  private Tensor sin;
  private final Map<String, Scalar> scales = new LinkedHashMap<>();

  private TorchLlama(ModelConfig config, ScalarType type) {
    this.c = config;
    this.type = type;
  }

  /**
   * A frozen model.
   *
   * @param type of weights and activations: Float, BFloat16, or Double for an oracle beyond fp32
   */
  @SuppressWarnings("try") // The scope works by being open.
  public static TorchLlama load(ModelConfig config, WeightSource source, ScalarType type) {
    ModelConfig plain =
        ModelConfig.llama(
            config.sizes(), config.norms().eps(), config.rotary().theta(), config.tiedHead());
    if (!config.equals(plain)) {
      throw new UserException(
          "a " + config.family() + " with more than a plain Llama computes; give a plain Llama");
    }
    TorchLlama llama = new TorchLlama(config, type);
    try (PointerScope scope = new PointerScope()) {
      for (Parameter p : Model.layout(config).parameters().values()) {
        llama.weights.put(p.name(), Ownership.keep(TorchWeights.read(source, p).to(type)));
      }
      llama.writeRotaryTables();
    }
    return llama;
  }

  /** The same weights, and adapters, as a model of Lethe's; they are copied. */
  @SuppressWarnings("try") // The scope works by being open.
  public static TorchLlama copyOf(Model model, ScalarType type) {
    TorchLlama llama = new TorchLlama(model.config(), type);
    try (PointerScope scope = new PointerScope()) {
      for (Parameter p : model.layout().parameters().values()) {
        llama.weights.put(p.name(), Ownership.keep(TorchWeights.read(model, p).to(type)));
      }
      llama.writeRotaryTables();
    }
    if (model.lora() != null) {
      llama.addLora(model.lora().config(), model.lora().values());
    }
    return llama;
  }

  /**
   * Adds adapters that train; the base stays frozen.
   *
   * @param values in the order of {@link Lora#layout}
   */
  @SuppressWarnings("try") // The scope works by being open.
  public void addLora(LoraConfig config, float[] values) {
    if (!adapters.isEmpty()) {
      throw new UserException("this model has adapters already; load a second one");
    }
    if (config.dropout() > 0) {
      throw new UserException(
          "these adapters train with a dropout of "
              + config.dropout()
              + ", which this model has not; give adapters without");
    }
    Layout layout = Lora.layout(c, config);
    if (values.length != layout.elements()) {
      throw new UserException(
          values.length + " adapter values, the layout has " + layout.elements() + "; give those");
    }
    try (PointerScope scope = new PointerScope()) {
      config
          .resolve(Lora.modules(c))
          .forEach(
              (module, adapter) -> scales.put(module, Ownership.keep(new Scalar(adapter.scale()))));
      for (Parameter p : layout.parameters().values()) {
        int first = Math.toIntExact(p.offset());
        float[] own = Arrays.copyOfRange(values, first, first + Math.toIntExact(p.elements()));
        Tensor tensor = TorchWeights.of(own, p.shape()).to(type);
        adapters.put(p.name(), Ownership.keep(tensor.set_requires_grad(true)));
      }
    }
  }

  public ModelConfig config() {
    return c;
  }

  /**
   * A and B by PEFT's names, in the order of {@link Lora#layout}; the model's, not to be closed.
   */
  public Map<String, Tensor> adapters() {
    return Collections.unmodifiableMap(adapters);
  }

  /** A and B in the order of {@link Lora#layout}, as optimizers take them. */
  TensorVector parameters() {
    return new TensorVector(adapters.values().toArray(new Tensor[0]));
  }

  /** The head's weight, [V, d]; the model's, not to be closed. */
  public Tensor headWeight() {
    return weights.get(c.tiedHead() ? ParameterNames.EMBEDDING : ParameterNames.HEAD);
  }

  /**
   * The states after the final norm.
   *
   * @param ids int64 [B, T], T at most the context
   * @param adapted false leaves the adapters out: the reference model
   * @return [B, T, d], part of an autograd graph when adapters take part
   */
  @SuppressWarnings("try") // The scope works by being open.
  public Tensor hidden(Tensor ids, boolean adapted) {
    long tokens = ids.size(1);
    if (tokens > c.contextLength()) {
      throw new UserException(
          "a batch of "
              + tokens
              + " tokens a sequence exceeds the context of "
              + c.contextLength());
    }
    Tensor result;
    try (PointerScope scope = new PointerScope()) {
      Tensor x = torch.embedding(weights.get(ParameterNames.EMBEDDING), ids);
      for (int layer = 0; layer < c.layers(); layer++) {
        x =
            x.add(
                attention(
                    layer,
                    norm(x, ParameterNames.weight(layer, c.modules().inputNorm())),
                    adapted));
        x =
            x.add(
                feedForward(
                    layer,
                    norm(x, ParameterNames.weight(layer, c.modules().feedForwardNorm())),
                    adapted));
      }
      result = Ownership.keep(norm(x, c.modules().finalNorm() + ".weight"));
    }
    return Ownership.handOver(result);
  }

  /**
   * −log p of every token but the first, in nats.
   *
   * @return for each sequence, [tokens − 1]
   */
  @SuppressWarnings("try") // The scope works by being open.
  public double[][] nll(List<int[]> sequences, boolean adapted) {
    double[][] nll = new double[sequences.size()][];
    try (PointerScope scope = new PointerScope()) {
      for (int s = 0; s < nll.length; s++) {
        int[] ids = sequences.get(s);
        Tensor logits = logits(hidden(TorchWeights.ids(List.of(ids)), adapted)).get(0);
        Tensor logP = torch.log_softmax(logits.to(ScalarType.Double), -1);
        nll[s] = new double[ids.length - 1];
        for (int t = 0; t < nll[s].length; t++) {
          nll[s][t] = -logP.get(t).get(ids[t + 1]).item_double();
        }
      }
    }
    return nll;
  }

  /** [..., V] of states [..., d]. */
  public Tensor logits(Tensor hidden) {
    return torch.linear(hidden, headWeight());
  }

  private Tensor attention(int layer, Tensor x, boolean adapted) {
    Tensor q = rotate(heads(linear(layer, "self_attn.q_proj", x, adapted), c.heads()));
    Tensor k = rotate(heads(linear(layer, "self_attn.k_proj", x, adapted), c.kvHeads()));
    Tensor v = heads(linear(layer, "self_attn.v_proj", x, adapted), c.kvHeads());
    Tensor a =
        torch.scaled_dot_product_attention(
            q, k, v, new TensorOptional(), 0.0, true, new DoubleOptional(), true);
    Tensor joined = a.transpose(1, 2).reshape(x.size(0), x.size(1), c.queryWidth());
    return linear(layer, "self_attn.o_proj", joined, adapted);
  }

  private Tensor feedForward(int layer, Tensor x, boolean adapted) {
    Tensor gate = torch.silu(linear(layer, "mlp.gate_proj", x, adapted));
    return linear(
        layer, "mlp.down_proj", gate.mul(linear(layer, "mlp.up_proj", x, adapted)), adapted);
  }

  /** x·Wᵀ, and scale·(x·Aᵀ)·Bᵀ where there is an adapter. */
  private Tensor linear(int layer, String part, Tensor x, boolean adapted) {
    Tensor y = torch.linear(x, weights.get(ParameterNames.weight(layer, part)));
    String module = "base_model.model." + ParameterNames.module(layer, part);
    Tensor a = adapters.get(module + ".lora_A.weight");
    if (a == null || !adapted) {
      return y;
    }
    Tensor b = adapters.get(module + ".lora_B.weight");
    Scalar scale = scales.get(ParameterNames.module(layer, part));
    return y.add(torch.linear(torch.linear(x, a), b), scale);
  }

  private Tensor norm(Tensor x, String weight) {
    return torch.rms_norm(
        x,
        new long[] {c.hiddenSize()},
        new TensorOptional(weights.get(weight)),
        new DoubleOptional(c.norms().eps()));
  }

  /** [B, T, heads · headDim] as [B, heads, T, headDim]. */
  private Tensor heads(Tensor x, int heads) {
    return x.view(x.size(0), x.size(1), heads, c.headDim()).transpose(1, 2);
  }

  /** Su et al. 2021 in Hugging Face's half-split layout. */
  private Tensor rotate(Tensor x) {
    long tokens = x.size(2);
    long half = c.headDim() / 2;
    Tensor low = x.narrow(3, 0, half);
    Tensor high = x.narrow(3, half, half);
    Tensor turned = torch.cat(new TensorVector(high.neg(), low), 3);
    return x.mul(cos.narrow(0, 0, tokens)).add(turned.mul(sin.narrow(0, 0, tokens)));
  }

  /** Frequencies and angles rounded to fp32 where Hugging Face rounds them; [context, headDim]. */
  private void writeRotaryTables() {
    int half = c.headDim() / 2;
    float[] cosines = new float[c.contextLength() * c.headDim()];
    float[] sines = new float[cosines.length];
    for (int i = 0; i < cosines.length; i++) {
      int position = i / c.headDim();
      float exponent = (float) (2 * (i % half)) / c.headDim();
      float frequency = 1f / (float) StrictMath.pow(c.rotary().theta(), exponent);
      float angle = position * frequency;
      cosines[i] = (float) StrictMath.cos(angle);
      sines[i] = (float) StrictMath.sin(angle);
    }
    cos = Ownership.keep(TorchWeights.of(cosines, c.contextLength(), c.headDim()).to(type));
    sin = Ownership.keep(TorchWeights.of(sines, c.contextLength(), c.headDim()).to(type));
  }

  @Override
  public void close() {
    weights.values().forEach(Tensor::close);
    adapters.values().forEach(Tensor::close);
    weights.clear();
    adapters.clear();
    cos.close();
    sin.close();
    for (Scalar scale : scales.values()) {
      scale.close();
    }
  }
}
