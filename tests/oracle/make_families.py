"""One tiny random model of every family, with logits, losses, greedy continuations, a bf16 forward and gradients by transformers and PEFT.

Proves: each family's config.json in the spellings of transformers 4 and 5, its names, flags, windows and rotary frequencies, and every flag's
        backward pass. Sequences are longer than the windows and lie on both sides of longrope's limit; query groups are three heads wide.
Run:    python tests/oracle/make_families.py [--out tests/golden]
Writes: families/<name>/config.json, model.safetensors (bf16: the same weights serve the fp32 and the bf16 comparison)
        families/<name>/adapter/            PEFT's (r=2, alpha=4, on every linear of a layer), random A and B
        families/<name>/forward.safetensors
          ids, lengths    int32               three sequences end to end
          logits          fp32 [sum T, V]     computed in float64
          nll             fp32 [sum (T-1)]    position t of a sequence predicts its token t+1
          greedy          int32 [3, 5]        transformers' generate(), in float64
          greedy_margin   fp32 [3, 5]         best minus second logit
          bf16_logits     bf16 [sum T, V]     the model as transformers runs it in bf16
        families/<name>/gradients.safetensors
          lora_nll        fp32 [sum (T-1)]    adapter on
          lora/<tensor>   fp32                of A and B
          full/<tensor>   fp32                without adapter: of a vector all of it; of a matrix G [out, in] the products G·s [out] and s·G [in]
                                              with the signs s_j of `signs()`, as <tensor>/rows and <tensor>/columns, to stay small
Loss:   nll summed over the shifted positions of the three sequences, divided by their number.
References are in float64, with four things lifted that transformers computes in fp32 whatever the dtype: norms, angles, softmax, Gemma's factor on
the embedding. Rotary frequencies are transformers' fp32 ones: they are part of the model.
"""

import json
import types

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import common

LENGTHS = (14, 21, 33)
GREEDY_TOKENS = 5
RANK, ALPHA = 2, 4
WINDOW = 8
FP32_LIMIT = 2e-4

SIZES = dict(vocab_size=131, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, intermediate_size=72)
COMMON = dict(max_position_embeddings=64, bos_token_id=common.BOS, eos_token_id=common.EOS, pad_token_id=None, dtype="bfloat16")
SEPARATE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FULL, SLIDING = "full_attention", "sliding_attention"


def default_rope(theta=10000.0, **more):
    return {"rope_type": "default", "rope_theta": theta, **more}


# original_max_position_embeddings is so small that a head of 16 has frequencies in all three of llama3's bands.
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LONGROPE = dict(
    rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.25], long_factor=[1.2, 2.5, 5.0], original_max_position_embeddings=16
)

# name -> (config class, keys beside SIZES and COMMON, linears, keys that transformers 4 writes otherwise: None removes one; None: spelling 5)
FAMILIES = {
    "llama-3.1": ("LlamaConfig", dict(head_dim=16, rope_parameters=LLAMA3, tie_word_embeddings=True, rms_norm_eps=1e-5), SEPARATE, None),
    "llama-bias": (
        "LlamaConfig",
        dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0), attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5),
        SEPARATE,
        {},
    ),
    "mistral": ("MistralConfig", dict(rope_parameters=default_rope(), sliding_window=WINDOW), SEPARATE, {}),
    "qwen2": (
        "Qwen2Config",
        dict(rope_parameters=default_rope(1e6), use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2, tie_word_embeddings=True),
        SEPARATE,
        dict(layer_types=None),
    ),
    "qwen3": (
        "Qwen3Config",
        dict(
            head_dim=16,
            rope_parameters=default_rope(1e6),
            use_sliding_window=True,
            sliding_window=WINDOW,
            layer_types=[SLIDING, FULL, SLIDING],
            attention_bias=True,
        ),
        SEPARATE,
        None,
    ),
    "phi": (
        "PhiConfig",
        dict(rope_parameters=default_rope(), partial_rotary_factor=0.5),
        ["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"],
        dict(partial_rotary_factor=0.5),
    ),
    "phi3": (
        "Phi3Config",
        dict(rope_parameters=dict(LONGROPE), partial_rotary_factor=0.75, original_max_position_embeddings=16, sliding_window=12),
        ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
        dict(partial_rotary_factor=0.75, rope_scaling={k: LONGROPE[k] for k in ("short_factor", "long_factor")} | {"type": "longrope"}),
    ),
    "gemma": ("GemmaConfig", dict(head_dim=16, rope_parameters=default_rope()), SEPARATE, None),
    "gemma2": (
        "Gemma2Config",
        dict(
            head_dim=16,
            rope_parameters=default_rope(),
            sliding_window=WINDOW,
            query_pre_attn_scalar=24,
            # Both caps are low enough to bend what lies below them.
            attn_logit_softcapping=4.0,
            final_logit_softcapping=6.0,
        ),
        SEPARATE,
        dict(layer_types=None, hidden_act="gelu_pytorch_tanh"),
    ),
    "starcoder2": (
        "Starcoder2Config",
        dict(rope_parameters=default_rope()),
        ["q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"],
        None,
    ),
}


def random_model(name, seed):
    kind, keys, _, _ = FAMILIES[name]
    config = getattr(transformers, kind)(**(SIZES | COMMON | keys))
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).to(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    shifted = "gemma" in name
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if key.endswith(".bias"):
                parameter.copy_(0.3 * noise)
            elif parameter.dim() == 1:
                parameter.copy_((0 if shifted else 1) + 0.2 * noise)
            elif "embed_tokens" in key:
                # Gemma multiplies it by seven; a louder embedding would drown the layers and repeat its input.
                parameter.copy_((0.15 if shifted else 0.4) * noise)
            else:
                gain = 2.0 if "lm_head" in key else 1.2
                parameter.copy_(gain * noise / parameter.shape[1] ** 0.5)
    return model.to(torch.bfloat16).eval()


def spell_as_transformers_4(path, changes):
    """rope_theta and rope_scaling for rope_parameters, torch_dtype for dtype; then `changes`, of which None removes a key."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope.pop("partial_rotary_factor", None)
    config["rope_scaling"] = None if rope == {"rope_type": "default"} else rope
    config.update({k: v for k, v in changes.items() if v is not None})
    for key in (k for k, v in changes.items() if v is None):
        del config[key]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load(directory, dtype):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()


def lift_to_float64(model):
    def llama_norm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    def gemma_norm(self, x):
        return (1 + self.weight) * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    def rotary(self, x, position_ids):
        self.original(x, position_ids)  # chooses longrope's frequencies
        angles = position_ids[..., None].double() * self.inv_freq.double()
        angles = torch.cat((angles, angles), -1)
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling

    def scaled_embedding(self, ids):
        return torch.nn.functional.embedding(ids, self.weight) * self.scalar_embed_scale

    model.to(torch.float64)
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = types.MethodType(gemma_norm if kind.startswith("Gemma") else llama_norm, module)
        elif kind.endswith("RotaryEmbedding"):
            module.original = module.forward
            module.forward = types.MethodType(rotary, module)
        elif kind.endswith("ScaledWordEmbedding"):
            module.forward = types.MethodType(scaled_embedding, module)
    return model


def softmax_in_its_own_dtype():
    """Eager attention asks for an fp32 softmax; a float64 model shall have it in float64."""
    plain = torch.nn.functional.softmax

    def softmax(x, dim=None, dtype=None, **more):
        return plain(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype, **more)

    torch.nn.functional.softmax = softmax


def sequences(seed):
    generator = torch.Generator().manual_seed(seed + 1)
    return [common.random_ids(generator, SIZES["vocab_size"], n) for n in LENGTHS]


def greedy(model, ids, crosses):
    """generate() with its cache, held to generate() without.

    Where a continuation crosses longrope's limit, only the latter counts: transformers 5.18 then drops the cache, as it must, but feeds the last
    token alone (Phi3's prepare_inputs_for_generation does not undo `next_sequence_length`), so the model has forgotten everything before.
    """
    model.generation_config.eos_token_id = None
    plain, margins = generate(model, ids, use_cache=False)
    assert crosses or generate(model, ids, use_cache=True)[0] == plain
    return plain, margins


def generate(model, ids, use_cache):
    output = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        max_new_tokens=GREEDY_TOKENS,
        do_sample=False,
        use_cache=use_cache,
        return_dict_in_generate=True,
        output_logits=True,
    )
    best = [z[0].topk(2).values for z in output.logits]
    return output.sequences[0, len(ids) :].tolist(), [(b[0] - b[1]).item() for b in best]


@torch.no_grad()
def forward(directory, rows):
    exact = lift_to_float64(load(directory, torch.float32))
    logits = [common.logits(exact, ids) for ids in rows]
    plain = load(directory, torch.float32)
    far = max((common.logits(plain, ids) - z).abs().max().item() for ids, z in zip(rows, logits))
    assert far < FP32_LIMIT, f"{directory.name}: fp32 is {far} from float64"
    half = load(directory, torch.bfloat16)
    limit = getattr(exact.config, "original_max_position_embeddings", None)
    chosen = [greedy(exact, ids, limit is not None and len(ids) <= limit < len(ids) + GREEDY_TOKENS) for ids in rows]
    return {
        "ids": torch.tensor(sum(rows, [])),
        "lengths": torch.tensor([len(ids) for ids in rows]),
        "logits": torch.cat(logits),
        "nll": torch.cat([common.shifted_nll(z, ids) for z, ids in zip(logits, rows)]),
        "greedy": torch.tensor([tokens for tokens, _ in chosen]),
        "greedy_margin": torch.tensor([margins for _, margins in chosen]),
    }, torch.cat([common.logits(half, ids) for ids in rows]), far


def losses_of(model, rows):
    return torch.cat([common.shifted_nll(common.logits(model, ids), ids) for ids in rows])


def signs(n):
    """±1 by the top bit of the index times Knuth's multiplier, in 32 bits."""
    return torch.tensor([1.0 if (i * 2654435761 & 0x80000000) else -1.0 for i in range(1, n + 1)], dtype=torch.float64)


def full_gradients(directory, rows):
    model = lift_to_float64(load(directory, torch.float32))
    losses_of(model, rows).mean().backward()
    tensors = {}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and gradient.abs().max() > 0, f"{directory.name}: {name} has no gradient"
        if gradient.dim() == 1:
            tensors[f"full/{name}"] = gradient
        else:
            tensors[f"full/{name}/rows"] = gradient @ signs(gradient.shape[1])
            tensors[f"full/{name}/columns"] = signs(gradient.shape[0]) @ gradient
    return tensors


def adapter(model, linears, seed):
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=linears, task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(seed + 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                scale = parameter.shape[1] ** -0.5 if "lora_A" in name else 0.2
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def save_adapter(model, directory):
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # PEFT keeps a set, whose order changes from run to run, and the place the base was loaded from.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = directory.parent.name
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def lora_gradients(directory, linears, rows, seed):
    model = adapter(load(directory, torch.float32), linears, seed)
    save_adapter(model, directory / "adapter")
    lift_to_float64(model)
    nll = losses_of(model, rows)
    nll.mean().backward()
    tensors = {"lora_nll": nll}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            assert parameter.grad.abs().max() > 0, f"{directory.name}: {name} has no gradient"
            tensors["lora/" + name.removeprefix("base_model.model.").replace(".default", "")] = parameter.grad
    return tensors


def make(out):
    softmax_in_its_own_dtype()
    for number, (name, (_, _, linears, changes)) in enumerate(FAMILIES.items()):
        seed = 1000 + 10 * number
        directory = out / "families" / name
        random_model(name, seed).save_pretrained(directory)
        (directory / "generation_config.json").unlink(missing_ok=True)
        if changes is not None:
            spell_as_transformers_4(directory / "config.json", changes)
        rows = sequences(seed)
        origin = common.provenance(__file__, model=name)
        tensors, half, far = forward(directory, rows)
        common.save_tensors(directory / "forward.safetensors", tensors, origin, bf16_logits=half)
        gradients = lora_gradients(directory, linears, rows, seed) | full_gradients(directory, rows)
        common.save_tensors(directory / "gradients.safetensors", gradients, origin)
        size = sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())
        z = tensors["logits"]
        print(
            f"{name}: {size} bytes, logit spread {z.std():.2f}, fp32 within {far:.1e}, bf16 within {(half - z).abs().max():.3f} of {z.abs().max():.1f}, "
            f"nll {tensors['nll'].mean():.3f} -> {gradients['lora_nll'].mean():.3f}, smallest margin {tensors['greedy_margin'].min():.3f}"
        )


if __name__ == "__main__":
    common.prepare()
    make(common.arguments(__doc__).out)
